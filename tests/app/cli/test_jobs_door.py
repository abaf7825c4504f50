"""Jobs from submit to export, with a worker as a process of its own."""

import signal
import subprocess
import sys

import pytest

DECODE = ("--recipe", "miyawaki-ridge", "--option", "permutations=0")


@pytest.fixture
def brain(shell, recording):
    shell("ingest", recording, "--dataset", "brain", "--create", "--consent", "simulated", "--purpose", "a test")
    return "brain"


def test_the_same_key_gives_the_same_job(ask, shell, brain):
    first = ask("jobs", "submit", brain, *DECODE, "--key", "k", "--queue", "cpu")
    again = ask("jobs", "submit", brain, *DECODE, "--key", "k", "--queue", "cpu")
    assert first["id"] == again["id"]
    assert (first["status"], first["queue"], first["options"]) == ("queued", "cpu", {"permutations": 0})
    assert len(ask("jobs", "list", "--dataset", brain)["items"]) == 1
    shell("jobs", "submit", brain, *DECODE, "--key", "k", "--queue", "cpu", "--seed", 3, code=4)


def test_a_waiting_job_is_cancelled_and_put_back(ask, shell, brain):
    job = ask("jobs", "submit", brain, *DECODE)["id"]
    assert ask("jobs", "cancel", job)["status"] == "cancelled"
    assert {run["status"] for run in ask("jobs", "runs", job)} == {"cancelled"}
    assert f"voxelight jobs retry {job}" in shell("jobs", "watch", job, code=4).stderr
    again = ask("jobs", "retry", job)
    assert (again["status"], again["attempt"]) == ("queued", 2)
    shell("jobs", "retry", job, code=4)


def test_a_worker_process_carries_jobs_out_until_it_is_told_to_stop(ask, shell, start, brain, tmp_path):
    job = ask("jobs", "submit", brain, *DECODE, "--queue", "cpu")["id"]
    worker = start("worker", "--queue", "cpu")
    watched = ask("jobs", "watch", job)
    assert (watched["status"], watched["done"], watched["total"]) == ("done", 8, 8)
    rival = start("worker", "--queue", "gpu", "--name", "cpu")
    _, said = rival.communicate(timeout=60)
    assert rival.returncode == 4
    assert "a worker named 'cpu'" in said
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert "Worker cpu stopped" in said
    assert "Traceback" not in said

    assert job in shell("jobs", "list").stdout
    assert "8 done, 0 failed, 8 in all" in shell("jobs", "show", job).stdout
    runs = ask("jobs", "runs", job, "--status", "done")
    assert len(runs) == 8
    page = ask("results", "list", "--job", job, "--limit", 5)
    rest = ask("results", "list", "--job", job, "--cursor", page["next_cursor"])
    found = [row["id"] for row in page["items"] + rest["items"]]
    assert sorted(found) == sorted(run["id"] for run in runs)
    assert ask("results", "show", found[0])["stimuli"]
    assert "reconstruction" in shell("results", "show", found[0]).stdout
    conditions = ("--dataset", brain, "--subject", "01", "--model", "ridge", "--kind", "reconstruct")
    assert len(ask("results", "list", *conditions, "--since", "2020-01-01")["items"]) == 8
    assert ask("results", "list", "--until", "2020-01-01T00:00:00")["items"] == []

    files = ask("results", "export", found[0], "--out", tmp_path / "one")["files"]
    assert len(files) == 3
    files = ask("results", "export", "--job", job, "--out", tmp_path / "all")["files"]
    assert len(set(files)) == 24
    shell("results", "export", found[0], "--job", job, "--out", tmp_path / "x", code=2)


def test_a_worker_is_named_after_its_card_and_hides_the_others(start, home):
    worker = start("worker", "--queue", "gpu", "--gpu", "3")
    assert "Worker gpu3 waits for jobs of gpu" in worker.stderr.readline()
    worker.send_signal(signal.SIGINT)
    worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert list((home / "workers").glob("*-gpu3.lock"))


def test_only_the_named_card_is_seen_and_torch_not_yet_asked():
    code = (
        "import os, sys; from voxelight.app.cli.processes import _show_only\n"
        "_show_only(3); import voxelight.app.worker\n"
        "print(os.environ['CUDA_VISIBLE_DEVICES'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "False"]
