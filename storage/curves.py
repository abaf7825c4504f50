"""The curve of a training that runs as a job, in the database, where every door sees it while it grows."""

import uuid
from collections.abc import Sequence

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from voxelight.storage.schema import CurvePoint
from voxelight.storage.stores import Stores

_POINTS = 500  # of a curve, at most about so many


class RunCurve:
    """The curve of one run: the means over stretches of steps.

    Parameters
    ----------
    stores : where it is kept
    run_id : the run
    steps : of the training in all
    """

    def __init__(self, stores: Stores, run_id: uuid.UUID, steps: int) -> None:
        self._stores, self._run_id = stores, run_id
        self._every = max(1, steps // _POINTS)
        self._pending: list[dict[str, float]] = []

    def write(self, rows: list[dict[str, float]]) -> None:
        """Add rows, each with its ``step``."""
        points = []
        for row in rows:
            self._pending.append(row)
            if (int(row["step"]) + 1) % self._every == 0:
                points.append({"run_id": self._run_id, "step": int(row["step"]), "values": _average(self._pending)})
                self._pending = []
        if points:
            with self._stores.sessions.begin() as session:
                session.execute(insert(CurvePoint), points)

    def rewind(self, step: int) -> None:
        """Forget the stretches that end at this step or later."""
        self._pending = []
        with self._stores.sessions.begin() as session:
            session.execute(delete(CurvePoint).where(CurvePoint.run_id == self._run_id, CurvePoint.step >= step))


def read_curve(session: Session, run_id: uuid.UUID, since: int = 0) -> Sequence[tuple[int, dict[str, float]]]:
    """Return the points of a run from a step on: the last step of each stretch, and the means over it."""
    query = select(CurvePoint.step, CurvePoint.values).where(CurvePoint.run_id == run_id, CurvePoint.step >= since)
    return [(step, values) for step, values in session.execute(query.order_by(CurvePoint.step))]


def _average(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each value over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row if name != "step")
    found = {name: [row[name] for row in rows if name in row] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}
