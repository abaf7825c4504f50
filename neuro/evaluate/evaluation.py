"""One evaluation: scores of one subject with every control row, guard-rail and condition, or none at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.compare import Curve, PairedTest, adjust_p
from voxelight.neuro.evaluate.conditions import Conditions
from voxelight.neuro.evaluate.controls import CONTROLS, DECODED, OF_CAPTIONS, OF_PICTURES
from voxelight.neuro.evaluate.guards import Guard, require_guards
from voxelight.neuro.evaluate.intervals import bootstrap_mean, permutation_p
from voxelight.neuro.evaluate.uncertainty import Coverage
from voxelight.neuro.splits import Labels

Floats = NDArray[np.floating[Any]]

LOW_VALIDITY = 0.3
NULL = "null"
_DRAWS = 2000


@dataclass(frozen=True)
class MetricFacts:
    """What a score means.

    Parameters
    ----------
    name : as in the tables
    title : as people call it
    about : what is scored
    higher_is_better : direction
    chance : score of a guess where that is known by arithmetic; the null row is measured either way
    validity : correlation with human ratings of the same reconstructions, where it was published
    note : preprocessing, layer, implementation: what one has to know to compare the figure
    """

    name: str
    title: str
    about: Literal["pictures", "captions", "retrieval", "brain"] = "pictures"
    higher_is_better: bool = True
    chance: float | None = None
    validity: float | None = None
    note: str = ""

    @property
    def badge(self) -> str:
        """What stands beside the name where the metric says little of what people see."""
        if self.validity is None:
            return "agreement with people unknown"
        if self.validity < LOW_VALIDITY:
            return f"agrees little with people (r = {self.validity:.2f})"
        return ""


@dataclass(frozen=True, eq=False)
class Row:
    """The scores of one way to make pictures or captions.

    Parameters
    ----------
    name : ``decoded``, a key of `CONTROLS`, or another baseline
    scores : metric -> array (seed, picture)
    absent : why there are no scores, a sentence; empty where there are some
    """

    name: str
    scores: Mapping[str, Floats] = field(default_factory=dict)
    absent: str = ""


@dataclass(frozen=True, eq=False)
class Column:
    """Pictures of one kind, for a grid.

    Parameters
    ----------
    title : e.g. ``from betas``
    pictures : array (item, seed, row, column, channel), float in [0, 1]; None where there are none
    absent : why not
    """

    title: str
    pictures: NDArray[np.float32] | None = None
    absent: str = ""


@dataclass(frozen=True, eq=False)
class Grid:
    """Stimuli beside what was made of them; every seed is shown.

    Parameters
    ----------
    title : heading
    ids : array (item,)
    columns : Column
    captions : what was decoded in words, those of each seed, item by item
    """

    title: str
    ids: Labels
    columns: tuple[Column, ...]
    captions: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Line:
    """One figure of the summary.

    Parameters
    ----------
    row, metric : which
    value : mean over pictures and seeds; of the null, over draws
    low, high : 95 % bootstrap interval over pictures; of the null, its 2.5 and 97.5 percentiles
    by_seed : mean of every seed
    p, q : of the decoded row against the null; q over all metrics (Benjamini and Hochberg), over regions for those of
        the brain
    n : pictures, or draws of the null
    """

    row: str
    metric: str
    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    p: float | None
    q: float | None
    n: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All that a report shows.

    Parameters
    ----------
    title : heading
    conditions : Conditions
    metrics : MetricFacts of every score
    stimulus_ids : array (picture,)
    clusters : array (picture,), what the bootstrap draws whole
    rows : ``decoded`` and every control row, with scores or with the reason why not
    nulls : metric -> array (draw,), means over pictures of the decoded row with stimuli permuted
    guards : one record each of `GUARDS`
    grids, curves, coverages, tests : where there are any
    provenance : what it was made with
    notes : what limits the scores, one sentence each

    Raises
    ------
    BadInput
        A guard-rail, a control row, a seed or a score is missing.
    """

    title: str
    conditions: Conditions
    metrics: tuple[MetricFacts, ...]
    stimulus_ids: Labels
    clusters: Labels
    rows: tuple[Row, ...]
    nulls: Mapping[str, Floats]
    guards: tuple[Guard, ...]
    grids: tuple[Grid, ...] = ()
    curves: tuple[Curve, ...] = ()
    coverages: tuple[Coverage, ...] = ()
    tests: tuple[PairedTest, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "guards", require_guards(self.guards))
        if self.nulls and NULL not in {row.name for row in self.rows}:
            object.__setattr__(self, "rows", (*self.rows, Row(NULL)))
        self._check_rows()
        object.__setattr__(self, "metrics", order_metrics(self.metrics))
        object.__setattr__(self, "rows", tuple(sorted(self.rows, key=_place_row)))

    def _check_rows(self) -> None:
        names = [row.name for row in self.rows]
        wanted = OF_CAPTIONS if any(metric.about == "captions" for metric in self.metrics) else OF_PICTURES
        missing = [name for name in (DECODED, *wanted) if name not in names]
        silent = [row.name for row in self.rows if not row.scores and not row.absent and row.name != NULL]
        if missing or silent or len(set(names)) < len(names) or not self.metrics:
            raise BadInput(
                f"an evaluation with the rows {', '.join(names)}; missing {missing}, without scores or reason {silent}",
                f"each of {', '.join((DECODED, *wanted))} once, with scores or with the reason why there are none",
                "Add the row, or say in `absent` why it can't be had; the report then shows the reason.",
            )
        if NULL in missing or (not self.nulls and not self.find_row(NULL).absent):
            raise BadInput("an evaluation without a null", "draws of the null, or why there are none", "Add them.")
        known = {metric.name for metric in self.metrics}
        for row in self.rows:
            for name, scores in row.scores.items():
                if name not in known or scores.ndim != 2 or scores.shape[1] != len(self.stimulus_ids):
                    raise BadInput(
                        f"scores {name} of shape {scores.shape} in the row {row.name}",
                        f"(seed, {len(self.stimulus_ids)}) of one of {', '.join(sorted(known))}",
                        "Score every picture, seed by seed.",
                    )
        seeds = {scores.shape[0] for scores in self.find_row(DECODED).scores.values()}
        if seeds != {self.conditions.seeds}:
            raise BadInput(
                f"scores of {sorted(seeds)} seeds where the conditions say {self.conditions.seeds}",
                "the scores of every seed",
                "Show all samples and never the best one alone.",
            )

    def find_row(self, name: str) -> Row:
        """Return the row of this name."""
        return {row.name: row for row in self.rows}[name]

    def find_metric(self, name: str) -> MetricFacts:
        """Return the metric of this name."""
        return {metric.name: metric for metric in self.metrics}[name]


