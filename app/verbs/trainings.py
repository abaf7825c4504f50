"""Look at trainings while they run and afterwards."""

import uuid

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from voxelight.app.schemas import JobAnswer
from voxelight.app.schemas_training import CurveAnswer, CurvePointAnswer
from voxelight.app.verbs.job_answers import answer_jobs
from voxelight.models.errors import BadInput
from voxelight.storage.curves import read_curve
from voxelight.storage.queries import find_row, refuse_limit
from voxelight.storage.schema import Job, Run
from voxelight.storage.stores import Stores

KINDS = ("train-segmenter", "train-decoder", "train-linear")


class Trainings:
    """Jobs that train."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def list(self, limit: int = 50) -> list[JobAnswer]:
        """Return the newest jobs that train.

        Raises
        ------
        BadInput
            The limit is none.
        """
        refuse_limit(limit)
        with self._stores.sessions() as session:
            query = select(Job).options(joinedload(Job.dataset), joinedload(Job.model)).where(Job.kind.in_(KINDS))
            found = session.scalars(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)).all()
            return answer_jobs(session, found)

    def read_curves(self, job_id: uuid.UUID, since: int = 0) -> "Curves":
        """Return the curve of every item of a job, in their order.

        Parameters
        ----------
        job_id : of a job that trains
        since : step from which on points are given

        Raises
        ------
        NotFound
            There is no such job.
        BadInput
            It does not train.
        """
        with self._stores.sessions() as session:
            job = find_row(session, Job, job_id)
            if job.kind not in KINDS:
                raise BadInput(f"a job of the kind {job.kind}", f"one of {', '.join(KINDS)}", "Name a training.")
            runs = session.scalars(select(Run).where(Run.job_id == job_id).order_by(Run.position))
            return [
                CurveAnswer(
                    run=run.id,
                    item=run.item_key,
                    status=run.status,
                    steps=int(job.params["steps"]),
                    points=[CurvePointAnswer(step=step, values=values)
                            for step, values in read_curve(session, run.id, since)],
                )
                for run in runs
            ]  # fmt: skip


Curves = list[CurveAnswer]
