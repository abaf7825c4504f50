"""Jobs from the shell: found scans, order, log, copies, single items; recipes with their card."""

import json

import pytest

DECODE = ("--recipe", "miyawaki-ridge", "--option", "permutations=0", "--queue", "cpu")


@pytest.fixture
def brain(shell, recording):
    shell("ingest", recording, "--dataset", "brain", "--create", "--consent", "simulated", "--purpose", "a test")
    return "brain"


@pytest.fixture
def job(ask, brain):
    return ask("jobs", "submit", brain, *DECODE)


def test_scans_are_found_by_name_and_subject(ask, shell, brain):
    job = ask("jobs", "submit", brain, *DECODE, "--name", "record*", "--subject", "01")
    assert job["total"] == 8
    shell("jobs", "submit", brain, *DECODE, "--name", "other*", code=2)
    shell("jobs", "submit", brain, *DECODE, "--name", "*", "--scan", job["id"], code=2)
    assert len(ask("jobs", "list")["items"]) == 1


def test_the_order_of_waiting_jobs_is_told_and_changed(ask, shell, brain, job):
    low = ask("jobs", "submit", brain, *DECODE, "--priority", "lowest")
    assert (low["priority"], low["place"]) == (-2, 2)
    assert "place 3" in shell("jobs", "submit", brain, *DECODE, "--priority", "lowest").stdout
    assert ask("jobs", "change", low["id"], "--priority", "high")["place"] == 1
    shell("jobs", "cancel", low["id"])
    shell("jobs", "change", low["id"], "--priority", "low", code=4)
    listed = ask("jobs", "list", "--status", "cancelled")["items"]
    assert [each["id"] for each in listed] == [low["id"]]


def test_the_log_of_a_job_is_read_by_people_and_programs(shell, job):
    shell("jobs", "cancel", job["id"])
    said = shell("jobs", "log", job["id"], "--follow").stdout.splitlines()
    assert [line.split("  ")[-1].strip() for line in said] == [
        "Submitted with 8 items on queue cpu.",
        "Cancelled with 0 of 8 items done.",
    ]
    lines = [json.loads(line) for line in shell("jobs", "log", job["id"], "--json").stdout.splitlines()]
    assert [line["level"] for line in lines] == ["info", "warning"]


def test_a_copy_changes_what_is_said_and_keeps_the_rest(ask, shell, job):
    copy = ask("jobs", "clone", job["id"], "--seed", "4", "--key", "k")
    assert (copy["cloned_from"], copy["seed"], copy["options"]) == (job["id"], 4, {"permutations": 0})
    assert ask("jobs", "clone", job["id"], "--seed", "4", "--key", "k")["id"] == copy["id"]
    assert ask("jobs", "clone", job["id"], "--option", "permutations=9")["options"] == {"permutations": 9}
    shell("jobs", "clone", job["id"], "--recipe", "none", code=3)
    assert job["id"] in shell("jobs", "show", copy["id"]).stdout


def test_one_item_is_put_back(ask, shell, job):
    shell("jobs", "cancel", job["id"])
    runs = ask("jobs", "runs", job["id"])
    assert ask("jobs", "retry", job["id"], "--run", runs[3]["id"])["status"] == "queued"
    after = [run["status"] for run in ask("jobs", "runs", job["id"])]
    assert after.index("pending") == 3
    assert after.count("cancelled") == 7
    shell("jobs", "cancel", job["id"])
    shell("jobs", "retry", job["id"], "--run", job["id"], code=2)


def test_a_recipe_is_shown_with_card_and_cost(ask, shell):
    shown = ask("recipes", "show", "hippocampus-agunet")
    assert shown["card"]
    assert shown["costs"][0]["seconds_an_item"] > 0
    said = shell("recipes", "show", "hippocampus-agunet").stdout
    assert "CC-BY-SA-4.0" in said
    assert "GiB" in said
    shell("recipes", "show", "none", code=3)