def order_metrics(metrics: Sequence[MetricFacts]) -> tuple[MetricFacts, ...]:
    """Return metrics that agree most with people first, those of unknown agreement after, those of little last."""

    def place(metric: MetricFacts) -> tuple[int, float]:
        if metric.validity is None:
            return (1, 0.0)
        return (2 if metric.validity < LOW_VALIDITY else 0, -metric.validity)

    return tuple(sorted(metrics, key=place))


def summarise(evaluation: Evaluation, seed: int = 0) -> tuple[Line, ...]:
    """Return one line for every row and metric, metric by metric.

    The gallery is fixed: pictures are drawn with their scores, which stay what they are. Drawing the gallery as well
    would put a picture among its own distractors.

    Parameters
    ----------
    evaluation : Evaluation
    seed : of the bootstrap
    """
    p = {metric.name: _find_p(evaluation, metric) for metric in evaluation.metrics}
    q: dict[str, float] = {}
    for brain in (False, True):  # regions are a family of their own
        tested = [m.name for m in evaluation.metrics if (m.about == "brain") is brain and p[m.name] is not None]
        adjusted = adjust_p(np.array([p[name] for name in tested], np.float64))
        q |= dict(zip(tested, adjusted.tolist(), strict=True))
    lines = []
    for metric in evaluation.metrics:
        for row in evaluation.rows:
            name = metric.name
            if row.name == NULL and name in evaluation.nulls:
                lines.append(_describe_null(name, evaluation.nulls[name]))
            elif name in row.scores:
                scores = row.scores[name]
                low, high = bootstrap_mean(scores.mean(0), evaluation.clusters, _DRAWS, seed)
                by_seed = tuple(float(value) for value in scores.mean(1))
                tests = (p[name], q.get(name)) if row.name == DECODED else (None, None)
                lines.append(Line(row.name, name, float(scores.mean()), low, high, by_seed, *tests, n=scores.shape[1]))
    return tuple(lines)


def _find_p(evaluation: Evaluation, metric: MetricFacts) -> float | None:
    scores = evaluation.find_row(DECODED).scores.get(metric.name)
    null = evaluation.nulls.get(metric.name)
    if scores is None or null is None:
        return None
    sign = 1 if metric.higher_is_better else -1
    return permutation_p(sign * float(scores.mean()), sign * np.asarray(null))


def _describe_null(name: str, draws: Floats) -> Line:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Line(NULL, name, float(np.mean(draws)), float(low), float(high), (), None, None, n=len(draws))


def _place_row(row: Row) -> int:
    order = [DECODED, *CONTROLS]
    return order.index(row.name) if row.name in order else len(order)
