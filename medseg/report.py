"""An evaluation as one HTML page that asks nobody for anything, as JSON, and as CSV."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from math import isnan
from typing import Any

from voxelight.medseg.charts import draw_reliability, draw_strips, draw_volumes
from voxelight.medseg.compare import PairedTest
from voxelight.medseg.detection import Counts, count_patients, rates_by_volume
from voxelight.medseg.evaluate import Interval
from voxelight.medseg.evaluation import (
    FOUND_ABOVE,
    METRICS,
    Evaluation,
    LabelSummary,
    find_lesions,
    find_patients,
    find_scores,
)
from voxelight.medseg.lesions import LEAST_VOXELS, lesions_by_volume
from voxelight.medseg.metrics import CaseScores, LabelScores
from voxelight.medseg.reliability import BAND_MM, Reliability
from voxelight.models.pages import read_style

NOTICE = "Not for clinical use."
FORMAT = "voxelight-segmentation-evaluation/1"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_COLUMNS = ("case", "person", "label", "presence", "dice", "iou", "nsd", "hd95_mm", "found_ml", "reference_ml",
            "volume_error_ml", "volume_error_percent", "ece", "ece_border")  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_RATES = ("recall", "precision", "specificity", "f1")
_LEAST_ML = 0.1
_TESTS = {"wilcoxon": "Wilcoxon over persons", "nadeau_bengio": "corrected t over folds"}
_NO_LABEL = {"both": "in both", "missed": "missed", "invented": "found where there is none", "neither": "in neither"}


def write_json(evaluation: Evaluation) -> str:
    """Return the whole evaluation; what is not there is null."""
    content = {
        "format": FORMAT,
        "title": evaluation.title,
        "notice": NOTICE,
        "tolerance_mm": evaluation.tolerance_mm,
        "labels": [asdict(summary) for summary in evaluation.labels],
        "detection": _find_detection(evaluation),
        "lesions": {
            label: {name: asdict(counts) | counts.rates() for name, counts in bins.items()}
            for label, bins in _find_lesions(evaluation).items()
        },
        "calibration": {
            "everywhere": _describe(evaluation.reliability),
            "border": _describe(evaluation.border),
            "band_mm": BAND_MM,
        },
        "other": evaluation.other,
        "tests": {
            label: {metric: [asdict(test) for test in tests] for metric, tests in metrics.items()}
            for label, metrics in evaluation.tests.items()
        },
        "cases": [
            {
                "case": case.case,
                "person": case.person,
                "labels": {name: _list_scores(scores) for name, scores in case.labels.items()},
                "ece": case.reliability.ece if case.reliability else None,
                "ece_border": case.border.ece if case.border and case.border.voxels.any() else None,
            }
            for case in evaluation.cases
        ],
        "left_out": evaluation.left_out,
        "conditions": evaluation.conditions,
        "provenance": evaluation.provenance,
        "seed": evaluation.seed,
    }
    return json.dumps(content, indent=2, allow_nan=False)


def write_csv(evaluation: Evaluation) -> str:
    """Return a line for each label of each case; what is not there is empty."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(_COLUMNS)
    for case in evaluation.cases:
        for label, scores in case.labels.items():
            row = {"case": _tame(case.case), "person": _tame(case.person), "label": _tame(label)}
            row |= {name: _plain(value) for name, value in _list_scores(scores).items()}
            row["ece"] = _plain(case.reliability.ece if case.reliability else None)
            row["ece_border"] = _plain(case.border.ece if case.border and case.border.voxels.any() else None)
            table.writerow([row[name] for name in _COLUMNS])
    return buffer.getvalue()


