"""An evaluation of many cases: every score by person with its interval, and against another run where there is one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voxelight.medseg.compare import PairedTest, find_fold_differences, nadeau_bengio, wilcoxon
from voxelight.medseg.detection import PatientScore
from voxelight.medseg.evaluate import Interval, mean_by_person
from voxelight.medseg.lesions import Lesions
from voxelight.medseg.metrics import CaseScores, LabelScores
from voxelight.medseg.reliability import Reliability, pool
from voxelight.models.errors import BadInput

METRICS = {
    "dice": "Dice",
    "dice_tp": "Dice of cases that were found",
    "iou": "IoU",
    "nsd": "Normalised surface distance",
    "hd95_mm": "HD95, mm",
    "volume_error_ml": "Volume error, ml",
    "volume_error_percent": "Volume error, %",
    "absolute_volume_error_percent": "Absolute volume error, %",
}
FOUND_ABOVE = 0.1
COMPARED = ("dice", "iou", "nsd", "hd95_mm", "volume_error_ml")


@dataclass(frozen=True)
class LabelSummary:
    """One label over all cases.

    Parameters
    ----------
    label : name
    presence : how many cases have the label in `both` maps, `missed`, `invented`, or in `neither`; the last are left
        out of every mean
    scores : name of `METRICS` -> mean over persons with its 95 % interval; those that no case has are left out
    """

    label: str
    presence: dict[str, int]
    scores: dict[str, Interval]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What many cases score.

    Parameters
    ----------
    title : what was evaluated
    tolerance_mm : of the normalised surface distance
    cases : one at least
    labels : in the order of the reference
    reliability, border : of the voxels of all cases; None where a case has no confidence
    tests : label -> metric -> tests against another run
    other : its title
    conditions : what was compared with what, in words
    provenance : of the run
    seed : of the bootstrap
    left_out : case -> why it could not be scored
    """

    title: str
    tolerance_mm: float
    cases: tuple[CaseScores, ...]
    labels: tuple[LabelSummary, ...]
    reliability: Reliability | None = None
    border: Reliability | None = None
    tests: dict[str, dict[str, list[PairedTest]]] = field(default_factory=dict)
    other: str = ""
    conditions: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


def evaluate_cases(
    cases: Sequence[CaseScores], title: str, tolerance_mm: float, seed: int = 0, found_above: float = FOUND_ABOVE
) -> Evaluation:
    """Put the scores of cases together.

    Parameters
    ----------
    cases : of `metrics.score_case`
    title : what was evaluated
    tolerance_mm : that they were scored with
    seed : of the bootstrap over persons
    found_above : Dice above which a case counts as found, for the Dice of those

    Raises
    ------
    BadInput
        There is no case, or one name is there twice.
    """
    names = Counter(case.case for case in cases)
    twice = [name for name, count in names.items() if count > 1]
    if not cases or twice:
        raise BadInput(f"{len(cases)} cases{f', {twice[0]} twice' if twice else ''}", "at least one, each once",
                       "Check the folders.")  # fmt: skip
    labels = tuple(_summarise(label, cases, seed, found_above) for label in _list_labels(cases))
    parts = [case.reliability for case in cases], [case.border for case in cases]
    return Evaluation(title, tolerance_mm, tuple(cases), labels, pool(parts[0]), pool(parts[1]), seed=seed)


def find_scores(
    cases: Sequence[CaseScores], label: str, metric: str, found_above: float = FOUND_ABOVE
) -> dict[str, float]:
    """Return ``case -> score`` of the cases that have it."""
    found = {case.case: _read(case.labels[label], metric, found_above) for case in cases if label in case.labels}
    return {case: value for case, value in found.items() if value is not None}


def find_patients(cases: Sequence[CaseScores], label: str) -> list[PatientScore]:
    """Return what patient-wise detection is counted from, a case a patient."""
    there = [case.labels[label] for case in cases if label in case.labels]
    return [PatientScore(each.dice or 0.0, each.reference_ml, each.found_ml) for each in there]


def find_lesions(cases: Sequence[CaseScores], label: str) -> list[Lesions]:
    """Return the lesions of every case that has the label."""
    return [case.labels[label].lesions for case in cases if label in case.labels]


def compare_runs(
    ours: Evaluation, theirs: Evaluation, folds: Sequence[Sequence[str]] = ()
) -> dict[str, dict[str, list[PairedTest]]]:
    """Test ours against another run over the cases that both have.

    Parameters
    ----------
    ours, theirs : evaluations of the same references
    folds : held-out cases of each fold of a cross-validation; with two or more, the corrected t-test is added

    Returns
    -------
    label -> metric -> tests

    Raises
    ------
    BadInput
        No case is in both.
    """
    person_of = {case.case: case.person for case in ours.cases}
    found: dict[str, dict[str, list[PairedTest]]] = {}
    for label in (summary.label for summary in ours.labels):
        for metric in COMPARED:
            pair = find_scores(ours.cases, label, metric), find_scores(theirs.cases, label, metric)
            shared = pair[0].keys() & pair[1].keys()
            if shared:
                first, second = ({case: side[case] for case in sorted(shared)} for side in pair)
                found.setdefault(label, {})[metric] = _test(first, second, person_of, folds, ours.seed)
    if not found:
        raise BadInput("no case that both runs were scored on", "the same cases", "Evaluate both on one reference.")
    return found


def _test(
    first: Mapping[str, float],
    second: Mapping[str, float],
    person_of: Mapping[str, str],
    folds: Sequence[Sequence[str]],
    seed: int,
) -> list[PairedTest]:
    tests = [wilcoxon(first, second, person_of, seed)]
    if len(folds) > 1:
        held_out = sum(map(len, folds)) / len(folds)
        differences = find_fold_differences(first, second, folds)
        tests.append(nadeau_bengio(differences, held_out, held_out * (len(folds) - 1)))
    return tests


def _list_labels(cases: Sequence[CaseScores]) -> list[str]:
    return list(dict.fromkeys(label for case in cases for label in case.labels))


def _summarise(label: str, cases: Sequence[CaseScores], seed: int, found_above: float) -> LabelSummary:
    person_of = {case.case: case.person for case in cases}
    presence = Counter(case.labels[label].presence for case in cases if label in case.labels)
    scores = {metric: find_scores(cases, label, metric, found_above) for metric in METRICS}
    return LabelSummary(
        label,
        {name: presence.get(name, 0) for name in ("both", "missed", "invented", "neither")},
        {metric: mean_by_person(values, person_of, seed) for metric, values in scores.items() if values},
    )


def _read(scores: LabelScores, metric: str, found_above: float) -> float | None:
    if metric == "dice_tp":
        return scores.dice if scores.dice is not None and scores.dice > found_above else None
    if metric == "absolute_volume_error_percent":
        return None if scores.volume_error_percent is None else abs(scores.volume_error_percent)
    value: float | None = getattr(scores, metric)
    return value
