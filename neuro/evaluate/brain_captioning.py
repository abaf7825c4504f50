"""The scores of Brain Captioning as its code computes them (Ferrante et al. 2023), beside those of the field.

None of them compares with the figures of other papers: correlation without its sign, one random picture to be told
from, and captions compared with those of GIT in place of people's. They are here to compare with that system alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from voxelight.models.errors import BadInput, Unavailable
from voxelight.neuro.evaluate.metrics.captions import Captions, score_bleu, score_meteor_nltk, score_meteor_stems
from voxelight.neuro.evaluate.metrics.pictures import correlate_pairs, score_pixels, score_structure

Pictures = NDArray[np.floating[Any]]
_WORDS = (score_bleu, score_meteor_nltk, score_meteor_stems)


@dataclass(frozen=True)
class Beside:
    """One score as its code has it, and the field's of the same kind.

    Parameters
    ----------
    own : as Brain Captioning computes it
    field : as brain-diffuser, MindEye and others do; None where there is none of the kind
    differs : in what
    """

    own: float
    field: float | None
    differs: str


def score_pictures(shown: Pictures, made: Pictures) -> dict[str, Beside]:
    """Score pictures both ways.

    Parameters
    ----------
    shown, made : array (picture, row, column, 3) in [0, 1], of one size

    Raises
    ------
    BadInput
        The pictures differ in number or size, or there are fewer than two.
    """
    if shown.shape != made.shape or shown.ndim != 4 or shown.shape[3] != 3 or len(shown) < 2:
        raise BadInput(
            f"pictures of shapes {shown.shape} and {made.shape}",
            "two or more (picture, row, column, 3) of one size",
            "Bring both to one size first.",
        )
    flat = [np.asarray(side, np.float64).reshape(len(side), -1) for side in (shown, made)]
    compare: Any = structural_similarity
    similar = [
        compare(
            one, other, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
        )
        for one, other in zip(shown, made, strict=True)
    ]
    return {
        "pixel_correlation": Beside(
            float(np.abs(correlate_pairs(*flat)).mean()),
            score_pixels(made, shown).value,
            "without its sign, so that noise scores above 0; the field's keeps it, at 425 pixels",
        ),
        "ssim": Beside(
            float(np.mean(similar)), score_structure(made, shown).value, "in colour; the field's is of grey"
        ),
    }


def identify_by_one(shown: NDArray[Any], made: NDArray[Any], seed: int = 0) -> Beside:
    """Return how often a made picture is nearer to its own than to one picture drawn at random, which may be its own.

    Parameters
    ----------
    shown, made : array (picture, feature)
    seed : of the draw
    """
    one, other = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (shown, made))
    cosine = other.astype(np.float64) @ one.astype(np.float64).T
    own, rows = np.diag(cosine), np.arange(len(cosine))
    drawn = cosine[rows, np.random.default_rng(seed).integers(len(cosine), size=len(cosine))]
    every = (own[:, None] > cosine).sum(axis=1) / (len(cosine) - 1)
    return Beside(
        float(np.mean(own > drawn)), float(every.mean()), "against one drawn picture; the field's is against all"
    )


def score_modes(decoded: Captions, ground: Captions) -> Mapping[str, Mapping[str, float]]:
    """Score captions in the three modes of the paper.

    Parameters
    ----------
    decoded : captions of brains against captions that GIT gives the pictures; the headline, ``absolute``
    ground : captions that GIT gives the pictures against people's, what is to be had at all, ``ground``

    Returns
    -------
    mode -> score -> value; ``relative`` is the first over the second. Scores that need what is not here are left out

    Raises
    ------
    BadInput
        They are of different pictures.
    """
    if len(decoded.texts) != len(ground.texts):
        raise BadInput(
            f"{len(decoded.texts)} decoded captions and {len(ground.texts)} of the pictures",
            "captions of the same pictures",
            "Give both in one order.",
        )
    found: dict[str, dict[str, float]] = {"absolute": {}, "ground": {}}
    for mode, captions in (("absolute", decoded), ("ground", ground)):
        for score in _WORDS:
            try:
                found[mode] |= {result.name: result.value for result in score(captions)}
            except Unavailable:
                continue
    found["relative"] = {name: found["absolute"][name] / value for name, value in found["ground"].items() if value}
    return found