def write_page(evaluation: Evaluation) -> str:
    """Return the report as HTML."""
    sections = (
        ("Scores", _write_scores(evaluation)),
        (f"Against {evaluation.other}", _write_tests(evaluation)) if evaluation.tests else None,
        ("Detection", _write_detection(evaluation)),
        ("Lesion by lesion", _write_lesions(evaluation)),
        ("Volumes", _write_volumes(evaluation)),
        ("Calibration", _write_calibration(evaluation)) if evaluation.reliability else None,
        ("Cases, the worst first", _write_cases(evaluation)),
        ("Cases that could not be scored", _write_terms(evaluation.left_out.items())) if evaluation.left_out else None,
        ("Conditions", _write_terms(evaluation.conditions.items())),
        ("Provenance", _write_terms((name, str(value)) for name, value in evaluation.provenance.items())),
    )
    body = "".join(f"<section><h2>{escape(each[0])}</h2>{each[1]}</section>" for each in sections if each)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(evaluation.title)}</title><style>{read_style()}</style></head><body>"
        f'<header><h1>{escape(evaluation.title)}</h1><p class="notice">{NOTICE}</p></header>'
        f"<main>{body}</main><footer><p>{NOTICE}</p></footer></body></html>\n"
    )


def _write_scores(evaluation: Evaluation) -> str:
    shown = [name for name in METRICS if any(name in summary.scores for summary in evaluation.labels)]
    rows = [
        (METRICS[name] + (f" at {evaluation.tolerance_mm:g} mm" if name == "nsd" else ""),
         *(_say_interval(summary.scores.get(name)) for summary in evaluation.labels))
        for name in shown
    ]  # fmt: skip
    rows.append(("Cases", *(_say_presence(summary) for summary in evaluation.labels)))
    persons = len({case.person for case in evaluation.cases})
    caption = (
        f"{len(evaluation.cases)} cases of {persons} persons. Means over persons with 95 % bootstrap intervals over "
        "persons. Cases in which neither map holds a label are left out; a case that is missed, or found where there "
        "is none, counts with Dice 0 and the diagonal of the image."
    )
    figure = draw_strips(
        [
            (summary.label, list(find_scores(evaluation.cases, summary.label, "dice").values()), summary.scores["dice"])
            for summary in evaluation.labels
            if "dice" in summary.scores
        ],
        "Dice of each case, with mean and interval",
    )
    return _table(caption, ("Score", *(summary.label for summary in evaluation.labels)), rows) + figure


def _write_tests(evaluation: Evaluation) -> str:
    rows = [
        (label, METRICS[metric], _say_test(test), f"{test.p:.3g}", _TESTS[test.test], str(test.pairs))
        for label, metrics in evaluation.tests.items()
        for metric, tests in metrics.items()
        for test in tests
    ]
    caption = "This run minus the other, on the cases that both have."
    return _table(caption, ("Label", "Score", "Difference, 95 %", "p", "Test", "Pairs"), rows)


def _write_detection(evaluation: Evaluation) -> str:
    rows = []
    for label, found in _find_detection(evaluation).items():
        rates = [f"{found['rates'][name]:.3f}" for name in _RATES]
        bins = [f"{name}: {each['recall']:.3f} of {each['patients']:.0f}" for name, each in found["by_volume"].items()]
        rows.append((label, *rates, "; ".join(bins)))
    caption = (
        f"A case is found where its Dice is above {FOUND_ABOVE:g} and its reference above {_LEAST_ML:g} ml (Bouget et "
        "al. 2021). Recall by volume of the reference."
    )
    return _table(caption, ("Label", *(name.capitalize() for name in _RATES), "Recall by volume"), rows)


def _find_detection(evaluation: Evaluation) -> dict[str, Any]:
    found = {}
    for summary in evaluation.labels:
        patients = find_patients(evaluation.cases, summary.label)
        counts = count_patients(patients, "tp", _LEAST_ML, FOUND_ABOVE)
        there = {
            name: {key: None if isnan(value) else float(value) for key, value in rates.items()}
            for name, rates in rates_by_volume(patients, volume_ml=_LEAST_ML, cut_off=FOUND_ABOVE).items()
            if rates["patients"]
        }
        numbers = {name: int(count) for name, count in asdict(counts).items()}
        rates = {name: float(rate) for name, rate in counts.rates().items()}
        found[summary.label] = {"counts": numbers, "rates": rates, "by_volume": there}
    return found


