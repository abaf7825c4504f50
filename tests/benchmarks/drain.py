"""What the engine costs an item: many queued items, worked off by one worker: `python tests/benchmarks/drain.py`.

The items are reconstructions of single stimuli of simulated betas, the lightest that the product does. The cost of the
engine is the time of the worker less that spent in the pipeline, which opens its inputs, does the items and draws the
figures of the whole job, and less the describing of results for the search by likeness: what is left takes up, claims,
stores files, writes down, closes, beats and looks at queues. Times are of the wall and of the processor. `--empty`
leaves the pipeline out, whose figures for 100,000 items take hours.
"""

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from sqlalchemy import func, select

from voxelight.app.bootstrap import open_services
from voxelight.app.pipelines.reconstruct import OpenReconstruction
from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.app.services import Services
from voxelight.app.settings import Settings
from voxelight.app.verbs.vectors import Vectors
from voxelight.app.worker import working
from voxelight.storage.results import JobOutcome, Outcome, OutputFile
from voxelight.storage.schema import Job, Run

STIMULI = 16  # of a data set, one item each: as many as the recipe has folds
_WARM = 10  # items


class Clock:
    """Seconds of wall and of processor spent in some calls."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        wall, processor = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.wall += time.perf_counter() - wall
            self.processor += time.thread_time() - processor

    def watch(self, owner: Any, name: str) -> None:
        """Time a function, or each step of one that yields."""
        timed = getattr(owner, name)

        def called(*args: Any, **more: Any) -> Any:
            with self.running():
                given = timed(*args, **more)
            return self._step(given) if isinstance(given, Iterator) else given

        setattr(owner, name, called)

    def _step(self, items: Iterator[Any]) -> Iterator[Any]:
        while True:
            with self.running():
                item = next(items, None)
            if item is None:
                return
            yield item


def give_little(_: Any, runs: Sequence[Run], go_on: Callable[[], None]) -> Iterator[tuple[Run, Outcome]]:
    """Compute nothing and give a file for each item, so that what is measured is the engine."""
    for run in runs:
        go_on()
        content = f"{run.job_id} {run.item_key}".encode()
        yield run, Outcome((OutputFile("prediction", f"{run.item_key}.txt", "text/plain", content),), {"nothing": True})


def make_betas() -> bytes:
    """Few voxels, few pixels, two repeats."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 2, (STIMULI, 4)).astype(float)
    shown = np.tile(np.arange(STIMULI), 2)
    betas = pictures[shown] @ rng.normal(size=(4, 8)) + rng.normal(size=(len(shown), 8))
    content = io.BytesIO()
    scipy.io.savemat(content, {"fmriTrn": betas, "stimTrn": pictures[shown], "labelTrn": np.ones((len(shown), 1))})
    return content.getvalue()


def count(services: Services) -> dict[str, int]:
    with services.stores.sessions() as session:
        return dict(session.execute(select(Run.status, func.count()).group_by(Run.status)).all())


def _wait(services: Services, until: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not until() and time.monotonic() < deadline:
        time.sleep(1.0)


def _is_open(services: Services) -> bool:
    with services.stores.sessions() as session:
        return bool(session.scalar(select(func.count(Job.id)).where(Job.status.in_(("queued", "running")))))


def drain(asked: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Queue, work off until the time or the items are over, and return what that took."""
    if asked.empty:
        OpenReconstruction.run_items = give_little  # type: ignore[assignment,method-assign]
        OpenReconstruction.finish = lambda _self, _runs: JobOutcome()  # type: ignore[method-assign]
    pipeline, likeness = Clock(), Clock()
    for name in ("__init__", "run_items", "finish"):
        pipeline.watch(OpenReconstruction, name)
    likeness.watch(Vectors, "embed_run")
    services = open_services(Settings(home=home, poll_s=0.02, database_url=asked.database))
    services.datasets.create(DatasetRequest(name="betas", consent="simulated", purpose="a benchmark", simulated=True))
    services.scans.ingest(io.BytesIO(make_betas()), ScanRequest(name="betas.mat", dataset="betas"))
    request = JobRequest(
        kind="reconstruct", recipe="miyawaki-ridge", dataset="betas", queue="cpu", options={"permutations": 0}
    )
    began = time.perf_counter()
    queued = 0
    while queued < asked.items:
        queued += services.jobs.submit(request).total
    queued_s = time.perf_counter() - began
    with working(services, ("cpu",)):
        _wait(services, lambda: count(services).get("done", 0) >= _WARM, 3600)
        # Loading of libraries and networks is paid once, not by the item.
        first = count(services).get("done", 0)
        for clock in (pipeline, likeness):
            clock.wall = clock.processor = 0.0
        began, cpu = time.perf_counter(), time.process_time()
        _wait(services, lambda: not _is_open(services), 60 * asked.minutes)
        took, used, counts = time.perf_counter() - began, time.process_time() - cpu, count(services)
    services.close()
    done = counts.get("done", 0) - first
    engine = Clock()
    engine.wall = took - pipeline.wall - likeness.wall
    engine.processor = used - pipeline.processor - likeness.processor

    return {
        "pipeline": "empty" if asked.empty else "miyawaki-ridge",
        "queued": queued,
        "queueing_ms_an_item": round(1000 * queued_s / queued, 3),
        "done": done,
        "failed": counts.get("failed", 0),
        "seconds": round(took, 1),
        "ms_an_item": {
            name: {
                "wall": round(1000 * clock.wall / max(done, 1), 2),
                "processor": round(1000 * clock.processor / max(done, 1), 2),
            }
            for name, clock in (("engine", engine), ("pipeline", pipeline), ("likeness", likeness))
        },
        "cores": os.cpu_count(),
        "load": [round(each, 1) for each in os.getloadavg()],
    }


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--items", type=int, default=100_000)
    asked.add_argument("--empty", action="store_true", help="with a pipeline that computes nothing and gives a file")
    asked.add_argument("--minutes", type=float, default=600, help="stop after so long, with what is done by then")
    asked.add_argument("--database", default="", help="URL; SQLite without one")
    options = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="vx-drain-") as folder:
        print(json.dumps(drain(options, Path(folder)), indent=1))


if __name__ == "__main__":
    main()
