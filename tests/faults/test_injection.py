"""Some of each fault, with workers as processes; `run_long.py` injects each often and prints the table."""

import pytest
from injection import kills, outages
from injection.harness import installed, run_undisturbed
from injection.workload import RECONSTRUCT, SEGMENT

KINDS = (SEGMENT, RECONSTRUCT)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What the jobs give when nothing happens."""
    return run_undisturbed(tmp_path_factory.mktemp("calm") / "home", KINDS)


def check(row):
    print(row.to_json())
    assert row.injected == row.recovered > 0
    assert (row.lost, row.doubled, row.differing, row.books) == (0, 0, 0, [])


def test_workers_that_are_killed_lose_nothing_and_do_nothing_twice(tmp_path, expected):
    with installed(tmp_path / "home", max_attempts=100) as place:
        check(kills.kill_at_random(place, expected, count=3, kinds=KINDS, longest_s=3.0))


def test_an_object_store_that_answers_500_is_waited_for(tmp_path, expected):
    check(outages.break_store(tmp_path / "home", expected, 1, "answers 500", (SEGMENT,)))
