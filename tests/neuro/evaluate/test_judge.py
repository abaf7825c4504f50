"""Scores of a network are those of the published metric, and no picture is looked at twice."""

import numpy as np
import pytest
import torch

from voxelight.neuro.evaluate.judge import Judge, compare_features, describe_network
from voxelight.neuro.evaluate.metrics.features import Extractor
from voxelight.neuro.evaluate.metrics.identification import score_distance, score_two_way
from voxelight.neuro.evaluate.metrics.networks import find_network


class Patches(torch.nn.Module):
    """Means of patches in place of a network: what is tested is the arithmetic behind it."""

    def forward(self, pixels):
        return {"pooled": torch.nn.functional.adaptive_avg_pool2d(pixels, 4)}


@pytest.fixture(scope="module")
def extractor():
    return Extractor(find_network("efficientnet-lite0"), Patches(), "", torch.device("cpu"))


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    shown = random.uniform(size=(5, 16, 16, 3)).astype(np.float32)
    return np.clip(shown + 0.2 * random.normal(size=(2, 5, 16, 16, 3)), 0, 1).astype(np.float32), shown


def test_scores_are_those_of_the_published_metrics(extractor, pictures):
    made, shown = pictures
    scores = compare_features(Judge(extractor), made, shown).score()
    assert (
        set(scores) == {fact.name for fact in describe_network(Judge(extractor))} == {"lite_distance", "lite_two_way"}
    )
    gallery = extractor.extract(shown)["pooled"]
    for seed in range(2):
        found = extractor.extract(made[seed])["pooled"]
        two_way = score_two_way("lite_two_way", found, gallery).scores
        distance = score_distance("lite_distance", found, gallery).scores
        np.testing.assert_allclose(scores["lite_two_way"][seed], two_way, atol=1e-9)
        np.testing.assert_allclose(scores["lite_distance"][seed], distance, atol=1e-5)


def test_the_direction_of_a_distance_is_told(extractor):
    facts = {fact.name: fact for fact in describe_network(Judge(extractor))}
    assert not facts["lite_distance"].higher_is_better
    assert facts["lite_two_way"].higher_is_better
    assert facts["lite_two_way"].chance == 0.5
    assert "fresh weigh" in facts["lite_two_way"].note


def test_a_picture_is_looked_at_once(extractor, pictures, monkeypatch):
    _, shown = pictures
    judge, asked = Judge(extractor), []
    extract = type(extractor).extract
    monkeypatch.setattr(type(extractor), "extract", lambda self, some: asked.append(len(some)) or extract(self, some))
    first = judge.look(shown)["pooled"]
    again = judge.look(np.concatenate([shown[::-1], shown]))["pooled"]
    assert asked == [5]
    np.testing.assert_array_equal(again[5:], first)
    np.testing.assert_array_equal(again[:5], first[::-1])


def test_grey_is_judged_as_colour(extractor, pictures):
    grey = pictures[1][..., :1]
    judge = Judge(extractor)
    np.testing.assert_array_equal(judge.look(grey)["pooled"], judge.look(np.repeat(grey, 3, axis=3))["pooled"])
