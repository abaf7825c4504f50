"""Data sets change one at a time, and nobody's change is lost without a word."""

import threading

import pytest

from voxelight.app.schemas import DatasetChange, DatasetRequest
from voxelight.models.errors import Conflict, NotFound


def test_a_dataset_is_made_once(services):
    made = services.datasets.create(DatasetRequest(name="d", consent="given", purpose="p"))
    with pytest.raises(Conflict, match="new name"):
        services.datasets.create(DatasetRequest(name="d"))
    assert services.datasets.ensure(DatasetRequest(name="d")) == made == services.datasets.show("d")
    with pytest.raises(NotFound, match="one of d"):
        services.datasets.show("e")


def test_a_change_that_was_overtaken_is_refused(services):
    seen = services.datasets.create(DatasetRequest(name="d")).version
    assert services.datasets.change("d", DatasetChange(purpose="first"), seen).version == seen + 1
    with pytest.raises(Conflict, match="Read it again"):
        services.datasets.change("d", DatasetChange(purpose="second"), seen)
    assert services.datasets.show("d").purpose == "first"


def test_changes_at_one_time_are_made_or_refused(services):
    services.datasets.create(DatasetRequest(name="d"))
    made, refused = [], []

    def change(number):
        try:
            made.append(services.datasets.change("d", DatasetChange(purpose=str(number))).version)
        except Conflict as error:
            refused.append(error)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) + len(refused) == len(threads)
    assert sorted(made) == list(range(2, len(made) + 2)), "two changes gave one version"
    assert services.datasets.show("d").version == len(made) + 1
