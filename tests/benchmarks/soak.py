"""Half an hour of small jobs, and what grows meanwhile: `python tests/benchmarks/soak.py --minutes 30`.

Serves the API, works with one worker, submits a job every second or so and asks for it, and every half minute counts
memory, open files and threads of both processes, rows of the engine that are not over, and the log of the database.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from load import REQUEST, end, fill, start, wait_for
from sqlalchemy import text

from voxelight.app.books import audit
from voxelight.app.bootstrap import open_services
from voxelight.app.services import Services
from voxelight.app.settings import Settings

_OPEN = "SELECT (SELECT count(*) FROM queue_entry) + (SELECT count(*) FROM workflow_status WHERE status = 'PENDING')"


def look(processes: dict[str, Any], services: Services, began: float) -> dict[str, Any]:
    """Count what must not grow."""
    found: dict[str, Any] = {"minute": round((time.monotonic() - began) / 60, 2)}
    for name, process in processes.items():
        seen = psutil.Process(process.pid)
        found |= {
            f"{name}_mib": round(seen.memory_info().rss / 2**20, 1),
            f"{name}_files": seen.num_fds(),
            f"{name}_threads": seen.num_threads(),
        }
    with services.stores.engine.connect() as connection:
        found["open_workflows"] = connection.scalar(text(_OPEN))
    home = services.settings.home
    wal = home / "voxelight.sqlite-wal"
    found["wal_mib"] = round(wal.stat().st_size / 2**20, 2) if wal.exists() else 0.0
    found["spool_files"] = sum(1 for path in services.settings.spool.rglob("*") if path.is_file())
    return found


def soak(asked: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Work until the end, and return every look and the books."""
    environment = {"VOXELIGHT_HOME": str(home), "OMP_NUM_THREADS": "1"}
    services, url = open_services(Settings(home=home)), f"http://127.0.0.1:{asked.port}"
    fill(services, home)
    processes: dict[str, Any] = {}
    looks: list[dict[str, Any]] = []
    jobs: list[str] = []
    try:
        processes["api"] = start(
            "serve", "--no-worker", "--port", str(asked.port), environment=environment, log=home / "api.log"
        )
        wait_for(url)
        processes["worker"] = start("worker", "--queue", "cpu", environment=environment, log=home / "worker.log")
        began, next_look = time.monotonic(), 0.0
        with httpx.Client(base_url=url, timeout=60) as client:
            while time.monotonic() - began < 60 * asked.minutes:
                job = client.post("/api/v1/jobs", json=REQUEST).raise_for_status().json()
                jobs.append(job["id"])
                # One after the other, so that the queue does not grow by more than is worked off.
                while client.get(f"/api/v1/jobs/{job['id']}").raise_for_status().json()["status"] != "done":
                    time.sleep(0.25)
                client.get("/api/v1/results", params={"limit": 20}).raise_for_status()
                if time.monotonic() - began >= next_look:
                    looks.append(look(processes, services, began) | {"jobs": len(jobs)})
                    print(json.dumps(looks[-1]), file=sys.stderr, flush=True)
                    next_look += asked.every
        time.sleep(2)
        looks.append(look(processes, services, began))
        services.sweep(older_than_s=-1)
        books = [f"{each.what}: {each.found}" for each in audit(services, older_than_s=0, deep=True)]
    finally:
        end(processes)
        services.close()
    return {"jobs": len(jobs), "minutes": asked.minutes, "cores": os.cpu_count(), "books": books, "looks": looks}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--minutes", type=float, default=30)
    asked.add_argument("--every", type=float, default=30, help="seconds between two looks")
    asked.add_argument("--port", type=int, default=8792)
    asked.add_argument("--out", type=Path)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="vx-soak-") as folder:
        found = json.dumps(soak(options, Path(folder)), indent=1)
    if options.out:
        options.out.write_text(found + "\n")
    print(found)


if __name__ == "__main__":
    main()
