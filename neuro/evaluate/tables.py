"""An evaluation as JSON and as CSV, for other programs."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from voxelight.neuro.evaluate.controls import BASELINES, CONTROLS
from voxelight.neuro.evaluate.evaluation import Evaluation, summarise
from voxelight.neuro.evaluate.guards import GUARDS

NOTICE = "Model estimate, not a photograph of thought. Not for clinical use."
SIMULATED = "SIMULATED: the betas were made by a model, nobody was scanned."
RANDOM_WEIGHTS = "RANDOM WEIGHTS: nothing was learnt, so pictures and scores mean nothing."
FORMAT = "voxelight-evaluation/1"

_COLUMNS = ("level", "metric", "row", "stimulus", "seed", "value", "low", "high", "p", "q", "n", "marks")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def find_marks(evaluation: Evaluation) -> list[str]:
    """Return what must stand on every form of the report."""
    conditions = evaluation.conditions
    return [SIMULATED] * conditions.simulated + [RANDOM_WEIGHTS] * conditions.random_weights


def write_json(evaluation: Evaluation) -> str:
    """Return the whole evaluation without its pictures; what is not a number is null."""
    content = {
        "format": FORMAT,
        "title": evaluation.title,
        "notice": NOTICE,
        "marks": find_marks(evaluation),
        "conditions": evaluation.conditions.model_dump(),
        "guards": [asdict(guard) | {"rule": GUARDS[guard.name]} for guard in evaluation.guards],
        "metrics": [asdict(metric) | {"badge": metric.badge} for metric in evaluation.metrics],
        "rows": [
            {"name": row.name, "meaning": (CONTROLS | BASELINES).get(row.name, ""), "absent": row.absent}
            for row in evaluation.rows
        ],
        "scores": [asdict(line) for line in summarise(evaluation)],
        "stimuli": evaluation.stimulus_ids.tolist(),
        "by_picture": {row.name: row.scores for row in evaluation.rows if row.scores},
        "null": evaluation.nulls,
        "curves": [asdict(curve) for curve in evaluation.curves],
        "coverage": [asdict(coverage) | {"holds": coverage.holds} for coverage in evaluation.coverages],
        "paired_tests": [asdict(test) for test in evaluation.tests],
        "captions": {
            name: list(said) for grid in evaluation.grids for name, said in zip(grid.ids, grid.captions, strict=False)
        },
        "provenance": evaluation.provenance,
        "notes": list(evaluation.notes),
    }
    return json.dumps(_plain(content), indent=2, allow_nan=False)


def write_csv(evaluation: Evaluation) -> str:
    """Return means (level ``mean``) and the score of every picture and seed (level ``picture``), one a line."""
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, _COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    marks = " ".join(find_marks(evaluation))
    for line in summarise(evaluation):
        told = {name: value for name, value in asdict(line).items() if name != "by_seed" and value is not None}
        table.writerow({"level": "mean", "marks": marks} | told)
    for row in evaluation.rows:
        for metric, scores in row.scores.items():
            for (seed, place), score in np.ndenumerate(scores):
                stimulus = _tame(str(evaluation.stimulus_ids[place]))
                told = {"metric": metric, "row": row.name, "stimulus": stimulus, "seed": seed, "value": float(score)}
                table.writerow({"level": "picture", "marks": marks} | told)
    return buffer.getvalue()


def _tame(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)
