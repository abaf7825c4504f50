"""Whether what a decoding job is certain of holds: tokens, retrieval, pictures and captions on held-out stimuli."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxelight.models.values import ClipTokens
from voxelight.neuro.evaluate.agreement import agree_captions, agree_pictures, fit_agreement, share_words
from voxelight.neuro.evaluate.compared import Compared
from voxelight.neuro.evaluate.controls import DECODED
from voxelight.neuro.evaluate.similarity import own_correlation
from voxelight.neuro.evaluate.spoken import Spoken
from voxelight.neuro.evaluate.uncertainty import Coverage, check_retrieval, check_tokens, find_coverage

Floats = NDArray[np.floating[Any]]

FEWEST = 40
_LEVEL = 0.9
_WORDS = "rouge_l_coco"


class TokenPair(NamedTuple):
    """Decoded tokens, those of all pictures of the data set, and those of what was decoded, where they can be had."""

    predicted: ClipTokens | None
    gallery: ClipTokens | None
    shown: Floats | None


def check_coverage(
    pictures: Floats, captions: Sequence[Sequence[str]], compared: Compared, tokens: TokenPair, spoken: Spoken | None
) -> tuple[Coverage, ...]:
    """Calibrate on one half of the stimuli and check on the other; nothing with fewer than `FEWEST`.

    Parameters
    ----------
    pictures : array (seed, item, row, column, 3)
    captions : of each item, those of every seed
    compared : pixels of the pictures with those of the gallery
    tokens : predicted and true
    spoken : scores of the captions, where they were asked for
    """
    seeds, count = pictures.shape[:2]
    if count < FEWEST:
        return ()
    correlations = compared.similarity["two_way"].mean(0)
    checks = [check_retrieval(correlations, np.arange(count))]
    if tokens.predicted is not None and tokens.shown is not None:
        checks.append(check_tokens(tokens.predicted.values, tokens.shown))
    if seeds > 1:
        own = own_correlation(correlations, np.arange(count))
        agreement = agree_pictures(pictures.swapaxes(0, 1))
        checks.append(_check_agreement("pixel correlation, from agreement across seeds", agreement, own))
        if spoken is not None and _WORDS in spoken.rows[DECODED]:
            scores = np.asarray(spoken.rows[DECODED][_WORDS]).mean(0)
            agreement = agree_captions(captions, share_words)
            checks.append(_check_agreement("ROUGE-L of captions, from agreement across seeds", agreement, scores))
    return tuple(checks)


def _check_agreement(what: str, agreement: Floats, scores: Floats) -> Coverage:
    half = np.random.default_rng(0).permutation(len(scores)) < len(scores) // 2
    low, high = fit_agreement(agreement[half], scores[half]).interval(agreement[~half])
    inside = (low <= scores[~half]) & (scores[~half] <= high)
    return find_coverage(what, _LEVEL, inside, high - low)
