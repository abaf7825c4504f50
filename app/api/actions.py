"""Evaluations and relevance maps of finished jobs over HTTP: ask for one, look whether it is there."""

import uuid

from fastapi import APIRouter

from voxelight.app.api.dependencies import Door
from voxelight.app.schemas_exports import (
    ActionAnswer,
    ControlAnswer,
    EvaluationRequest,
    MapsEvaluationRequest,
    RelevanceRequest,
)

router = APIRouter(tags=["evaluation"])


@router.post("/jobs/{job_id}/evaluation", status_code=202)
def evaluate_job(services: Door, job_id: uuid.UUID, request: EvaluationRequest) -> ActionAnswer:
    """Have a job that decoded evaluated: scores with interval, null and control rows; asked twice, it is done once."""
    return services.actions.evaluate(job_id, request)


@router.get("/jobs/{job_id}/evaluation")
def show_evaluation(services: Door, job_id: uuid.UUID) -> ActionAnswer:
    """Show how far the evaluation of a job is, and its files once it is done."""
    return services.actions.show(job_id, "evaluate")


@router.post("/jobs/{job_id}/evaluation/maps", status_code=202)
def evaluate_maps(services: Door, job_id: uuid.UUID, request: MapsEvaluationRequest) -> ActionAnswer:
    """Have the label maps of a job scored against references or corrections; asked twice, it is done once."""
    return services.actions.evaluate_maps(job_id, request)


@router.get("/jobs/{job_id}/evaluation/maps")
def show_maps_evaluation(services: Door, job_id: uuid.UUID) -> ActionAnswer:
    """Show how far the evaluation of label maps is, and its files once it is done."""
    return services.actions.show(job_id, "evaluate-maps")


@router.post("/jobs/{job_id}/relevance", status_code=202)
def map_relevance(services: Door, job_id: uuid.UUID, request: RelevanceRequest) -> ActionAnswer:
    """Have it mapped where in the brain the decoder of a job looks; asked twice, it is done once."""
    return services.actions.map_relevance(job_id, request)


@router.get("/jobs/{job_id}/relevance")
def show_relevance(services: Door, job_id: uuid.UUID) -> ActionAnswer:
    """Show how far the relevance maps of a job are, and their files once they are done."""
    return services.actions.show(job_id, "relevance")


@router.get("/results/{run_id}/controls")
def show_controls(services: Door, run_id: uuid.UUID) -> ControlAnswer:
    """Show what the same decoder made of another stimulus, to be put beside a decoded picture."""
    return services.actions.show_controls(run_id)
