"""Guard-rails: overlaps are errors, and a report knows of every guard."""

import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.models.values import ClipTokens
from voxelight.neuro.evaluate.conditions import Conditions, state_conditions
from voxelight.neuro.evaluate.guards import (
    GUARDS,
    Guard,
    Side,
    check_gallery,
    check_overlap,
    hash_pictures,
    require_guards,
)
from voxelight.neuro.splits import Leak

STATED = {
    "subject": "01",
    "test_set": "shared1000",
    "sessions": "40",
    "trials": "averaged",
    "betas": "b3",
    "reference": "982 pictures",
    "normalisation": "training-rows",
    "seeds": 3,
    "simulated": False,
    "random_weights": False,
}


@pytest.fixture
def sides():
    random = np.random.default_rng(0)
    images = random.uniform(size=(12, 8, 8, 3)).astype(np.float32)
    tokens = random.normal(size=(12, 4, 16))
    ids = np.array([f"p{number}" for number in range(12)])
    return [Side(ids[rows], images[rows], ClipTokens(tokens[rows], "space")) for rows in (slice(8), slice(8, None))]


def test_a_clean_split_holds(sides):
    assert [(guard.name, guard.status) for guard in check_overlap(*sides)] == [
        ("ids", "held"),
        ("pictures", "held"),
        ("tokens", "held"),
    ]


def test_one_stimulus_on_both_sides_is_an_error(sides):
    train, _ = sides
    with pytest.raises(Leak, match="p3"):
        check_overlap(train, Side(np.array(["p9", "p3"])))


def test_one_picture_under_two_ids_is_an_error_by_its_pixels(sides):
    train, _ = sides
    stored = np.rint(train.images[5:6] * 255).astype(np.uint8)  # as a file of eight bits gives it back
    with pytest.raises(Leak, match="q0 = p5"):
        check_overlap(train, Side(np.array(["q0"]), stored))


def test_a_grey_picture_is_itself_in_rgb():
    grey = np.random.default_rng(0).uniform(size=(2, 4, 4, 1)).astype(np.float32)
    assert hash_pictures(grey) == hash_pictures(np.repeat(grey, 3, axis=3))


def test_one_picture_under_two_ids_is_an_error_by_its_tokens(sides):
    train, _ = sides
    random = np.random.default_rng(1)
    crop = train.tokens.values[2:3] + 0.1 * random.normal(size=(1, 4, 16))
    far = train.tokens.values[2:3] + 0.5 * random.normal(size=(1, 4, 16))
    with pytest.raises(Leak, match=r"q0 = p2 \(0\.99"):
        check_overlap(train, Side(np.array(["q0"]), None, ClipTokens(crop, "space")))
    assert check_overlap(train, Side(np.array(["q0"]), None, ClipTokens(far, "space")))[2].status == "held"


def test_what_could_not_be_compared_is_said(sides):
    train, test = sides
    guards = check_overlap(Side(train.ids), test)
    assert [guard.status for guard in guards] == ["held", "not checked", "not checked"]
    assert "NOT CHECKED" in guards[1].line()
    assert "training" in guards[1].detail


def test_twins_in_the_gallery_are_declared(sides):
    images = sides[0].images.copy()
    assert check_gallery(sides[0].ids, images).status == "held"
    images[3] = images[6]
    assert check_gallery(sides[0].ids, images).detail.startswith("p3 = p6")


def test_no_guard_can_be_left_out():
    guards = [Guard(name, "held", "all") for name in GUARDS]
    assert require_guards(guards[::-1]) == tuple(guards)
    with pytest.raises(BadInput, match="tokens"):
        require_guards([guard for guard in guards if guard.name != "tokens"])
    with pytest.raises(BadInput, match="doubled"):
        require_guards([*guards, guards[0]])
    with pytest.raises(BadInput):
        Guard("tokens", "not checked", " ")


@pytest.mark.parametrize("field", Conditions.model_fields)
def test_every_condition_must_be_stated(field):
    assert state_conditions(STATED).seeds == 3
    with pytest.raises(BadInput, match=field):
        state_conditions({name: value for name, value in STATED.items() if name != field})
    with pytest.raises(BadInput, match=field):
        state_conditions(STATED | {field: None})


@pytest.mark.parametrize("wrong", [{"trials": "some"}, {"seeds": 0}, {"colour": "red"}])
def test_conditions_are_checked(wrong):
    with pytest.raises(BadInput):
        state_conditions(STATED | wrong)
