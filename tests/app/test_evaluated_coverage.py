"""What a decoding job is certain of is checked on stimuli that calibrated nothing."""

import numpy as np

from voxelight.app.pipelines.evaluated_coverage import FEWEST, TokenPair, check_coverage
from voxelight.models.values import ClipTokens
from voxelight.neuro.evaluate.pixels import compare_pixels
from voxelight.neuro.evaluate.spoken import Spoken

WORDS = ["dog", "house", "boat", "tree"]


def made(count, seeds=3):
    """Pictures whose seeds agree where the decoder is good, tokens with noise, and captions likewise."""
    rng = np.random.default_rng(0)
    shown = rng.uniform(size=(count, 8, 8, 3)).astype(np.float32)
    skill = rng.uniform(size=(count, 1, 1, 1))
    drawn = np.stack([skill * shown + (1 - skill) * rng.uniform(size=shown.shape) for _ in range(seeds)])
    tokens = rng.normal(size=(count, 4, 6)).astype(np.float32)
    predicted = ClipTokens(tokens + 0.3 * rng.normal(size=tokens.shape).astype(np.float32), "test")
    good = rng.uniform(size=(count, seeds)) < skill[:, 0, 0]
    captions = [[WORDS[0] if right else WORDS[rng.integers(1, 4)] for right in row] for row in good]
    spoken = Spoken((), {"decoded": {"rouge_l_coco": good.T.astype(float)}}, {}, {})
    compared = compare_pixels(drawn, shown)
    return drawn, captions, compared, TokenPair(predicted, ClipTokens(tokens, "test"), tokens), spoken


def test_each_kind_of_uncertainty_keeps_its_promise_on_held_out_stimuli():
    checks = check_coverage(*made(160))
    told = " | ".join(check.what for check in checks)
    for what in ("sets of pictures", "values", "pixel correlation", "captions"):
        assert what in told
    for check in checks:
        assert check.nominal == 0.9
        assert check.holds, check
    tokens = next(check for check in checks if check.what.startswith("values"))
    assert tokens.share < 0.95, "intervals are no wider than they must be"


def test_too_few_stimuli_promise_nothing():
    assert check_coverage(*made(FEWEST - 1)) == ()
