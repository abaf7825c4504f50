"""Workers that die, stop for a while, or want each other's name."""

import random
import signal
import subprocess
import time
import uuid
from collections.abc import Sequence
from functools import partial

from injection.harness import OVER, Installation, Row
from injection.workload import KINDS
from sqlalchemy import func, select

from voxelight.storage.schema import Job, QueueEntry, Run

Expected = dict[str, dict[str, dict[str, str]]]
NAMES = ("north", "east", "south", "west")


def kill_at_random(
    place: Installation,
    expected: Expected,
    count: int,
    seed: int = 0,
    kinds: Sequence[str] = KINDS,
    longest_s: float = 6.0,
) -> Row:
    """Kill one of four workers again and again at random moments, until the count is reached.

    Three times of four it is one that works on a job, a random while after it was seen to; else any, which may be just
    starting. It is started again under its name. Jobs are submitted whenever all earlier ones are over, so that there
    is always something to be cut off.
    """
    rng, row = random.Random(seed), Row(f"SIGKILL of a worker ({', '.join(kinds)})")
    jobs: dict[uuid.UUID, str] = {}
    struck = rounds = 0
    began = time.monotonic()
    for name in NAMES:
        place.start(name)
    while row.injected < count:
        if not jobs or all(job.status in ("done", "failed") for job in place.watch(list(jobs)[-len(kinds) :])):
            rounds += 1
            jobs |= {job: kind for kind, job in place.submit(kinds, f"{rounds:05}").items()}
        name = rng.choice(NAMES)
        if rng.random() < 0.75:
            name = wait_for_holder(place, longest_s) or name
        time.sleep(rng.uniform(0.0, longest_s / 2))
        place.watch(list(jobs)[-len(kinds) :])
        struck += name in list_holders(place)
        place.kill(name)
        row.injected += 1
        place.start(name)
    ended = place.wait(list(jobs), seconds=300)
    row.seconds = time.monotonic() - began
    row.recovered = row.injected if ended else 0
    row.note = f"{rounds} rounds of jobs; {struck} of the workers held a job when they were killed"
    return place.close_books(row, jobs, expected)


def list_holders(place: Installation) -> list[str]:
    """Return the names of the workers that hold a job."""
    with place.services.stores.sessions() as session:
        held = session.scalars(select(QueueEntry.worker).where(QueueEntry.worker != "")).all()
        return [name for name in NAMES if any(worker.endswith(f"-{name}") for worker in held)]


def wait_for_holder(place: Installation, seconds: float) -> str | None:
    """Return a worker that holds a job, as soon as there is one."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holders := list_holders(place):
            return holders[0]
        time.sleep(0.05)
    return None


def count_running(place: Installation) -> int:
    """Return how many items are under way."""
    with place.services.stores.sessions() as session:
        return session.scalar(select(func.count()).select_from(Run).where(Run.status == "running")) or 0


def stop_and_continue(place: Installation, expected: Expected, count: int, seed: int = 1) -> Row:
    """Freeze a worker in the middle of its work, and let it go on."""
    rng, row = random.Random(seed), Row("SIGSTOP, later SIGCONT")
    worker = place.start("frozen")
    jobs = {job: kind for kind, job in place.submit(KINDS, "froze").items()}
    began = time.monotonic()
    while row.injected < count:
        place.wait(list(jobs), lambda _: count_running(place) > 0, seconds=60)
        time.sleep(rng.uniform(0, 0.5))
        worker.send_signal(signal.SIGSTOP)
        row.injected += 1
        time.sleep(rng.uniform(0.5, 8.0))
        worker.send_signal(signal.SIGCONT)
    row.recovered = row.injected if place.wait(list(jobs), seconds=180) else 0
    row.seconds = time.monotonic() - began
    return place.close_books(row, jobs, expected)


def fight_for_a_name(place: Installation, expected: Expected, count: int) -> Row:
    """Start a second worker under the name of one that lives: it must refuse, and the first go on."""
    row = Row("two workers with one name")
    place.start("only")
    jobs = {job: kind for kind, job in place.submit(KINDS[:2], "names").items()}
    place.wait(list(jobs), lambda _: count_running(place) > 0, seconds=60)
    began, first = time.monotonic(), place.workers["only"]
    for _ in range(count):
        second = place.start("only")
        place.workers["only"] = first
        row.injected += 1
        try:
            row.recovered += second.wait(60) != 0 and first.poll() is None
        except subprocess.TimeoutExpired:
            second.kill()
    if not place.wait(list(jobs), seconds=120):
        row.recovered = 0
    row.seconds = time.monotonic() - began
    row.note = "the second one refuses to start"
    return place.close_books(row, jobs, expected)


def poison(place: Installation, expected: Expected) -> Row:
    """Kill the worker each time when one item is under way: after three starts it is given up, and the rest is done."""
    row = Row("poison item, which takes its worker down each time")
    jobs = {job: kind for kind, job in place.submit(KINDS[:1], "loser").items()}
    [job] = jobs
    with place.services.stores.sessions() as session:
        bad = session.scalar(select(Run.id).where(Run.job_id == job, Run.item_key.contains("crop02")))
    began = time.monotonic()
    while row.injected < 2 * place.settings.max_attempts:
        worker, starts = place.start("victim"), _count_starts(place, bad)
        more = partial(_has_started, place, bad, starts)
        place.wait([job], lambda job, more=more: more() or job.status in OVER, seconds=90)
        if _count_starts(place, bad) > place.settings.max_attempts or not _is_open(place, bad):
            break
        worker.kill()
        worker.wait(60)
        row.injected += 1
    place.wait([job], seconds=300)
    row.seconds = time.monotonic() - began
    with place.services.stores.sessions() as session:
        run, ended = session.get_one(Run, bad), session.get_one(Job, job)
        lost = (run.status, run.error_class) == ("failed", "WorkerLost") and ended.done == ended.total - 1
    row.recovered = row.injected if lost and row.injected == place.settings.max_attempts else 0
    row.note = f"given up after {row.injected} starts as WorkerLost; the other items are done"
    return place.close_books(row, jobs, {}, allow_failed=1)


def _has_started(place: Installation, run: uuid.UUID, before: int) -> bool:
    return _count_starts(place, run) > before


def _is_open(place: Installation, run: uuid.UUID) -> bool:
    with place.services.stores.sessions() as session:
        return session.get_one(Run, run).status in ("pending", "running")


def _count_starts(place: Installation, run: uuid.UUID) -> int:
    with place.services.stores.sessions() as session:
        return session.get_one(Run, run).attempts
