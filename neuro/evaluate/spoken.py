"""Captions scored beside every control row: another picture's caption, one sentence for all, the commonest one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput, Unavailable
from voxelight.neuro.evaluate.controls import DECODED, Places, constant_caption, most_frequent_caption
from voxelight.neuro.evaluate.evaluation import MetricFacts
from voxelight.neuro.evaluate.metrics.captions import (
    WORD_SCORES,
    Captions,
    References,
    score_cider,
)
from voxelight.neuro.evaluate.metrics.result import MetricResult
from voxelight.neuro.evaluate.metrics.table import METRICS

Floats = NDArray[np.floating[Any]]
Told = Sequence[Sequence[str]]

_NULL_DRAWS, _SHUFFLES, _CANDIDATES = 99, 3, 20
# Another program is started for each: too slow for a null.
_SLOW = ("spice", "meteor_1_5")
_FAST = tuple(name for name in WORD_SCORES if name not in _SLOW)


@dataclass(frozen=True, eq=False)
class Spoken:
    """What a report shows of captions.

    Parameters
    ----------
    metrics : what the scores mean, each with its reference set
    rows : row -> metric -> array (seed, item)
    absent : row -> why it has no scores
    nulls : metric -> array (draw,)
    notes : what limits the scores
    """

    metrics: tuple[MetricFacts, ...]
    rows: Mapping[str, Mapping[str, Floats]]
    absent: Mapping[str, str]
    nulls: Mapping[str, Floats]
    notes: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True, eq=False)
class Said:
    """Captions of every way to make them.

    Parameters
    ----------
    decoded : for each item, the caption of every seed
    references : of the same items
    training : references of the training pictures; empty where there are none
    nearest : for each item, a caption of the nearest training picture; empty where it is not known
    ceiling : captions of true tokens; empty where they were not asked for
    pictures : array (item, row, column, 3), what was seen, for CLIPScore
    """

    decoded: Told
    references: References
    training: tuple[tuple[str, ...], ...] = ()
    nearest: tuple[str, ...] = ()
    ceiling: Told = ()
    pictures: Floats | None = None


@dataclass(frozen=True)
class Encoders:
    """Networks that judge captions, as far as they can be had.

    Parameters
    ----------
    sentence : `metrics.language.TextEncoder`
    clip : `metrics.language.ImageTextEncoder`
    missing : score -> why it can't be computed
    """

    sentence: Any = None
    clip: Any = None
    missing: Mapping[str, Unavailable] = field(default_factory=dict)


def score_spoken(said: Said, orders: Places, others: Sequence[Places], encoders: Encoders = Encoders()) -> Spoken:
    """Score captions by every word score that can be had here, by sentence similarity and by CLIPScore.

    Parameters
    ----------
    said : captions and references
    orders : array (draw, item), which item's references stand in for whose; the first draws make the null
    others : orders in which no caption stays with its picture
    encoders : networks

    Raises
    ------
    BadInput
        Items have different numbers of captions.
    """
    seeds = {len(texts) for texts in said.decoded}
    if len(seeds) != 1 or not min(seeds):
        raise BadInput(f"{sorted(seeds)} captions of one item", "as many for each", "Decode every item alike.")
    shuffled = [[said.decoded[place] for place in order] for order in others[:_SHUFFLES]]
    told = {
        DECODED: _by_seed(said.decoded),
        "shuffled_betas": [texts for each in shuffled for texts in _by_seed(each)],
        "generator_ceiling": _by_seed(said.ceiling),
        "nearest_training": [list(said.nearest)] if said.nearest else [],
        "constant_caption": _repeat(said, _find_constant(said.training)),
        "most_frequent_caption": _repeat(said, _find_most_frequent(said.training)),
    }
    judge = _Judge(said, encoders)
    results, missing = judge.score(told[DECODED][0], (*_FAST, *_SLOW))
    found = _score_rows(told, judge, [name for name in _SLOW if name not in missing])
    notes = [f"{name} could not be computed: {reason}" for name, reason in (missing | dict(encoders.missing)).items()]
    whole = [f"{METRICS[r.name].title} {r.value:.3f}" for r in results if r.aggregate == "whole set"]
    if whole:
        notes.append(f"Of the whole set, which is no mean over pictures (first seed): {', '.join(whole)}.")
    absent = {name: _REASONS[name] for name, texts in told.items() if not texts}
    metrics = tuple(_describe(result) for result in results)
    return Spoken(metrics, found, absent, _draw_null(told[DECODED][0], judge, orders), tuple(notes))


_REASONS = {
    "generator_ceiling": "Captions of true tokens were not asked for: --ceiling makes them.",
    "nearest_training": "No training picture with a reference caption is at hand.",
    "constant_caption": "No reference caption of a training picture is at hand.",
    "most_frequent_caption": "No reference caption of a training picture is at hand.",
}


class _Judge:
    """References and pictures of the items, and what scores captions against them."""

    def __init__(self, said: Said, encoders: Encoders) -> None:
        self.references, self._pictures, self._encoders = said.references, said.pictures, encoders

    def score(
        self, texts: Sequence[str], names: Sequence[str] = _FAST, order: Places | None = None
    ) -> tuple[list[MetricResult], dict[str, Unavailable]]:
        """Score captions; with an order, against the references and pictures of other items."""
        places = range(len(texts)) if order is None else order.tolist()
        references = References(self.references.name, tuple(self.references.texts[place] for place in places))
        captions = Captions(tuple(texts), references)
        results: list[MetricResult] = []
        missing: dict[str, Unavailable] = {}
        for name in names:
            try:
                results += WORD_SCORES[name](captions)
            except Unavailable as reason:
                missing[name] = reason
        if self._encoders.sentence is not None:
            from voxelight.neuro.evaluate.metrics.language import score_similarity

            results.append(score_similarity(captions, self._encoders.sentence))
        if self._encoders.clip is not None and self._pictures is not None:
            from voxelight.neuro.evaluate.metrics.language import score_clip

            results += score_clip(captions, self._pictures[list(places)], self._encoders.clip)
        return results, missing


def _score_rows(
    told: Mapping[str, Sequence[Sequence[str]]], judge: _Judge, slow: Sequence[str]
) -> dict[str, dict[str, Floats]]:
    """Return row -> metric -> array (seed, item)."""
    found = {
        name: [{each.name: each.scores for each in judge.score(texts)[0]} for texts in rows]
        for name, rows in told.items()
        if rows
    }
    # One start of another program for all rows: it scores each sentence by itself.
    every = [texts for rows in told.values() for texts in rows]
    many = References(judge.references.name, judge.references.texts * len(every))
    for name in slow:
        [result] = WORD_SCORES[name](Captions(tuple(text for texts in every for text in texts), many))
        parts = iter(np.split(result.scores, len(every)))
        for row, texts in told.items():
            for seed in range(len(texts)):
                found[row][seed][result.name] = next(parts)
    return {
        name: {metric: np.stack([each[metric] for each in seeds]) for metric in seeds[0]}
        for name, seeds in found.items()
    }


def _draw_null(texts: Sequence[str], judge: _Judge, orders: Places) -> dict[str, Floats]:
    """Score captions against the references of other items, whole items exchanged."""
    drawn = [judge.score(texts, order=order)[0] for order in orders[:_NULL_DRAWS]]
    means = [{result.name: float(result.scores.mean()) for result in results} for results in drawn]
    return {name: np.array([mean[name] for mean in means]) for name in (means[0] if means else {})}


def _by_seed(told: Told) -> list[list[str]]:
    """Return the captions of each seed, item by item."""
    return [list(texts) for texts in zip(*told, strict=True)]


def _repeat(said: Said, text: str | None) -> list[list[str]]:
    return [] if text is None else [[text] * len(said.decoded)]


def _find_most_frequent(training: Sequence[Sequence[str]]) -> str | None:
    return most_frequent_caption([text for texts in training for text in texts]) if training else None


def _find_constant(training: Sequence[Sequence[str]]) -> str | None:
    """Return the best sentence by CIDEr-D against the references of the training pictures, of the commonest ones."""
    if len(training) < 2:
        return None
    every = [text for texts in training for text in texts]
    common = sorted(set(every), key=lambda text: (-every.count(text), text))[:_CANDIDATES]
    references = References("training", tuple(map(tuple, training)))
    try:
        return constant_caption(
            common, lambda text: score_cider(Captions((text,) * len(training), references))[0].value
        )
    except Unavailable:
        return None


def _describe(result: MetricResult) -> MetricFacts:
    conditions, row = result.conditions, result.row
    how = "; ".join(filter(None, (conditions.preprocessing, conditions.implementation, conditions.network)))
    note = f"Against {conditions.reference_set}. {how}. Mean over pictures. {row.validity}"
    return MetricFacts(result.name, row.title, "captions", row.higher_is_better, result.chance, row.agreement, note)
