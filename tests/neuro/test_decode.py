"""A whole recipe in one call."""

import numpy as np
import pytest

from voxelight.models.errors import NotFound
from voxelight.neuro.decode import decode
from voxelight.neuro.folds import plan_folds, reconstruct_fold


def test_decoding_is_its_folds_and_their_scores(make_subject, make_recipe):
    betas, stimuli = make_subject()
    recipe = make_recipe()
    decoding = decode(betas, stimuli, recipe)
    alone = [reconstruct_fold(betas, stimuli, fold, recipe) for fold in plan_folds(betas, recipe)]
    np.testing.assert_array_equal(decoding.images, np.concatenate([fold.images for fold in alone]))
    assert sorted(decoding.stimulus_ids.tolist()) == sorted(stimuli.ids.tolist())
    assert decoding.report.find("two_way").value > 0.7


def test_recipes_go_by_name(make_subject):
    with pytest.raises(NotFound, match="no-such-recipe"):
        decode(*make_subject(), "no-such-recipe")
