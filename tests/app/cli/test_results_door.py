"""Conditions, orders and comparisons from the shell."""

import json

import pytest

from voxelight.app.bootstrap import open_services
from voxelight.app.schemas_search import SearchRequest
from voxelight.app.settings import Settings


@pytest.fixture
def jobs(ask, shell, recording):
    """Two jobs over one recording."""
    for permutations in (19, 29):
        shell("reconstruct", recording, "--recipe", "miyawaki-ridge", "--out", recording.parent / str(permutations),
              "--permutations", permutations, "--consent", "simulated", "--purpose", "a test")  # fmt: skip
    return [job["id"] for job in ask("jobs", "list")["items"]]


def test_results_are_sorted_and_compared(ask, shell, home, jobs):
    listed = ask("results", "list", "--job", jobs[0], "--metric", "two_way:0..1", "--sort", "-two_way")["items"]
    best = [max(m["value"] for m in item["metrics"] if m["name"] == "two_way") for item in listed]
    assert best == sorted(best, reverse=True)
    assert len(best) == 8
    assert ask("results", "list", "--metric", "two_way:2..")["items"] == []
    services = open_services(Settings(home=home))
    services.searches.create(SearchRequest(title="Mine", query={"sort": "two_way", "job": jobs[0]}))
    services.close()
    saved = ask("results", "list", "--search", "mine")["items"]
    assert {item["id"] for item in saved} == {item["id"] for item in listed}
    compared = ask("compare", *jobs)
    assert compared["matched"] == 8
    assert {metric["metric"] for metric in compared["metrics"]} >= {"two_way", "pixel_correlation"}
    assert all(metric["difference"] == 0 for metric in compared["metrics"])
    assert "what differs most" in shell("compare", *jobs).stdout
    problem = json.loads(shell("compare", jobs[0], "--json", code=2).stderr)
    assert "two jobs" in problem["expected"]
