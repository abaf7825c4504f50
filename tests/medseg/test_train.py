"""What a training of a segmentation network gives, and what can't be trained."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from train_worker import make_case, make_recipe

from voxelight.medseg.cases import Case
from voxelight.medseg.evaluate import dice
from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.segment import build_segmenter, segment
from voxelight.medseg.train import fit
from voxelight.medseg.train_validation import split_validation
from voxelight.models.errors import BadInput
from voxelight.models.training.loop import Hooks, LoopOptions
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.storage.training_log import TrainingLog


@pytest.mark.parametrize(
    ("network", "more"),
    [("agunet", {}), ("segresnet", {"config": {"spatial_dims": 2}, "window": (16, 16, 1), "batch": 8, "steps": 140})],
    ids=["volumes", "slices"],
)
def test_a_network_learns_from_few_cases(network, more):
    recipe, told = make_recipe(network, **more), []
    fitted = fit(
        [make_case(number) for number in range(6)], recipe, "cpu", Hooks(on_step=lambda n, all_: told.append(n))
    )
    assert told == list(range(recipe.training.steps))
    unseen = make_case(99)
    found = segment(unseen.volume, build_segmenter(recipe, fitted.weights, "cpu")).array
    assert min(dice(found, unseen.labels.array, label) for label in (1, 2)) > 0.5


def test_same_seed_same_weights_and_the_callers_chance_untouched():
    recipe, cases = make_recipe(steps=3, settling=2), [make_case(0), make_case(1)]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = fit(cases, recipe, "cpu").weights
    torch.testing.assert_close(torch.rand(3), expected)
    again = fit(cases, recipe, "cpu").weights
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    other = fit(cases, recipe.model_copy(update={"seed": 1}), "cpu").weights
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_a_training_starts_from_weights_and_only_a_layer_that_does_not_fit_is_fresh():
    cases, recipe = [make_case(number) for number in range(4)], make_recipe()
    start, still = fit(cases, recipe, "cpu").weights, {"steps": 1, "learning_rate": 1e-9, "settling": 8}
    unseen = make_case(99)

    def score(weights, made):
        found = segment(unseen.volume, build_segmenter(made, weights, "cpu")).array
        return min(dice(found, unseen.labels.array, label) for label in (1, 2))

    again = fit(cases, make_recipe(**still), "cpu", start=start).weights
    assert score(start, recipe) > 0.5
    assert score(again, recipe) == pytest.approx(score(start, recipe), abs=0.02)
    fresh = fit(cases, make_recipe(**still), "cpu").weights
    assert score(fresh, recipe) < 0.3

    wider = make_recipe(config={"classes": 4}, **still)
    wider = type(wider).model_validate(wider.model_dump() | {"labels": {1: "anterior", 2: "posterior", 3: "other"}})
    with_others = fit(cases, wider, "cpu", start=start).weights
    fitting = [name for name, value in start.items() if with_others[name].shape == value.shape]
    assert 0 < len(start) - len(fitting) < 10
    learned = [name for name in fitting if name.endswith("weight") and start[name].dim() > 1]
    assert all(torch.allclose(with_others[name], start[name], atol=1e-6) for name in learned)

    with pytest.raises(BadInput, match="values fit a network of"):
        fit(cases, make_recipe(config={"filters": (4, 8)}, **still), "cpu", start=start)


def stranger():
    case = make_case(0)
    labels = case.labels.array.copy()
    labels[0, 0, 0] = 7
    return Case("odd", case.volume, LabelMap(labels, case.labels.geometry, {1: "a", 2: "b", 7: "stranger"}))


def two_channels():
    case = make_case(0)
    return Case("two", Volume(np.repeat(case.volume.array, 2, axis=0), case.volume.geometry), case.labels)


@pytest.mark.parametrize(
    ("recipe", "cases", "said"),
    [
        (make_recipe(), [], "no case"),
        (make_recipe(loss="focus"), [make_case(0)], "dice_ce"),
        (find_recipe("hippocampus-mni"), [make_case(0)], "Train hippocampus-agunet"),
        (make_recipe(), [stranger()], "label 7 in odd"),
        (make_recipe(), [two_channels()], "2 channels in two"),
        (make_recipe(validation=0.5), [make_case(0)], "at least one to train on"),
    ],
)
def test_what_cannot_be_trained_is_refused(recipe, cases, said):
    with pytest.raises(BadInput, match=said):
        fit(cases, recipe, "cpu")


def test_a_case_keeps_image_and_labels_on_one_grid():
    case = make_case(0)
    moved = Geometry(case.labels.geometry.shape, np.diag([1, 1, 2, 1.0]))
    with pytest.raises(BadInput, match="nearest neighbour"):
        Case("moved", case.volume, LabelMap(case.labels.array, moved, case.labels.names))


def test_persons_that_are_looked_at_are_not_trained_on():
    cases = [f"{person}-{visit}" for person in "abcdefgh" for visit in (1, 2)]
    person_of = {case: case[0] for case in cases}
    watched = split_validation(cases, person_of, 0.25, 3)
    assert len(watched) == 4
    assert {case[0] for case in watched}.isdisjoint({case[0] for case in cases if case not in watched})
    assert watched == split_validation(cases, person_of, 0.25, 3) != split_validation(cases, person_of, 0.25, 4)
    assert split_validation(cases, person_of, 0, 3) == frozenset()


def test_a_training_ends_where_it_becomes_no_better_and_keeps_the_best(tmp_path):
    log = TrainingLog(tmp_path / "log.jsonl")
    recipe = make_recipe(
        steps=60, learning_rate=1e-9, validation=0.3, validate_steps=4, patience=2, average=0.0, warm_up=0
    )
    fitted = fit([make_case(n) for n in range(5)], recipe, "cpu", Hooks(log=log), LoopOptions(log_steps=1))
    dice_rows = {row["step"]: row["dice"] for row in log.rows() if "dice" in row}
    looks = sorted(dice_rows)
    assert fitted.finished
    assert looks == [3, 7, 11], "the first look is the best, and two more are waited for"
    assert fitted.steps == len(log.rows()) == 12
    assert len(fitted.watched) == 2
    assert set(fitted.validation) <= {"anterior", "posterior"}
