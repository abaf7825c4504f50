"""A finished job becomes a report; what is not known has to be stated, and what leaks is refused."""

import csv
import json

import numpy as np
import pytest
import scipy.io

CONSENT = ("--consent", "simulated", "--purpose", "a test")
QUICK = ("--network", "none", "--permutations", "19")


@pytest.fixture
def reconstruct(ask, recording, tmp_path):
    """Carry out a small job and return its answer."""

    def _reconstruct(path=recording, seed=0):
        words = ("--recipe", "miyawaki-ridge", "--permutations", "0", "--seed", seed, "--out", tmp_path / "out")
        return ask("reconstruct", path, *words, *CONSENT)["job"]

    return _reconstruct


def test_a_job_becomes_a_page_and_tables(ask, reconstruct, tmp_path):
    job = reconstruct()
    out = tmp_path / "report"
    answer = ask("evaluate", job["id"], "--sessions", "1", *QUICK, "--out", out)
    assert [path.rpartition("/")[2] for path in answer["files"]] == ["report.html", "report.json", "report.csv"]
    told = json.loads((out / "report.json").read_text())
    means = {(line["row"], line["metric"]): line for line in told["scores"]}
    stored = {metric["name"]: metric["value"] for metric in job["metrics"]}
    for name in ("two_way", "pixel_correlation"):  # two ways to one score
        assert means["decoded", name]["value"] == pytest.approx(stored[name])
        assert means["nearest_training", name]["value"] == pytest.approx(stored[f"{name}.nearest_training"])
        assert means["generator_ceiling", name]["value"] == 1
        assert means["decoded", name]["p"] >= 1 / 20
    assert told["conditions"]["betas"] == "simulated"
    assert told["conditions"]["sessions"] == "1"
    assert {guard["name"]: guard["status"] for guard in told["guards"]} == {
        "ids": "held", "pictures": "held", "tokens": "not checked", "normalisation": "held", "fit": "held",
        "alone": "held", "gallery": "held",
    }  # fmt: skip
    assert told["curves"][0]["x"][:2] == [1, 2]
    assert any("NO NETWORK" in note for note in told["notes"])
    page = (out / "report.html").read_text()
    assert "SIMULATED" in page
    assert "Model estimate, not a photograph of thought. Not for clinical use." in page
    with (out / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["stimulus"] for row in rows if row["level"] == "picture"}) == 8


def test_two_jobs_are_compared_picture_by_picture(ask, reconstruct, tmp_path):
    jobs = [reconstruct()["id"], reconstruct(seed=5)["id"]]
    ask("evaluate", *jobs, "--sessions", "1", *QUICK, "--out", tmp_path / "both")
    told = json.loads((tmp_path / "both/report.json").read_text())
    tests = {test["metric"]: test for test in told["paired_tests"]}
    assert set(tests) == {"two_way", "pixel_correlation", "ssim"}
    assert tests["two_way"]["n"] == 8
    assert tests["two_way"]["difference"] == 0  # ridge draws nothing at random
    assert tests["two_way"]["p"] == 1
    assert told["provenance"]["other_job"] == jobs[1]


def test_what_the_data_do_not_say_has_to_be_stated(shell, reconstruct, tmp_path):
    job = reconstruct()
    result = shell("evaluate", job["id"], *QUICK, "--out", tmp_path / "none", code=2)
    assert "--sessions TEXT" in result.stderr
    assert not (tmp_path / "none").exists()


def test_one_picture_under_two_names_is_refused(shell, reconstruct, tmp_path):
    """Two pictures that differ by less than a file of eight bits can hold have two ids and are one picture."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 2, (8, 16)).astype(float)
    pictures[7] = pictures[3]
    pictures[7, 0] = abs(pictures[7, 0] - 1e-4)
    shown = np.tile(np.arange(8), 3)
    betas = pictures[shown] @ random.normal(size=(16, 40)) + random.normal(size=(24, 40))
    path = tmp_path / "twins.mat"
    scipy.io.savemat(path, {"fmriTrn": betas, "stimTrn": pictures[shown], "labelTrn": np.ones((24, 1))})
    job = reconstruct(path)
    result = shell("evaluate", job["id"], "--sessions", "1", *QUICK, "--out", tmp_path / "none", code=2)
    assert "under two ids" in result.stderr
    assert not (tmp_path / "none").exists()


def test_only_a_finished_job_is_evaluated(shell, reconstruct, tmp_path):
    job = reconstruct()["id"]
    unknown = "00000000-0000-0000-0000-000000000000"
    assert "no job" in shell("evaluate", unknown, *QUICK, "--out", tmp_path / "n", code=3).stderr
    assert "3 jobs" in shell("evaluate", job, job, job, *QUICK, "--out", tmp_path / "n", code=2).stderr
    assert "feature network" in shell("evaluate", job, "--network", "x", "--out", tmp_path / "n", code=3).stderr
