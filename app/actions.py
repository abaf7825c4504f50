"""What the worker does beside jobs: evaluate a finished one, or map where its decoder looks. Each kind names its maker.

A maker takes the stores, a job, the options of the request and a device, and gives files and scores.
"""

import traceback
import uuid
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from voxelight.models.errors import VoxelightError
from voxelight.storage.actions import record_action, record_problem
from voxelight.storage.results import JobOutcome
from voxelight.storage.schema import Action, utc_now
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.app.services import Services

Maker = Callable[[Stores, uuid.UUID, dict[str, Any], str], JobOutcome]

ACTIONS = {
    "evaluate": "voxelight.app.pipelines.evaluated_files:make_evaluation",
    "evaluate-maps": "voxelight.app.pipelines.evaluated_maps_files:make_evaluation",
    "relevance": "voxelight.app.pipelines.relevance:make_relevance",
}
ROLES = {
    "evaluate": ("evaluation", "evaluation_data", "evaluation_table"),
    "evaluate-maps": ("maps_evaluation", "maps_evaluation_data", "maps_evaluation_table"),
    "relevance": ("relevance", "relevance_map", "relevance_facts"),
}
_STARTS = "starts"  # counted where the reason of a failure stands later
NO_GRID = (
    "betas without a grid: a .mat names no voxel's place in the head",
    "betas as a 4-D NIfTI image with a mask",
    "Upload betas, mask and events as NIfTI, and decode these.",
)


def run_action(services: "Services", action_id: uuid.UUID) -> str:
    """Do what was asked and write it down; return how it ended.

    A repeated call does it again and stores it in place of the first. Of an action that went with its job, nothing is
    done.
    """
    stores = services.stores
    with stores.sessions.begin() as session:
        action = session.get(Action, action_id)
        if action is None or action.status == "cancelled":
            return "cancelled"
        starts = int(action.problem.get(_STARTS, 0)) + 1
        action.status, action.started_at, action.problem = "running", utc_now(), {_STARTS: starts}
        job_id, kind, options = action.job_id, action.kind, dict(action.params)
    if starts > services.settings.max_attempts:
        record_problem(stores, action_id, _describe_lost(starts - 1))
        return "failed"
    try:
        outcome = _find_maker(kind)(stores, job_id, options, services.settings.device)
        record_action(stores, action_id, outcome, ROLES[kind])
    except Exception as error:  # a worker outlives whatever it meets
        record_problem(stores, action_id, _describe(error))
        return "failed"
    return "done"


def _describe_lost(starts: int) -> dict[str, str]:
    return {
        "found": f"{starts} starts that ended with the worker",
        "expected": "an end by itself",
        "remedy": "Look for too little memory, or try it on another machine.",
    }


def _find_maker(kind: str) -> Maker:
    module, name = ACTIONS[kind].split(":")
    maker: Maker = getattr(import_module(module), name)
    return maker


def _describe(error: Exception) -> dict[str, str]:
    if isinstance(error, VoxelightError):
        return {"found": error.found, "expected": error.expected, "remedy": error.remedy}
    return {
        "found": f"{type(error).__name__}: {error}",
        "expected": "an answer",
        "remedy": "Try again; if it stays, report it with the traceback.",
        "traceback": traceback.format_exc(limit=-20),
    }
