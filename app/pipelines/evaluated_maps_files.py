"""An evaluation of label maps as files of their job, with the scores of each case beside its run."""

import uuid
from typing import Any

from voxelight.app.pipelines.evaluated_maps import Scored, Stored, Wishes, compare, pair_job, score_pairs
from voxelight.app.schemas_exports import MapsEvaluationRequest
from voxelight.medseg.evaluation import Evaluation
from voxelight.medseg.report import write_csv, write_json, write_page
from voxelight.storage.results import JobOutcome, OutputFile, Score
from voxelight.storage.stores import Stores

_UNITS = {"dice": "", "iou": "", "nsd": "", "hd95_mm": "mm", "volume_error_ml": "ml"}


def make_evaluation(stores: Stores, job_id: uuid.UUID, options: dict[str, Any], device: str) -> JobOutcome:
    """Score the label maps of a finished job: see `evaluated_maps`.

    Parameters
    ----------
    stores : where the job lies
    job_id : which
    options : fields of `MapsEvaluationRequest`
    device : not needed
    """
    request = MapsEvaluationRequest(**options)
    wishes = Wishes(
        tolerance_mm=request.tolerance_mm,
        seed=request.seed,
        missing_as_empty=request.missing == "empty",
        labels=request.labels,
        regions=request.regions,
    )
    references = Stored(request.dataset) if request.references == "stored" else None
    found = pair_job(stores, job_id, references, wishes)
    evaluation = score_pairs(found, wishes)
    if request.against is not None:
        evaluation = compare(
            evaluation, score_pairs(pair_job(stores, request.against, references, wishes), wishes), wishes
        )
    page, data, table = write_page(evaluation), write_json(evaluation), write_csv(evaluation)
    return JobOutcome(
        files=(
            OutputFile("maps_evaluation", "evaluation.html", "text/html; charset=utf-8", page.encode()),
            OutputFile("maps_evaluation_data", "evaluation.json", "application/json", data.encode()),
            OutputFile("maps_evaluation_table", "evaluation.csv", "text/csv; charset=utf-8", table.encode()),
        ),
        run_scores=_score_runs(found, evaluation),
    )


def _score_runs(found: Scored, evaluation: Evaluation) -> dict[uuid.UUID, tuple[Score, ...]]:
    scores, scored = {}, {case.case: case for case in evaluation.cases}
    for pair in found.pairs:
        case = scored.get(pair.case)
        if pair.run is not None and case is not None:
            scores[pair.run] = tuple(
                Score(name, float(value), label=label, unit=unit)
                for label, row in case.labels.items()
                for name, unit in _UNITS.items()
                if (value := getattr(row, name)) is not None
            )
    return scores
