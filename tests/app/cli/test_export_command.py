"""`voxelight export` and `voxelight relevance`: the suffix of the file says what it becomes."""

import zipfile

import pandas as pd
import pypdf
import pytest

CONSENT = ("--consent", "simulated", "--purpose", "a test")


@pytest.fixture
def job(ask, recording, tmp_path):
    words = ("--recipe", "miyawaki-ridge", "--permutations", "0", "--out", tmp_path / "out")
    return ask("reconstruct", recording, *words, *CONSENT)["job"]


def test_results_become_an_archive_a_report_or_a_table(ask, shell, job, tmp_path):
    answer = ask(
        "export", "--job", job["id"], "--format", "bids", "--format", "tables", "--out", tmp_path / "x" / "all.zip"
    )
    assert answer["files"] == [str(tmp_path / "x" / "all.zip")]
    with zipfile.ZipFile(tmp_path / "x" / "all.zip") as archive:
        assert {"bids/dataset_description.json", "tables/metrics.csv", "CITATIONS.txt"} <= set(archive.namelist())
        assert not [name for name in archive.namelist() if name.startswith("report")]
    shell("export", "--job", job["id"], "--out", tmp_path / "report.pdf")
    assert "Miyawaki" in pypdf.PdfReader(tmp_path / "report.pdf").pages[-1].extract_text()
    [first, *_] = ask("results", "list", "--job", job["id"])["items"]
    ask("export", first["id"], "--out", tmp_path / "one.csv")
    assert set(pd.read_csv(tmp_path / "one.csv")["result"].dropna()) == {first["id"]}
    shell("export", "--job", job["id"], "--out", tmp_path / "report.docx", code=2)
    shell("export", first["id"], "--job", job["id"], "--out", tmp_path / "x.zip", code=2)
    shell("export", "--subject", "nobody", "--out", tmp_path / "none.zip", code=3)
    assert not (tmp_path / "none.zip").exists()


def test_betas_without_a_grid_have_no_map(shell, job, tmp_path):
    refused = shell("relevance", job["id"], "--out", tmp_path / "map", code=2)
    assert "without a grid" in refused.stderr


def test_nothing_is_left_where_an_export_fails(shell, job, tmp_path, monkeypatch):
    from voxelight.app.verbs.exports import Exports

    def fail(*_):
        yield b"begun"
        raise OSError("the disk is full")

    monkeypatch.setattr(Exports, "stream", fail)
    with pytest.raises(OSError, match="full"):
        shell("export", "--job", job["id"], "--out", tmp_path / "half.zip")
    assert list(tmp_path.glob("*half*")) == []
