"""Folders of fMRI betas from the shell."""

import json

import numpy as np
import pytest


@pytest.fixture
def nsd(shell, tmp_path):
    said = shell("datasets", "example", "nsd", tmp_path / "nsd").output
    assert "SIMULATED" in said
    return tmp_path / "nsd"


def test_an_example_is_indexed_registered_and_decoded(shell, ask, nsd, tmp_path):
    assert "Natural Scenes Dataset as published (nsd, SIMULATED)" in " ".join(
        shell("datasets", "index", nsd).output.split()
    )
    words = ("--purpose", "Tests", "--licence", "mine", "--consent-note", "nobody was asked")
    answer = ask("datasets", "add", "mine", nsd, "--sessions", "1-2", *words)
    assert [scan["facts"]["trials"] for scan in answer["scans"]] == [48, 48]
    shown = ask("datasets", "show", "mine")
    assert (shown["simulated"], shown["consent"], shown["licence"]) == (True, "simulated", "mine")
    assert shown["consent_note"] == "nobody was asked"
    told = shell("reconstruct", "mine", "--recipe", "photographs-ridge", "--out", tmp_path / "out", code=2)
    assert "exactly one" in told.stderr
    shell(
        *("reconstruct", "mine", "--recipe", "photographs-ridge", "--subject", "subj01", "--permutations", "9"),
        *("--out", tmp_path / "out"),
    )
    assert (tmp_path / "out" / "contact_sheet.png").is_file()


def test_layouts_are_listed_and_unknown_ones_refused(shell, tmp_path):
    assert "mindeye2" in shell("datasets", "layouts").output
    assert "no example of the layout" in shell("datasets", "example", "spm", tmp_path / "x", code=3).stderr
    assert "no betas of a known layout" in shell("datasets", "index", tmp_path, code=3).stderr


def test_sessions_are_read_as_ranges(shell, ask, nsd):
    answer = ask("datasets", "index", nsd, "--sessions", "1,3")
    assert answer["subjects"][0]["sessions"] == 2
    assert "the sessions 'all'" in shell("datasets", "index", nsd, "--sessions", "all", code=2).stderr


def test_betas_are_compared_with_a_published_set(shell, ask, nsd, tmp_path):
    shell("datasets", "example", "npy", tmp_path / "own")
    table = tmp_path / "own" / "trials.tsv"
    ids = ask("datasets", "index", nsd)["subjects"]
    assert ids[0]["stimuli"] == 24
    from voxelight.storage.formats.fmri.layouts import open_recording

    names = dict(zip(open_recording(tmp_path / "own").index.find().stimulus_ids,
                     open_recording(nsd).index.find("subj01").stimulus_ids, strict=True))  # fmt: skip
    text = table.read_text()
    for own, published in names.items():
        text = text.replace(f"\t{own}.png\n", f"\t{published}\n")
    table.write_text(text)
    values = np.load(tmp_path / "own" / "betas.npy")
    noise = np.random.default_rng(0).normal(size=values.shape)
    np.save(tmp_path / "own" / "betas.npy", (values + noise).astype(np.float32))
    said = shell("datasets", "compare", tmp_path / "own", nsd, "--out", tmp_path / "report.json").output
    assert "72 trials in both" in said
    report = json.loads((tmp_path / "report.json").read_text())["report"]
    assert 0.5 < report["voxel_correlation"][1] < 0.95
    assert report["geometry_p"] <= 0.01


def test_a_folder_that_is_refused_leaves_no_data_set(shell, ask, nsd):
    assert "no region 'V9'" in shell("datasets", "add", "mine", nsd, "--roi", "V9", code=3).stderr
    assert ask("datasets", "list")["items"] == []
    ask("datasets", "create", "measured", "--consent", "given", "--purpose", "Tests")
    assert "which is measured" in shell("datasets", "add", "measured", nsd, code=4).stderr
    assert ask("datasets", "show", "measured")["scans"] == 0
