"""Ask something of a finished job besides: an evaluation, or where its decoder looks. The worker does it."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from voxelight.app.actions import NO_GRID, ROLES
from voxelight.app.pipelines.inputs import ask_consent
from voxelight.app.queue import JobQueue
from voxelight.app.schemas import DECODING_NOTICE, NOTICE, Wire
from voxelight.app.schemas_exports import (
    ActionAnswer,
    ActionKind,
    ControlAnswer,
    EvaluationRequest,
    MapsEvaluationRequest,
    RelevanceRequest,
)
from voxelight.app.verbs.answers import answer_artifact
from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.storage.queries import find_dataset, find_row
from voxelight.storage.schema import Action, Artifact, Job, Run, utc_now
from voxelight.storage.stores import Stores

ACTIVE = ("queued", "running")
_DECODING = ("reconstruct", "decode")
_OF_DECODED = ("evaluate", "relevance")
_FITTING = {"evaluate": _DECODING, "evaluate-maps": ("segment",), "relevance": _DECODING}
_TITLES = {"evaluate": "evaluation", "evaluate-maps": "evaluation of label maps", "relevance": "relevance map"}


class Actions:
    """Evaluations of jobs, and relevance maps of those that decoded."""

    def __init__(self, stores: Stores, queue: JobQueue) -> None:
        self._stores = stores
        self._queue = queue

    def evaluate(self, job_id: uuid.UUID, request: EvaluationRequest) -> ActionAnswer:
        """Have a job evaluated.

        Raises
        ------
        BadInput, Conflict
            It decoded nothing, or is not done.
        """
        return self._start(job_id, "evaluate", request)

    def evaluate_maps(self, job_id: uuid.UUID, request: MapsEvaluationRequest) -> ActionAnswer:
        """Have the label maps of a job scored against references.

        Raises
        ------
        BadInput, Conflict
            It segmented nothing, or is not done; there is no such data set or other job.
        """
        with self._stores.sessions() as session:
            if request.dataset is not None:
                find_dataset(session, request.dataset)
            if request.against is not None:
                _refuse_unfit(find_row(session, Job, request.against), "evaluate-maps")
        return self._start(job_id, "evaluate-maps", request)

    def map_relevance(self, job_id: uuid.UUID, request: RelevanceRequest) -> ActionAnswer:
        """Have it mapped where the decoder of a job looks.

        Raises
        ------
        BadInput, Conflict
            It decoded nothing, its betas have no place in the head, or it is not done.
        """
        return self._start(job_id, "relevance", request)

    def show(self, job_id: uuid.UUID, kind: ActionKind) -> ActionAnswer:
        """Return the latest of a kind, with its files once it is done.

        Raises
        ------
        NotFound
            It was never asked for.
        """
        found = self.find(job_id, kind)
        if found is None:
            raise NotFound(f"no {_TITLES[kind]} of job {job_id}", "one that was asked for", "Ask for it first: POST.")
        return found

    def find(self, job_id: uuid.UUID, kind: ActionKind) -> ActionAnswer | None:
        """Return the latest of a kind, or None where it was never asked for."""
        with self._stores.sessions() as session:
            find_row(session, Job, job_id)
            action = session.scalar(select(Action).where(Action.job_id == job_id, Action.kind == kind))
            return None if action is None else _answer(session, action)

    def show_controls(self, run_id: uuid.UUID) -> ControlAnswer:
        """Return what the same decoder and generator made of the next item of the job, the first after the last.

        Raises
        ------
        NotFound
            There is no such run.
        """
        return self.find_controls([run_id])[run_id]

    def find_controls(self, run_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, ControlAnswer]:
        """Return the controls of several results, with two questions for each job."""
        with self._stores.sessions() as session:
            runs = [find_row(session, Run, run_id) for run_id in dict.fromkeys(run_ids)]
            partners: dict[uuid.UUID, Run] = {}
            for job_id in {run.job_id for run in runs}:
                partners |= _pair(session, job_id)
            wanted = [partners[run.id].id for run in runs if run.id in partners]
            files: dict[uuid.UUID, list[Artifact]] = {}
            query = select(Artifact).where(Artifact.run_id.in_(wanted), Artifact.role == "reconstruction")
            for file in session.scalars(query.order_by(Artifact.name)):
                files.setdefault(file.run_id, []).append(file)  # type: ignore[arg-type]  # it belongs to a run
            return {
                run.id: ControlAnswer(
                    result=run.id,
                    shuffled_item=partners[run.id].item_key if run.id in partners else "",
                    shuffled=[answer_artifact(file) for file in files.get(partners[run.id].id, [])]
                    if run.id in partners
                    else [],
                    notice=DECODING_NOTICE,
                )
                for run in runs
            }

    def _start(self, job_id: uuid.UUID, kind: ActionKind, request: Wire) -> ActionAnswer:
        try:
            with self._stores.sessions.begin() as session:
                job = find_row(session, Job, job_id)
                _refuse_unfit(job, kind)
                if kind in _OF_DECODED:
                    ask_consent(job.dataset)
                action = self._renew(session, job, kind, request.model_dump(mode="json"))
                return _answer(session, action)
        except IntegrityError:  # somebody else asked for the same at the same time
            return self.show(job_id, kind)

    def _renew(self, session: Session, job: Job, kind: str, options: dict[str, Any]) -> Action:
        action = session.scalar(select(Action).where(Action.job_id == job.id, Action.kind == kind))
        if action is not None and action.status in ACTIVE:
            if action.params == options:
                return action
            raise Conflict(
                f"another {_TITLES[kind]} of this job that is {action.status}",
                "one at a time",
                "Wait until it is done.",
            )
        if action is None:
            action = Action(job_id=job.id, kind=kind, params=options)
            session.add(action)
        else:
            action.attempt += 1
            action.status, action.params, action.problem = "queued", options, {}
            action.created_at, action.started_at, action.finished_at = utc_now(), None, None
        session.flush()
        self._queue.enqueue_action(session, action, job.queue)
        return action


def _refuse_unfit(job: Job, kind: str) -> None:
    if job.kind not in _FITTING[kind]:
        raise BadInput(f"a job of the kind {job.kind}", f"one of {', '.join(_FITTING[kind])}", "Choose another job.")
    if job.status != "done":
        raise Conflict(f"a job that is {job.status}", "one that is done", "Wait until it is, or retry what failed.")
    if kind == "relevance" and job.params["inputs"].get("mask") is None:
        raise BadInput(*NO_GRID)


def _pair(session: Session, job_id: uuid.UUID) -> dict[uuid.UUID, Run]:
    """Give each decoded item of a job the next one, so that none is its own control."""
    done = select(Run).join(Job, Job.id == Run.job_id).where(Run.job_id == job_id, Run.status == "done")
    runs = list(session.scalars(done.where(Job.kind.in_(_DECODING)).order_by(Run.position)))
    return {} if len(runs) < 2 else {run.id: runs[(n + 1) % len(runs)] for n, run in enumerate(runs)}


def _answer(session: Session, action: Action) -> ActionAnswer:
    files = select(Artifact).where(Artifact.job_id == action.job_id, Artifact.run_id.is_(None))
    rows = session.scalars(files.where(Artifact.role.in_(ROLES[action.kind])).order_by(Artifact.role, Artifact.name))
    return ActionAnswer(
        id=action.id,
        job=action.job_id,
        kind=action.kind,  # type: ignore[arg-type]  # only known kinds are written
        status=action.status,
        options=action.params,
        problem=action.problem if action.status == "failed" else {},
        artifacts=[answer_artifact(row) for row in rows],
        created_at=action.created_at,
        started_at=action.started_at,
        finished_at=action.finished_at,
        notice=NOTICE if action.kind == "evaluate-maps" else DECODING_NOTICE,
    )
