"""Crashes and other processes between the lines of the blob protocol: all lines by `run_long.py`, some of them here."""

import pytest
from injection import lines
from injection.harness import installed

EVERY = 29  # a prime: lines of loops are met at another turn


@pytest.fixture(scope="module")
def protocol(tmp_path_factory):
    with installed(tmp_path_factory.mktemp("lines") / "home") as place:
        yield place, lines.Protocol(place, place.submit(["segment"])["segment"])


@pytest.mark.parametrize("kind", lines.KINDS)
def test_nothing_is_lost_whatever_happens_between_two_lines(protocol, kind):
    row = lines.KINDS[kind](*protocol, EVERY)
    print(row)
    assert row.injected >= 3
    assert (row.recovered, row.books) == (row.injected, [])
