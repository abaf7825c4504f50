import threading

import pytest

from voxelight.app.pipelines.ahead import Ahead


def test_the_next_item_is_made_while_this_one_is_worked_on():
    began, made = threading.Event(), []

    def make(key):
        made.append((key, threading.current_thread() is threading.main_thread()))
        began.set()
        return key.upper()

    ahead = Ahead(make)
    assert ahead.take("a") == "A"
    ahead.start("b")
    assert began.wait(5)
    assert ahead.take("b") == "B"
    assert made == [("a", True), ("b", False)]


def test_an_error_belongs_to_the_item_that_met_it():
    def make(key):
        if key == "bad":
            raise ValueError(key)
        return key

    ahead = Ahead(make)
    ahead.start("bad")
    assert ahead.take("good") == "good"  # another was wanted after all
    ahead.start("bad")
    with pytest.raises(ValueError, match="bad"):
        ahead.take("bad")
    assert ahead.take("good") == "good"


def test_what_was_made_ahead_is_given_once():
    count = iter(range(10))
    ahead = Ahead(lambda key: (key, next(count)))
    ahead.start("a")
    ahead.start("a")
    assert ahead.take("a") == ("a", 0)
    assert ahead.take("a") == ("a", 1)
    ahead.start("b")
    ahead.drop()
    ahead.start(None)
    assert ahead.take("b")[0] == "b"
