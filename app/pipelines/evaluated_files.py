"""An evaluation as files of its job, and its scores picture by picture beside the runs."""

import uuid
from typing import Any

import numpy as np
from sqlalchemy import select

from voxelight.app.pipelines.evaluated import Wishes, evaluate
from voxelight.app.schemas_exports import EvaluationRequest
from voxelight.neuro.evaluate.controls import DECODED
from voxelight.neuro.evaluate.evaluation import Evaluation
from voxelight.neuro.evaluate.page import write_page
from voxelight.neuro.evaluate.tables import write_csv, write_json
from voxelight.storage.results import JobOutcome, OutputFile, Score
from voxelight.storage.schema import Job, Reconstruction, Run
from voxelight.storage.stores import Stores


def make_evaluation(stores: Stores, job_id: uuid.UUID, options: dict[str, Any], device: str) -> JobOutcome:
    """Evaluate a finished job: see `evaluated.evaluate`.

    Parameters
    ----------
    stores : where the job lies
    job_id : which
    options : fields of `EvaluationRequest`
    device : where to generate the ceiling, if it is asked for
    """
    request = EvaluationRequest(**options)
    wishes = Wishes(
        betas=request.betas,
        sessions=request.sessions,
        test_set=request.test_set,
        permutations=request.permutations,
        networks=request.networks,
        ceiling=request.ceiling,
        device=device,
        captions=(request.caption_set, request.captions) if request.captions else None,
        regions=request.regions,
    )
    evaluation = evaluate(stores, job_id, wishes)
    return JobOutcome(
        files=(
            OutputFile("evaluation", "evaluation.html", "text/html; charset=utf-8", write_page(evaluation).encode()),
            OutputFile("evaluation_data", "evaluation.json", "application/json", write_json(evaluation).encode()),
            OutputFile("evaluation_table", "evaluation.csv", "text/csv; charset=utf-8", write_csv(evaluation).encode()),
        ),
        run_scores=_score_runs(stores, job_id, evaluation),
    )


def _score_runs(stores: Stores, job_id: uuid.UUID, evaluation: Evaluation) -> dict[uuid.UUID, tuple[Score, ...]]:
    """Return the scores of each picture, with those of the control rows for the same picture in `detail`."""
    with stores.sessions() as session:
        decoded = select(Reconstruction.run_id, Reconstruction.stimulus_id).join(Run, Run.id == Reconstruction.run_id)
        pairs = session.execute(decoded.where(Run.job_id == job_id).distinct()).all()
        one_each = session.get_one(Job, job_id).kind == "decode"
    places = {name: place for place, name in enumerate(evaluation.stimulus_ids.tolist())}
    found: dict[uuid.UUID, tuple[Score, ...]] = {}
    for run_id, stimulus in pairs:
        if stimulus in places:
            scores = _score_picture(evaluation, places[stimulus], "" if one_each else stimulus)
            found[run_id] = found.get(run_id, ()) + scores
    return found


def _score_picture(evaluation: Evaluation, place: int, label: str) -> tuple[Score, ...]:
    scores = []
    for name, table in evaluation.find_row(DECODED).scores.items():
        values = table[:, place]
        controls = {
            row.name: float(row.scores[name][:, place].mean())
            for row in evaluation.rows
            if row.name != DECODED and name in row.scores
        }
        if name in evaluation.nulls:
            controls["null"] = float(np.mean(evaluation.nulls[name]))
        detail = {"seeds": [float(value) for value in values], "controls": controls}
        if np.isfinite(values).all() and all(map(np.isfinite, controls.values())):
            scores.append(Score(name, float(values.mean()), label=label, detail=detail))
    return tuple(scores)
