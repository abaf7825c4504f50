"""Decode with no server: what is written, what is said, and how Ctrl-C ends it."""

import json
import re
import signal
import time

import pytest

from voxelight.app.bootstrap import open_services
from voxelight.app.settings import Settings

CONSENT = ("--consent", "simulated", "--purpose", "a test")
QUICK = ("--preset", "fast", "--prior-steps", 2, "--dtype", "float32")


@pytest.fixture
def recording(tmp_path, decodable_mat):
    """A recording of as many voxels as the profile takes."""
    path = tmp_path / "recording.mat"
    path.write_bytes(decodable_mat)
    return path


def test_a_recording_becomes_pictures_captions_and_tokens(ask, recording, tmp_path):
    out = tmp_path / "out"
    answer = ask("decode", recording, "--profile", "random-small", "--out", out, "--seed", 5, *QUICK, *CONSENT)
    job = answer["job"]
    assert (job["status"], job["seed"], job["simulated"], job["random_weights"]) == ("done", 5, True, True)
    assert job["options"] == {"preset": "fast", "prior_steps": 2, "dtype": "float32"}
    for role in ("stimulus", "reconstruction", "unrefined", "blurry"):
        assert len(list((out / "pictures").glob(f"*_{role}.png"))) == 6
    assert len(list((out / "pictures").glob("*_retrieved-?.png"))) == 30
    assert len(list((out / "tokens").glob("*_tokens.safetensors"))) == 6
    assert (out / "contact_sheet.png").is_file()
    captions = json.loads((out / "captions.json").read_text())
    assert (captions["simulated"], captions["random_weights"], len(captions["captions"])) == (True, True, 6)
    assert captions["captions"][0].keys() == {"stimulus", "rank", "seed", "caption", "retrieved"}
    assert json.loads((out / "scores.json").read_text())["random_weights"] is True
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["random_weights"] is True
    assert len(provenance["runs"]) == 6


def test_a_person_sees_captions_chance_and_that_weights_are_random(shell, recording, tmp_path):
    words = ("decode", recording, "--profile", "random-small", "--out", tmp_path / "out", "--stop", "caption")
    said = shell(*words, *QUICK, *CONSENT).stdout
    assert "RANDOM WEIGHTS: these pictures mean nothing" in said
    assert "SIMULATED" in said
    assert "RANDOM WEIGHTS: means nothing" in said
    assert "decoded caption" in said
    header = next(line for line in said.splitlines() if "score " in line)
    assert re.split(r" {2,}", header.strip()) == ["score", "value", "interval", "chance", "p"]
    assert "RANDOM" in shell("models", "list").stdout
    assert "random-small" in shell("recipes", "list", "--kind", "decode").stdout


def test_what_can_not_be_decoded_is_refused(shell, ask, recording, tmp_path):
    words = ("decode", recording, "--out", tmp_path / "out", *CONSENT)
    assert "mindeye2, random-small" in shell(*words, "--profile", "none", code=3).stderr
    for published in ("mindeye1", "mindeye2"):
        assert "voxelight weights fetch" in shell(*words, "--profile", published, code=6).stderr
    shell(*words[:-4], "--profile", "random-small", code=5)
    assert ask("jobs", "list")["items"] == []
    assert not (tmp_path / "out").exists()


def test_ctrl_c_ends_a_batch_that_is_under_way(start, home, recording, tmp_path):
    """Many samples are one item: it ends in the middle, not after hundreds of steps."""
    process = start(
        "decode", recording, "--profile", "random-small", "--out", tmp_path / "out", "--samples", 64, *CONSENT
    )
    services = open_services(Settings(home=home))
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        jobs = services.jobs.list().items
        if jobs and services.jobs.list_runs(jobs[0].id, status="running"):
            break
        time.sleep(0.05)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    job = services.jobs.list().items[0]
    statuses = {run.status for run in services.jobs.list_runs(job.id)}
    services.close()
    assert process.returncode == 130
    assert f"voxelight jobs retry {job.id}" in said
    assert "Traceback" not in said
    assert (job.status, job.done, statuses) == ("cancelled", 0, {"cancelled"})