def _write_lesions(evaluation: Evaluation) -> str:
    rows = [
        (f"{label}, {name}", *(f"{counts.rates()[rate]:.3f}" for rate in ("f1", "recall", "precision")),
         str(counts.tp + counts.fn), str(counts.fn), str(counts.fp))
        for label, bins in _find_lesions(evaluation).items()
        for name, counts in bins.items()
    ]  # fmt: skip
    caption = (
        f"A lesion is what hangs together by faces, of {LEAST_VOXELS} voxels or more; drawn and found ones are matched "
        f"one to one, and a pair counts above a Dice of {FOUND_ABOVE:g} (Bouget et al. 2021). Bins are by the volume "
        "of the drawn lesion, and of the found one where nothing was drawn."
    )
    head = ("Label, volume of a lesion", "F1", "Recall", "Precision", "Drawn", "Missed", "Found where there is none")
    return _table(caption, head, rows)


def _find_lesions(evaluation: Evaluation) -> dict[str, dict[str, Counts]]:
    return {
        summary.label: lesions_by_volume(find_lesions(evaluation.cases, summary.label), cut_off=FOUND_ABOVE)
        for summary in evaluation.labels
    }


def _write_volumes(evaluation: Evaluation) -> str:
    cards = []
    for summary in evaluation.labels:
        there = [case.labels[summary.label] for case in evaluation.cases if summary.label in case.labels]
        figure = draw_volumes([(each.found_ml, each.reference_ml) for each in there], summary.label)
        cards.append(f'<section class="card"><h3>{escape(summary.label)}</h3>{figure}</section>')
    return f'<p class="muted">Rings: cases where one of the two is empty.</p><div class="cards">{"".join(cards)}</div>'


def _write_calibration(evaluation: Evaluation) -> str:
    cards = []
    for title, part in (
        ("Every voxel", evaluation.reliability),
        (f"Within {BAND_MM:g} mm of a border of the reference", evaluation.border),
    ):
        if part is not None and part.voxels.any():
            cards.append(
                f'<section class="card"><h3>{title}</h3><p>Expected calibration error {part.ece:.4f}, '
                f"{int(part.voxels.sum())} voxels</p>{draw_reliability(part, title)}</section>"
            )
    return f'<div class="cards">{"".join(cards)}</div>'


def _write_cases(evaluation: Evaluation) -> str:
    rows = [
        (case.case, case.person, label, _NO_LABEL[scores.presence], *map(_short, (
            scores.dice, scores.iou, scores.nsd, scores.hd95_mm, scores.found_ml, scores.reference_ml)))
        for case, label, scores in sorted(_list_rows(evaluation), key=_badness)
    ]  # fmt: skip
    head = ("Case", "Person", "Label", "There", "Dice", "IoU", "NSD", "HD95, mm", "Found, ml", "Reference, ml")
    return _table("", head, rows)


def _list_rows(evaluation: Evaluation) -> Iterable[tuple[CaseScores, str, LabelScores]]:
    return ((case, label, scores) for case in evaluation.cases for label, scores in case.labels.items())


def _badness(row: tuple[CaseScores, str, LabelScores]) -> tuple[float, str]:
    return (2.0 if row[2].dice is None else row[2].dice, row[0].case)


def _write_terms(terms: Iterable[tuple[str, str]]) -> str:
    said = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in terms)
    return f"<dl>{said}</dl>" if said else "<p>None recorded.</p>"


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    told = escape(caption or head[0], quote=True)
    return (
        f"{f'<p>{escape(caption)}</p>' if caption else ''}"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{told}"><table>'
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _say_interval(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _say_presence(summary: LabelSummary) -> str:
    return ", ".join(f"{count} {_NO_LABEL[name]}" for name, count in summary.presence.items() if count)


def _say_test(test: PairedTest) -> str:
    return f"{test.difference:+.4f} [{test.low:+.4f}, {test.high:+.4f}]"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _list_scores(scores: LabelScores) -> dict[str, Any]:
    return asdict(scores) | {
        "volume_error_ml": scores.volume_error_ml,
        "volume_error_percent": scores.volume_error_percent,
    }


def _describe(reliability: Reliability | None) -> dict[str, Any] | None:
    if reliability is None or not reliability.voxels.any():
        return None
    lists = {name: getattr(reliability, name).tolist() for name in ("voxels", "certainty", "right")}
    return {"ece": reliability.ece, **lists}


def _plain(value: Any) -> str:
    return "" if value is None else str(value)


def _tame(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
