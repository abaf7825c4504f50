"""Decoded captions scored as BrainHub does (Xia et al. 2024): against five COCO captions of each of 982 pictures.

Word scores have high floors: a sentence that never changes beats some published decoders. So three rows stand beside
those of a decoder: its captions under the wrong pictures, one sentence for all, and a person's caption beside the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from voxelight.models.errors import BadInput, Unavailable
from voxelight.neuro.evaluate.intervals import bootstrap_mean
from voxelight.neuro.evaluate.metrics.captions import (
    Captions,
    References,
    score_bleu,
    score_cider,
    score_meteor,
    score_rouge_coco,
    score_spice,
)
from voxelight.neuro.evaluate.metrics.result import MetricResult

PICTURES, REFERENCES = 982, 5
CONSTANT = "a man is standing in front of a large building."
_SHUFFLES, _DRAWS = 20, 1000
_SLOW: tuple[Callable[[Captions], list[MetricResult]], ...] = (score_meteor, score_spice)
_FAST: tuple[Callable[[Captions], list[MetricResult]], ...] = (score_bleu, score_rouge_coco, score_cider)

Texts = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Row:
    """Scores of one way to make captions.

    Parameters
    ----------
    name : of the way
    values : score -> value, as its library gives it; BrainHub prints it times 100
    spread : score -> standard deviation over draws, where there are several
    """

    name: str
    values: Mapping[str, float]
    spread: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class CaptionBenchmark:
    """What the benchmark says of decoded captions.

    Parameters
    ----------
    pictures, references : how many pictures, and the fewest and the most references of one
    decoded : scores with their conditions
    intervals : score -> low and high of 95 % over pictures, of scores that are means over pictures
    controls : the rows beside it
    no_better : share of captions whose CIDEr is no better than the mean of shuffled ones
    missing : score -> why it could not be computed
    """

    pictures: int
    references: tuple[int, int]
    decoded: tuple[MetricResult, ...]
    intervals: Mapping[str, tuple[float, float]]
    controls: tuple[Row, ...]
    no_better: float
    missing: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether these are as many pictures and references as in published tables, which alone compare."""
        return self.pictures == PICTURES and self.references == (REFERENCES, REFERENCES)

    @property
    def notes(self) -> tuple[str, ...]:
        """What limits the scores."""
        found = []
        if not self.complete:
            found.append(
                f"{self.pictures} pictures with {self.references[0]} to {self.references[1]} references are not the "
                f"{PICTURES} with {REFERENCES} of published tables: don't compare."
            )
        found.append("Differences of CIDEr below about 4 (times 100) are noise on 982 pictures.")
        return tuple(found)


def run_benchmark(
    decoded: Mapping[str, str], references: Texts, name: str = "coco captions", seed: int = 0, slow: bool = True
) -> CaptionBenchmark:
    """Score decoded captions and the rows beside them.

    Parameters
    ----------
    decoded : picture -> caption
    references : picture -> its references; other pictures are passed over
    name : of the reference set
    seed : of the draws
    slow : whether to start the Java programs of METEOR and SPICE, where they are here

    Raises
    ------
    BadInput
        There are fewer than two pictures, one has no reference, or no caption has words.
    """
    ids = sorted(decoded)
    lacking = [one for one in ids if not references.get(one)]
    if lacking or len(ids) < 2:
        raise BadInput(
            f"{len(ids)} decoded captions, {len(lacking)} of them of pictures without references"
            f"{', such as ' + ', '.join(lacking[:3]) if lacking else ''}",
            "two or more, each with references under the same id",
            "Give both files the ids of the same pictures.",
        )
    told = tuple(decoded[one] for one in ids)
    given = References(name, tuple(tuple(references[one]) for one in ids))
    results, missing = _score(Captions(told, given), slow)
    controls, shuffled = _control(told, given, seed)
    own = next(result for result in results if result.name == "cider").scores
    clusters = np.asarray(ids, dtype=np.str_)
    counts = [len(texts) for texts in given.texts]
    return CaptionBenchmark(
        pictures=len(ids),
        references=(min(counts), max(counts)),
        decoded=tuple(results),
        intervals={
            result.name: bootstrap_mean(result.scores, clusters, _DRAWS, seed)
            for result in results
            if result.aggregate == "mean over pictures"
        },
        controls=controls,
        no_better=float(np.mean(own <= shuffled)),
        missing=missing,
    )


def _score(captions: Captions, slow: bool) -> tuple[list[MetricResult], dict[str, str]]:
    results: list[MetricResult] = []
    missing: dict[str, str] = {}
    for score in (*_FAST, *(_SLOW if slow else ())):
        try:
            results += score(captions)
        except Unavailable as reason:
            missing[score.__name__.removeprefix("score_")] = str(reason)
    return results, missing


def _control(told: tuple[str, ...], given: References, seed: int) -> tuple[tuple[Row, ...], float]:
    """Return the rows beside the decoder's, and the mean CIDEr of shuffled captions."""
    random, draws = np.random.default_rng(seed), []
    for _ in range(_SHUFFLES):
        texts = tuple(told[place] for place in random.permutation(len(told)))
        draws.append(_values(Captions(texts, given)))
    names = draws[0]
    mean = {name: float(np.mean([draw[name] for draw in draws])) for name in names}
    spread = {name: float(np.std([draw[name] for draw in draws], ddof=1)) for name in names}
    rows = [
        Row(f"shuffled, {_SHUFFLES} draws", mean, spread),
        Row(f"always: {CONSTANT}", _values(Captions((CONSTANT,) * len(told), given)), {}),
    ]
    if min(map(len, given.texts)) > 1:
        others = References(given.name, tuple(texts[1:] for texts in given.texts))
        rows.append(
            Row("a person's caption beside the others", _values(Captions(tuple(t[0] for t in given.texts), others)), {})
        )
    return tuple(rows), mean["cider"]


def _values(captions: Captions) -> dict[str, float]:
    return {result.name: result.value for score in _FAST for result in score(captions)}
