"""Carry a job out in this process, or watch others do it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from voxelight.app.cli.shell import INTERRUPTED, Shell
from voxelight.app.schemas import JobAnswer, RunAnswer
from voxelight.models import errors
from voxelight.models.errors import Conflict, VoxelightError

_ENDED = ("done", "failed", "cancelled")
_LOOK_S = 0.2


class JobFailed(VoxelightError):
    """A job ended with items that failed for several reasons, or in itself."""


@contextmanager
def embedded_worker(shell: Shell) -> Iterator[None]:
    """Work on the queues in this process while the block runs; jobs may as well be taken by workers elsewhere."""
    from voxelight.app.worker import claim_name, working

    with working(shell.services, name=claim_name(shell.services, "shell")):
        yield


def carry_out(shell: Shell, job: JobAnswer) -> JobAnswer:
    """Watch a job of one's own until it is over; Ctrl-C cancels it."""
    try:
        return watch(shell, job)
    except KeyboardInterrupt:
        raise _cancel(shell, job) from None


def watch(shell: Shell, job: JobAnswer) -> JobAnswer:
    """Show how far a job is until it is over."""
    with shell.progress() as progress:
        bar = progress.add_task(f"{job.recipe}: {job.status}", total=job.total)
        while True:
            job = shell.services.jobs.show(job.id)
            failed = f", {job.failed} failed" if job.failed else ""
            ended = job.done + job.failed
            state = "finishing" if job.status == "running" and ended == job.total else job.status
            progress.update(bar, completed=ended, total=job.total, description=f"{job.recipe}: {state}{failed}")
            if job.status in _ENDED:
                return job
            time.sleep(_LOOK_S)


def refuse_unfinished(shell: Shell, job: JobAnswer) -> None:
    """Raise why a job is not done, where it is not.

    Raises
    ------
    VoxelightError
        Of the class that every failed item has, so that a bad input exits as one.
    """
    if job.status == "done":
        return
    if job.status == "cancelled":
        raise Conflict(
            f"job {job.id} cancelled after {job.done} of {job.total} items", "a job that was left alone",
            f"Go on with: voxelight jobs retry {job.id}",
        )  # fmt: skip
    failed = shell.services.jobs.list_runs(job.id, "failed")
    kinds = {run.error_class for run in failed}
    kind = getattr(errors, kinds.pop(), None) if len(kinds) == 1 else None
    raise (kind or JobFailed)(
        f"{job.failed} of {job.total} items failed; {_first_reason(job, failed)}",
        "every item done",
        f"See voxelight jobs runs {job.id}; once mended: voxelight jobs retry {job.id}",
    )


def _first_reason(job: JobAnswer, failed: Sequence[RunAnswer]) -> str:
    if failed:
        run = failed[0]  # an item of a segmentation is named by its scan behind a hash that says little
        return f"{run.scan if run.item.endswith(run.scan) else run.item}: {run.error_message}"
    return job.error.partition("\n")[0] or "no reason was stored"


def _cancel(shell: Shell, job: JobAnswer) -> click.exceptions.Exit:
    try:
        job = shell.services.jobs.cancel(job.id)
    except Conflict:
        shell.note(f"Job {job.id} had ended already")
    else:
        shell.note(
            f"Cancelled job {job.id} after {job.done} of {job.total} items. Go on with: voxelight jobs retry {job.id}"
        )
    return click.exceptions.Exit(INTERRUPTED)
