"""Maps of uncertainty: entropy, the spread of votes, that of folds; and which of them is shown."""

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

sys.path.insert(0, str(Path(__file__).parent))
from train_worker import make_case, make_recipe

from voxelight.medseg.predict import Segmenter, build_segmenter, predict
from voxelight.medseg.segment import prepare
from voxelight.medseg.train import build_network
from voxelight.medseg.uncertain import choose_for, list_kinds, map_uncertainty
from voxelight.models.errors import BadInput

CDAL = {"width": 8, "multipliers": (1,), "attention_levels": (), "encoder_blocks": 1, "latent": 4, "embedding": 8,
        "mapping_layers": 1, "steps": 1, "votes": 2}  # fmt: skip


def make(network, config=None, folds=1, **changes):
    torch.manual_seed(0)
    recipe = make_recipe(network, config, window=(16, 16, 1) if network == "cdal" else (16, 16, 16))
    recipe = recipe.model_copy(update={"mirror_average": False} | changes)
    return build_segmenter(recipe, [build_network(recipe).eval().state_dict() for _ in range(folds)], "cpu")


def test_entropy_is_that_of_the_probabilities():
    segmenter = make("agunet", temperature=2.0)
    prepared = prepare(make_case(0).volume, segmenter.recipe)
    p = predict(prepared.fields[0][1], segmenter)
    expected = scipy.stats.entropy(p, axis=0) / np.log(3)
    np.testing.assert_allclose(map_uncertainty(prepared, segmenter), expected, atol=2e-3)
    assert list_kinds(segmenter) == ("entropy",)
    with pytest.raises(BadInput, match="votes of a cDAL"):
        map_uncertainty(prepared, segmenter, "spread")


def test_folds_disagree_by_their_standard_deviation():
    segmenter = make("agunet", folds=3)
    prepared = prepare(make_case(0).volume, segmenter.recipe)
    alone = [Segmenter(segmenter.recipe, (network,), "cpu") for network in segmenter.networks]
    shares = np.stack([predict(prepared.fields[0][1], each) for each in alone])
    found = map_uncertainty(prepared, segmenter, "folds")
    np.testing.assert_allclose(found, shares.std(axis=0).max(axis=0) * 2, atol=2e-3)


def test_the_spread_is_that_of_the_votes_of_every_slice():
    segmenter = make("cdal", CDAL)
    prepared = prepare(make_case(0).volume, segmenter.recipe)
    [network] = segmenter.networks
    image = torch.from_numpy(prepared.fields[0][1])
    with torch.inference_mode():
        votes = network.probabilities(network.draw_votes(image.movedim(3, 0), 2, torch.Generator().manual_seed(0)))
    expected = votes.std(dim=0, unbiased=False).amax(dim=1).movedim(0, -1) * 2
    assert expected.max() > 0
    np.testing.assert_allclose(map_uncertainty(prepared, segmenter, "spread"), expected, atol=2e-3)


def test_entropy_is_shown_unless_another_is_better_than_each_beyond_the_interval(monkeypatch):
    """Maps that know where the label map is wrong, or know the reverse, in place of those of untrained networks."""
    segmenter = make("agunet", folds=2)
    cases = [make_case(number) for number in range(4)]
    kinds = {}

    def told(prepared, segmenter, kind):
        chance = np.random.default_rng(len(kind))
        return chance.random(prepared.geometry.shape) if kind == "entropy" else kinds[kind](prepared)

    from voxelight.medseg import uncertain

    monkeypatch.setattr(uncertain, "map_uncertainty", told)
    wrong = {}
    for case in cases:
        labels = uncertain.label(prepare(case.volume, segmenter.recipe), segmenter).label_map.array
        wrong[case.volume.array.sum()] = labels != case.labels.array
    found_by = {prepare(c.volume, segmenter.recipe).fields[0][1].sum(): wrong[c.volume.array.sum()] for c in cases}
    kinds["folds"] = lambda prepared: found_by[prepared.fields[0][1].sum()].astype(float)
    good = choose_for(cases, segmenter)
    assert (good.kind, good.cases) == ("folds", 4)
    assert good.areas["folds"] < good.areas["entropy"]
    kinds["folds"] = lambda prepared: 1 - found_by[prepared.fields[0][1].sum()].astype(float)
    assert choose_for(cases, segmenter).kind == "entropy"
