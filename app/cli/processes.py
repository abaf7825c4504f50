"""Processes that stay: the page with the API, and workers."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType

import click

from voxelight.app.cli.shell import Shell, Verb
from voxelight.models.errors import BadInput, Conflict, Unavailable

QUEUES = ("cpu", "gpu")
_LOOK_S = 0.5
_SILENT = 4  # times as long as others wait before they take its work over


@click.command(cls=Verb)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8501, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--worker/--no-worker", "with_worker", default=True, show_default=True, help="Run jobs in this process.")
@click.option("--page/--no-page", default=True, show_default=True, help="Serve the page beside the API.")
@click.option(
    "--processes", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes that answer for the API."
)
@click.pass_obj
def serve(shell: Shell, host: str, port: int, with_worker: bool, page: bool, processes: int) -> None:
    """Open the page and the API.

    The page is at http://HOST:PORT, the API below /api/v1. Where others than this machine can reach HOST, it asks
    everybody who they are, or doesn't start: VOXELIGHT_AUTH=keys, and accounts by `voxelight access`.
    """
    from voxelight.app.web import serve as serve_web

    serve_web(shell.settings, host, port, with_worker, page, processes)


@click.command(cls=Verb)
@click.option(
    "--queue",
    "queues",
    multiple=True,
    required=True,
    type=click.Choice(QUEUES),
    help="Queue to work on; repeat for both.",
)
@click.option("--gpu", type=click.IntRange(min=0), help="Number of the only graphics card that this process sees.")
@click.option("--name", help="Name on this machine, of one living worker at a time. Default: gpuN, or the queue.")
@click.option("--until-empty", is_flag=True, help="End once nothing waits on the queues, as a job of a cluster does.")
@click.option(
    "--check", is_flag=True, help="Work on nothing: say whether the worker of this name on this machine lives."
)
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Serve metrics for Prometheus on this port.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address for them; they hold no content.")
@click.pass_obj
def worker(
    shell: Shell,
    /,
    queues: tuple[str, ...],
    gpu: int | None,
    name: str | None,
    until_empty: bool,
    check: bool,
    metrics_port: int | None,
    metrics_host: str,
) -> None:
    """Run jobs of a queue until stopped.

    SIGTERM and Ctrl-C stop it after the batch that it is at; other workers of the queue go on with its job, as they do
    when it dies.
    """
    chosen = tuple(dict.fromkeys(queues))
    name = name or (f"gpu{gpu}" if gpu is not None else "-".join(chosen))
    if check:
        _check(shell, name)
        return
    if gpu is not None:
        _show_only(gpu)
    # Before it signs in: its libraries hold every thread up while they load, and silence is taken for death.
    import_module("torch")
    from voxelight.app.metrics import serve_metrics
    from voxelight.app.watched import begin_watching
    from voxelight.app.worker import working

    begin_watching(shell.settings)
    with (
        stopping() as stop,
        serve_metrics(shell.services, metrics_port, metrics_host),
        working(shell.services, chosen, name) as presence,
    ):
        shell.note(f"Worker {name} waits for jobs of {' and '.join(chosen)} (Ctrl-C stops)")
        while not (stop.wait(_LOOK_S) or presence.gone.is_set()):
            if until_empty and _is_empty(shell, chosen, presence.name):
                break
    if presence.gone.is_set():
        raise Conflict(f"another living worker named {name}", "one of a name", "Start this one with another --name.")
    shell.note(f"Worker {name} stopped")


def _is_empty(shell: Shell, queues: tuple[str, ...], worker: str) -> bool:
    """Whether nothing waits that some worker could take, and this one has nothing in hand."""
    from sqlalchemy import func, select

    from voxelight.storage.schema import QueueEntry

    waits = (QueueEntry.worker == "") & (QueueEntry.problem == "")
    due = select(func.count()).where(QueueEntry.queue.in_(queues), waits | (QueueEntry.worker == worker))
    with shell.services.stores.sessions() as session:
        return not session.scalar(due)


def _check(shell: Shell, name: str) -> None:
    """End with an error unless a worker has said within the last seconds that it lives."""
    from voxelight.storage.database import open_engine, open_sessions
    from voxelight.storage.schema import Worker
    from voxelight.storage.workers import ALIVE, database_seconds

    engine, full = open_engine(shell.settings.resolved_database_url), f"{socket.gethostname()}-{name}"
    with open_sessions(engine)() as session:
        row = session.get(Worker, full)
        silent_s = database_seconds(session) - row.seen_s if row else 0.0
    engine.dispose()
    if row is None or row.state not in ALIVE or silent_s > _SILENT * shell.settings.silent_s:
        said = f"{row.state}, silent for {silent_s:.0f} s" if row else "never seen"
        raise Unavailable(f"no living worker {full}: {said}", "one that beats", "Start it again.")
    shell.note(f"{row.name}: {row.state}")


def _show_only(gpu: int) -> None:
    """Hide every other card; CUDA reads this once, before torch first asks."""
    if "torch" in sys.modules:
        raise BadInput("torch already loaded", "a fresh process", "Start the worker from the shell.")
    os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set while the block runs."""
    event = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        event.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
