"""Captions of a decoding job against a named set of reference captions."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, Unavailable
from voxelight.neuro.evaluate.controls import Places
from voxelight.neuro.evaluate.metrics.captions import References
from voxelight.neuro.evaluate.spoken import Encoders, Said, Spoken, score_spoken
from voxelight.neuro.splits import Labels

_CLIP = "clip-vit-base-patch32"  # that CLIPScore is published with
Captions = Mapping[str, Sequence[str]]
_HOW = 'Write {"stimulus": ["a caption", ...], ...}.'


def read_captions(path: Path) -> dict[str, list[str]]:
    """Read reference captions, JSON of stimulus -> captions.

    Raises
    ------
    BadInput
        It is no such file.
    """
    try:
        told = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}, which can't be read ({error})", "JSON of stimulus and captions", _HOW) from error
    fits = isinstance(told, dict) and all(
        isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts) for texts in told.values()
    )
    if not fits:
        raise BadInput(f"{path} of another make", "a list of captions for every stimulus", _HOW)
    return dict(told)


class Controls(NamedTuple):
    """What control rows are made of.

    Parameters
    ----------
    trained_on : stimuli whose references are those of training pictures
    nearest : for each stimulus, the nearest training picture, where it is known
    ceiling : for each stimulus, captions of true tokens, where they were asked for
    """

    trained_on: frozenset[str]
    nearest: Labels | None
    ceiling: Sequence[Sequence[str]]


def score_captions(
    decoded: Sequence[Sequence[str]],
    ids: Labels,
    wished: tuple[str, Captions],
    controls: Controls,
    draws: tuple[Places, Sequence[Places]],
    shown: NDArray[np.float32],
    weights: Path,
) -> Spoken:
    """Score what was said of each stimulus.

    Parameters
    ----------
    decoded : for each stimulus, the caption of every seed
    ids : of the stimuli
    wished : name of the reference set, and its captions
    controls : what stands beside
    draws : orders of the null, and those of the shuffled control
    shown : array (stimulus, row, column, 3), what was seen
    weights : folder of all weights

    Raises
    ------
    BadInput
        A stimulus has no caption or no reference.
    """
    name, captions = wished
    missing = [stimulus for stimulus in ids.tolist() if not captions.get(stimulus)]
    silent = [stimulus for stimulus, texts in zip(ids.tolist(), decoded, strict=True) if not texts]
    if missing or silent:
        raise BadInput(
            f"{len(missing)} of {len(ids)} stimuli without a reference caption, {len(silent)} without a decoded one "
            f"({(missing or silent)[0]})",
            "both for every stimulus that is scored",
            "Complete the reference set, or decode as far as captions.",
        )

    def refer(stimuli: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(captions[stimulus]) for stimulus in stimuli)

    near = [] if controls.nearest is None else [captions.get(stimulus) for stimulus in controls.nearest.tolist()]
    said = Said(
        decoded=decoded,
        references=References(name, refer(ids.tolist())),
        training=refer([stimulus for stimulus in sorted(controls.trained_on) if captions.get(stimulus)]),
        nearest=tuple(texts[0] for texts in near if texts) if all(near) else (),
        ceiling=controls.ceiling,
        pictures=shown,
    )
    return score_spoken(said, *draws, encoders=_find_encoders(weights))


def _find_encoders(weights: Path) -> Encoders:
    """Return the networks that judge captions, and why one is missing."""
    from voxelight.neuro.evaluate.metrics.clip import load_clip_encoder
    from voxelight.neuro.evaluate.metrics.language import load_sentence_encoder

    found: dict[str, Any] = {}
    missing: dict[str, Unavailable] = {}
    loaders: dict[tuple[str, str], Callable[[Path], Any]] = {
        ("sentence", "sentence_similarity"): load_sentence_encoder,
        ("clip", "clip_score"): partial(load_clip_encoder, _CLIP),
    }
    for (part, score), load in loaders.items():
        try:
            found[part] = load(weights)
        except Unavailable as reason:
            missing[score] = reason
    return Encoders(**found, missing=missing)
