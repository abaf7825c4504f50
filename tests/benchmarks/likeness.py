"""Search by likeness over HTTP among a million stored embeddings: exact, and by the graph of pgvector."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
from million import open_writer
from numpy.typing import NDArray
from sqlalchemy import Engine, func, insert, select
from vectors import CLUSTERS, blocks, draw

from voxelight.storage.schema import Embedding, EmbeddingSpace, Run, utc_now

K, TIMES, WARM, CHECKED = 10, 60, 3, 20
ALL, FEW = "bench", "bench-graph"
Vectors = NDArray[np.float16]


def fill_embeddings(engine: Engine, name: str, rows: int, dim: int) -> float:
    """Write one vector a run into a space, drawn from clusters; return the seconds, 0 where it is there already."""
    before = time.perf_counter()
    with engine.begin() as connection:
        known = connection.scalar(select(EmbeddingSpace.id).where(EmbeddingSpace.name == name))
        if known is not None:
            return 0.0
        made = insert(EmbeddingSpace).values(name=name, kind="picture", dim=dim, changes=1, removals=0)
        space = connection.execute(made.returning(EmbeddingSpace.id)).scalar_one()
    owners = find_owners(engine, rows)
    at = utc_now().strftime("%Y-%m-%d %H:%M:%S.%f")
    with open_writer(engine) as write:
        for numbers, vectors in draw_vectors(rows, dim):
            there = [owners[number - 1] for number in numbers.tolist()]
            write(
                "embedding",
                [
                    (space, run.hex, "reconstruction", "", scan.hex, run.hex, vector.astype("<f2").tobytes(), at)
                    for (run, scan), vector in zip(there, vectors, strict=True)
                ],
            )
    return round(time.perf_counter() - before, 1)


def find_owners(engine: Engine, rows: int) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Return run and scan of the first runs by their ids, in the order of their vectors."""
    with engine.connect() as connection:
        found = connection.execute(select(Run.id, Run.scan_id).order_by(Run.id).limit(rows)).all()
    assert len(found) == rows, f"{len(found)} runs for {rows} vectors"
    return [(run, scan) for run, scan in found]


def draw_vectors(rows: int, dim: int) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
    """Draw the vectors of a space, the same ones each time, block by block; numbered from 1."""
    centres = draw(np.random.default_rng(1), np.zeros((1, dim), np.float32), CLUSTERS)
    yield from blocks(3, centres, rows)


def measure_exact(client: httpx.Client, engine: Engine, rows: int, dim: int) -> dict[str, Any]:
    """Time the ten nearest of a stored result among all, and compare with NumPy over all vectors."""
    owners = find_owners(engine, rows)
    before = time.perf_counter()
    ask(client, owners[0][0], ALL)  # the index is built from the rows at the first question
    built = time.perf_counter() - before
    chosen = np.random.default_rng(4).choice(rows, TIMES + WARM, replace=False)
    answers, times = ask_all(client, owners, chosen, ALL)
    true = compare_all(chosen[WARM:][:CHECKED], rows, dim)
    same = sum(
        answer == {owners[number][0] for number in nearest} for answer, nearest in zip(answers, true, strict=False)
    )
    return {
        "vectors": rows,
        "dim": dim,
        "first_question_with_the_building_of_the_index_s": round(built, 1),
        "query": summarise(times),
        "answers_equal_to_numpy": f"{same} of {len(true)}",
    }


def build_graph(services: Any) -> float:
    """Build the approximate index, and return the seconds that it took."""
    before = time.perf_counter()
    services.vectors.build_graph(FEW)
    return round(time.perf_counter() - before, 1)


def measure_graph(client: httpx.Client, engine: Engine, rows: int, dim: int) -> dict[str, Any]:
    """Time the same by the approximate index, beside the exact answers to the same questions."""
    owners = find_owners(engine, rows)
    chosen = np.random.default_rng(5).choice(rows, TIMES + WARM, replace=False)
    ask(client, owners[0][0], FEW)
    exact, exact_times = ask_all(client, owners, chosen, FEW)
    found, times = ask_all(client, owners, chosen, FEW, method="graph")
    hits = sum(len(near & true) for near, true in zip(found, exact, strict=True))
    return {
        "vectors": rows,
        "dim": dim,
        "recall_at_10": round(hits / sum(map(len, exact)), 4),
        "query": summarise(times),
        "exact_query": summarise(exact_times),
    }


def ask_all(
    client: httpx.Client, owners: list[tuple[uuid.UUID, uuid.UUID]], chosen: NDArray[np.int64], space: str, **how: str
) -> tuple[list[set[uuid.UUID]], list[float]]:
    """Return what is nearest to each chosen run and the milliseconds that it took; the first few only warm up."""
    answers, times = [], []
    for number in chosen.tolist():
        before = time.perf_counter()
        answer = ask(client, owners[number][0], space, **how)
        times.append(1000 * (time.perf_counter() - before))
        answers.append({uuid.UUID(item["result"]) for item in answer["items"]})
    return answers[WARM:], times[WARM:]


def ask(client: httpx.Client, run: uuid.UUID, space: str, **how: str) -> dict[str, Any]:
    """Ask what is near to a result."""
    body = {"result": str(run), "space": space, "limit": K, **how}
    answer = client.post("/vectors/near", json=body, timeout=3600)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def compare_all(chosen: NDArray[np.int64], rows: int, dim: int) -> NDArray[np.int64]:
    """Return the places of the ten nearest of each chosen vector by plain NumPy, itself left out."""
    queries = np.zeros((len(chosen), dim), np.float32)
    for numbers, vectors in draw_vectors(rows, dim):
        inside = np.flatnonzero(np.isin(chosen, numbers - 1))
        queries[inside] = vectors[chosen[inside] - (numbers[0] - 1)]
    ids, scores = np.zeros((len(chosen), 0), np.int64), np.zeros((len(chosen), 0))
    for numbers, vectors in draw_vectors(rows, dim):
        found = queries @ vectors.astype(np.float32).T
        found[chosen[:, np.newaxis] == (numbers - 1)[np.newaxis]] = -np.inf
        ids = np.concatenate([ids, np.broadcast_to(numbers - 1, found.shape)], axis=1)
        scores = np.concatenate([scores, found], axis=1)
        best = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        ids, scores = np.take_along_axis(ids, best, 1), np.take_along_axis(scores, best, 1)
    return ids


def summarise(times: list[float]) -> dict[str, float]:
    """Return median, 95th percentile, maximum and number of times in milliseconds."""
    return {
        "p50_ms": round(float(np.median(times)), 2),
        "p95_ms": round(float(np.percentile(times, 95)), 2),
        "max_ms": round(max(times), 2),
        "n": len(times),
    }


def count_embeddings(engine: Engine) -> int:
    """Return how many vectors are stored."""
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(Embedding)) or 0
