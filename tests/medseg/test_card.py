"""The figures of the model card, computed again from the scores of each case."""

import json
import re
from importlib.resources import files

import pytest

from voxelight.medseg.evaluate import mean_by_person, paired_difference
from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.splits import find_split

SHIPPED = files("voxelight.models.shipped")
NAME = "hippocampus-agunet"


def read(label, folds):
    networks = json.loads(SHIPPED.joinpath(f"{NAME}.scores.json").read_text())["networks"]
    return {
        network: {case: dice[label] for fold in folds for case, dice in facts["folds"][fold]["dice"].items()}
        for network, facts in networks.items()
    }


def row(interval, sign=""):
    return f"{interval.estimate:{sign}.4f} [{interval.low:{sign}.4f}, {interval.high:{sign}.4f}]"


@pytest.fixture(scope="module")
def card():
    return SHIPPED.joinpath(f"{NAME}.md").read_text("utf-8")


@pytest.mark.parametrize("label", ["anterior", "posterior"])
@pytest.mark.parametrize("folds", [("0",), ("0", "1", "2")], ids=len)
def test_the_card_says_what_the_scores_say(card, label, folds):
    scores = read(label, folds)
    person_of = find_split(NAME, list(scores["agunet"])).person_of
    for network in ("agunet", "attention_unet"):
        assert row(mean_by_person(scores[network], person_of, seed=0)) in card
    assert row(paired_difference(scores["agunet"], scores["attention_unet"], person_of, seed=0), "+") in card


@pytest.mark.parametrize("fold", ["0", "1", "2"])
def test_scores_are_of_the_held_out_cases_of_the_recorded_split(fold):
    scores = read("anterior", [fold])
    recorded = find_split(NAME, [*scores["agunet"]])
    assert set(scores["agunet"]) == set(scores["attention_unet"]) == set(recorded.folds[int(fold)])


def test_the_recipe_is_the_one_that_was_scored(card):
    facts = json.loads(SHIPPED.joinpath(f"{NAME}.scores.json").read_text())
    recipe = find_recipe(NAME)
    assert all(network["steps"] == recipe.training.steps for network in facts["networks"].values())
    assert facts["final_fit"]["steps"] == recipe.training.steps
    config = facts["networks"]["agunet"]["config"]
    assert config["filters"] == list(recipe.config["filters"])
    parameters = [f"{network['parameters']:,}" for network in facts["networks"].values()]
    assert all(re.search(rf"{count} parameters", card) for count in parameters)
