"""Processes that stay: the page with the API, and workers."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from voxelight.app.cli.shell import Shell, Verb
from voxelight.models.errors import BadInput

QUEUES = ("cpu", "gpu")


@click.command(cls=Verb)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8501, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--worker/--no-worker", "with_worker", default=True, show_default=True, help="Run jobs in this process.")
@click.pass_obj
def serve(shell: Shell, host: str, port: int, with_worker: bool) -> None:
    """Open the page and the API.

    The page is at http://HOST:PORT, the API below /api/v1. There is no log-in: do not open it to a network.
    """
    from voxelight.app.web import serve as serve_web

    serve_web(shell.settings, host, port, with_worker)


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
@click.option(
    "--name", help="Name on this machine; its next worker goes on with what it left. Default: gpuN, or the queue."
)
@click.pass_obj
def worker(shell: Shell, queues: tuple[str, ...], gpu: int | None, name: str | None) -> None:
    """Run jobs of a queue until stopped.

    SIGTERM and Ctrl-C stop it; what was under way is resumed by the next worker of its name.
    """
    if gpu is not None:
        _show_only(gpu)
    from voxelight.app.worker import working

    chosen = tuple(dict.fromkeys(queues))
    name = name or (f"gpu{gpu}" if gpu is not None else "-".join(chosen))
    with _stopping() as stop, working(shell.services, chosen, name):
        shell.note(f"Worker {name} waits for jobs of {' and '.join(chosen)} (Ctrl-C stops)")
        stop.wait()
    shell.note(f"Worker {name} stopped")


def _show_only(gpu: int) -> None:
    """Hide every other card; CUDA reads this once, before torch first asks."""
    if "torch" in sys.modules:
        raise BadInput("torch already loaded", "a fresh process", "Start the worker from the shell.")
    os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
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
