"""The scores of Brain Captioning beside the field's: where they flatter, it shows."""

import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.brain_captioning import identify_by_one, score_modes, score_pictures
from voxelight.neuro.evaluate.metrics.captions import Captions, References


def test_without_its_sign_a_negative_scores_as_the_picture_itself():
    shown = np.random.default_rng(0).random((3, 24, 24, 3))
    negative = score_pictures(shown, 1 - shown)["pixel_correlation"]
    assert negative.own == pytest.approx(1)
    assert negative.field == pytest.approx(-1, abs=1e-3)
    noise = score_pictures(shown, np.random.default_rng(1).random((3, 24, 24, 3)))
    assert noise["pixel_correlation"].own > abs(noise["pixel_correlation"].field) - 1e-9
    same = score_pictures(shown, shown)["ssim"]
    assert (same.own, same.field) == (pytest.approx(1), pytest.approx(1))
    grey = np.repeat(shown @ np.array([[0.2125], [0.7154], [0.0721]]), 3, axis=3)
    ssim = score_pictures(shown, grey)["ssim"]
    assert ssim.field > ssim.own, "the field's does not see that the colours are gone"
    for wrong in (shown[:1], shown[:, :10]):
        with pytest.raises(BadInput):
            score_pictures(shown, wrong)


def test_one_drawn_picture_is_now_and_then_its_own():
    features = np.random.default_rng(0).normal(size=(40, 8))
    perfect = identify_by_one(features, features)
    assert perfect.field == 1
    assert perfect.own < 1, "a picture that is drawn against itself can't win"
    guess = [identify_by_one(features, np.random.default_rng(seed).normal(size=(40, 8)), seed) for seed in range(20)]
    assert np.mean([one.own for one in guess]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([one.field for one in guess]) == pytest.approx(0.5, abs=0.06)


def test_captions_are_compared_in_three_modes():
    told = ("a dog on a beach", "two cats on a sofa", "a red bus")
    git = ("a dog runs on a beach", "two cats sleep on a sofa", "a bus in a street")
    people = tuple((f"{text} in the sun", f"there is {text}") for text in git)
    modes = score_modes(
        Captions(told, References("GIT captions", tuple((text,) for text in git))),
        Captions(git, References("coco captions", people)),
    )
    assert set(modes) == {"absolute", "ground", "relative"}
    for name, value in modes["relative"].items():
        assert value == pytest.approx(modes["absolute"][name] / modes["ground"][name])
    assert {"bleu_1", "bleu_4", "meteor_nltk_stems"} <= set(modes["ground"])
    with pytest.raises(BadInput):
        score_modes(
            Captions(told[:1], References("GIT captions", (git[:1],))), Captions(git, References("coco", people))
        )
