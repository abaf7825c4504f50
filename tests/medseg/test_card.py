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
        network: {
            case: dice[label] for fold in folds for case, dice in networks[network]["folds"][fold]["dice"].items()
        }
        for network in ("agunet", "attention_unet")
    }


def row(interval, sign=""):
    return f"{interval.estimate:{sign}.4f} [{interval.low:{sign}.4f}, {interval.high:{sign}.4f}]"


@pytest.fixture(scope="module")
def card():
    return SHIPPED.joinpath(f"{NAME}.md").read_text("utf-8")


@pytest.mark.parametrize("label", ["anterior", "posterior"])
@pytest.mark.parametrize("folds", [("0",), ("0", "1", "2", "3", "4")], ids=len)
def test_the_card_says_what_the_scores_say(card, label, folds):
    scores = read(label, folds)
    person_of = find_split(NAME, list(scores["agunet"])).person_of
    for network in ("agunet", "attention_unet"):
        assert row(mean_by_person(scores[network], person_of, seed=0)) in card
    assert row(paired_difference(scores["agunet"], scores["attention_unet"], person_of, seed=0), "+") in card


@pytest.mark.parametrize("fold", ["0", "1", "2", "3", "4"])
def test_scores_are_of_the_held_out_cases_of_the_recorded_split(fold):
    scores = read("anterior", [fold])
    recorded = find_split(NAME, [*scores["agunet"]])
    assert set(scores["agunet"]) == set(scores["attention_unet"]) == set(recorded.folds[int(fold)])


def test_the_recipe_is_the_one_that_was_scored(card):
    facts = json.loads(SHIPPED.joinpath(f"{NAME}.scores.json").read_text())
    recipe = find_recipe(NAME)
    alike = {name: network for name, network in facts["networks"].items() if name != "cdal"}
    assert all(network["steps"] == recipe.training.steps for network in alike.values())
    assert facts["final_fit"]["steps"] == recipe.training.steps
    config = facts["networks"]["agunet"]["config"]
    assert config["filters"] == list(recipe.config["filters"])
    assert re.search(rf"{facts['networks']['agunet']['parameters']:,} parameters", card)
    assert all(f"{network['parameters']:,}" in card for network in facts["networks"].values())


@pytest.mark.parametrize("label", ["anterior", "posterior"])
@pytest.mark.parametrize("network", ["daunet", "segresnet", "dynunet", "cdal"])
def test_the_card_compares_with_every_network_of_the_table(card, network, label):
    networks = json.loads(SHIPPED.joinpath(f"{NAME}.scores.json").read_text())["networks"]
    ours, theirs = (
        {case: dice[label] for case, dice in networks[name]["folds"]["0"]["dice"].items()}
        for name in ("agunet", network)
    )
    person_of = find_split(NAME, list(ours)).person_of
    assert row(mean_by_person(theirs, person_of, seed=0)) in card
    assert row(paired_difference(ours, theirs, person_of, seed=0), "+") in card


@pytest.mark.parametrize("label", ["anterior", "posterior"])
@pytest.mark.parametrize(
    ("better", "other", "differ"),
    [
        ("agunet", "nnunet", True),
        ("agunet_all_mirrors", "attention_unet_all_mirrors", True),
        ("agunet", "swin_unetr", False),
    ],
)
def test_the_card_says_how_others_did(card, better, other, differ, label):
    facts = json.loads(SHIPPED.joinpath(f"{NAME}.scores.json").read_text())
    networks = facts["networks"] | facts["others"]
    theirs, ours = (
        {
            case: dice[label]
            for fold in networks[other]["folds"]
            for case, dice in networks[name]["folds"][fold]["dice"].items()
        }
        for name in (other, better)
    )
    assert set(ours) == set(theirs)
    person_of = find_split(NAME, list(ours)).person_of
    assert row(mean_by_person(theirs, person_of, seed=0)) in card
    if differ:
        assert row(mean_by_person(ours, person_of, seed=0)) in card
        assert row(paired_difference(ours, theirs, person_of, seed=0), "+") in card


@pytest.mark.parametrize("network", ["nuclei-msga", "nuclei-cdal"])
def test_the_cards_of_nuclei_say_what_the_scores_of_each_picture_say(network):
    told = SHIPPED.joinpath(f"{network}.md").read_text("utf-8")
    pictures = json.loads(SHIPPED.joinpath("nuclei.scores.json").read_text())["networks"][network]["pictures"]
    for key in ("foreground_dice", "f1_0.5", "f1_0.7"):
        assert f"{sum(row[key] for row in pictures.values()) / len(pictures):.3f} [" in told
    for threshold in ("0.5", "0.7"):
        tp, fp, fn = (sum(row["counts"][threshold][place] for row in pictures.values()) for place in range(3))
        assert f"{2 * tp / (2 * tp + fp + fn):.3f}" in told
    assert set(find_split("nuclei", sorted(pictures), seed=20).person_of) == set(pictures)
