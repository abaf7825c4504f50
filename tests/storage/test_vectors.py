"""The nearest vectors are those that a comparison with every one finds, whatever came and went; on both databases."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors
from sqlalchemy import delete, select

from voxelight.app.schemas import DatasetRequest, ScanRequest
from voxelight.models.errors import BadInput, Conflict, NotFound, Unavailable
from voxelight.storage import exact
from voxelight.storage.exact import ExactIndex, State
from voxelight.storage.halfvec import HalfvecIndex
from voxelight.storage.schema import Embedding, Scan
from voxelight.storage.vectors import (
    NewEmbedding,
    Owner,
    Space,
    VectorStore,
    find_space,
    remove_embeddings,
    unpack,
    write_embeddings,
)

DIM, NOTHING = 91, np.empty(0, np.int64)


def draw(n, seed=0, dim=DIM):
    values = np.random.default_rng(seed).normal(size=(n, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)


def in_blocks(ids, vectors, rows=700):
    for start in range(0, len(ids), rows):
        yield ids[start : start + rows], vectors[start : start + rows]


def compare_all(ids, vectors, query, k):
    """Plain numpy, in double precision; equal scores in the order of their ids."""
    scores = vectors.astype(np.float64) @ query.astype(np.float64)
    order = np.lexsort((ids, -scores))[:k]
    return ids[order], scores[order]


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index of small parts, which has seen vectors come in blocks and one by one."""
    monkeypatch.setattr(exact, "PART_ROWS", 5000)
    index, ids, vectors = ExactIndex(tmp_path / "index", DIM), np.arange(1, 12_001), draw(12_000)
    vectors[200:300] = vectors[50]  # more equal ones than a first list is long
    with index.changing():
        index.change(in_blocks(ids[:11_000], vectors[:11_000]), NOTHING, State(1, 0))
    for start in range(11_000, 12_000, 250):
        with index.changing():
            index.change(in_blocks(ids[start : start + 250], vectors[start : start + 250]), NOTHING, State(2, 0))
    return index, ids, vectors


@pytest.mark.parametrize("k", [1, 10, 150])
def test_the_answer_is_that_of_comparing_everything(index, k):
    index, ids, vectors = index
    assert len(index) == len(ids)
    for query in [*draw(20, seed=1).astype(np.float32), vectors[50].astype(np.float32), -3 * vectors[7].astype("f4")]:
        found, scores = index.search(query, k)
        true_ids, true_scores = compare_all(ids, vectors, query, k)
        np.testing.assert_array_equal(found, true_ids)
        np.testing.assert_allclose(scores, true_scores, rtol=1e-12)


def test_the_neighbours_are_those_of_scikit_learn(index):
    index, ids, vectors = index
    queries = draw(30, seed=2).astype(np.float32)
    oracle = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(vectors.astype(np.float64))
    distances, rows = oracle.kneighbors(queries)
    for query, expected, away in zip(queries, ids[rows], distances, strict=True):
        found, scores = index.search(query, 10)
        assert set(found) == set(expected)
        np.testing.assert_allclose(np.sort(scores), np.sort(1 - away), atol=1e-3)  # float16 is not quite of unit length


@pytest.mark.parametrize("dim", [1, 16, 1280])
def test_any_length_of_vector_will_do(tmp_path, dim):
    index, ids, vectors = ExactIndex(tmp_path, dim), np.arange(10, 5010), draw(5000, dim=dim)
    with index.changing():
        index.change(in_blocks(ids, vectors), NOTHING, State(1, 0))
    for query in draw(5, seed=3, dim=dim).astype(np.float32):
        np.testing.assert_array_equal(index.search(query, 5)[0], compare_all(ids, vectors, query, 5)[0])


def test_vectors_of_very_different_dimensions_are_found_exactly_too(tmp_path):
    """Steps that are too coarse for most of a vector cost time and no correctness."""
    rng = np.random.default_rng(4)
    wild = rng.standard_t(1.5, size=(6000, 64)) * np.logspace(-4, 0, 64)
    vectors = (wild / np.linalg.norm(wild, axis=1, keepdims=True)).astype(np.float16)
    index, ids = ExactIndex(tmp_path, 64), np.arange(6000)
    with index.changing():
        index.change(in_blocks(ids, vectors), NOTHING, State(1, 0))
    for query in vectors[:20].astype(np.float32):
        np.testing.assert_array_equal(index.search(query, 10)[0], compare_all(ids, vectors, query, 10)[0])


def test_what_went_is_found_no_more_and_leaves_no_file(index, tmp_path):
    index, ids, vectors = index
    gone = np.random.default_rng(5).choice(ids, 900, replace=False)
    before = {path.name for path in (tmp_path / "index").iterdir() if path.is_dir()}
    with index.changing():
        index.change(iter(()), gone, State(2, 1))
    left = ~np.isin(ids, gone)
    np.testing.assert_array_equal(index.list_ids(), ids[left])
    for query in draw(10, seed=6).astype(np.float32):
        np.testing.assert_array_equal(index.search(query, 10)[0], compare_all(ids[left], vectors[left], query, 10)[0])
    after = {path.name for path in (tmp_path / "index").iterdir() if path.is_dir()}
    assert not before & after, "every part held some of them"
    stored = b"".join(path.read_bytes() for path in (tmp_path / "index").rglob("*.npy"))
    assert vectors[gone[0] - 1].tobytes() not in stored
    assert vectors[left][0].tobytes() in stored


def test_a_choice_of_vectors_is_searched_exactly(index):
    index, ids, vectors = index
    for size in (4000, 3, 0):
        chosen = np.sort(np.random.default_rng(7).choice(ids, size, replace=False))
        for query in draw(5, seed=8).astype(np.float32):
            expected, _ = compare_all(chosen, vectors[chosen - 1], query, 10)
            np.testing.assert_array_equal(index.search(query, 10, chosen)[0], expected)


def test_more_than_there_is_gives_all_of_it(index):
    index, ids, _ = index
    assert sorted(index.search(draw(1, seed=9)[0].astype(np.float32), 20_000)[0]) == ids.tolist()


def test_another_process_reads_what_this_one_wrote_and_keeps_what_it_has_open(index, tmp_path):
    index = index[0]
    reader = ExactIndex(tmp_path / "index", DIM)
    assert reader.read_state() == index.read_state()
    query = draw(1, seed=10)[0].astype(np.float32)
    before = reader.search(query, 10)[0]
    with index.changing():
        index.change(iter(()), before[:1], State(2, 1))
    np.testing.assert_array_equal(reader.search(query, 10)[0], before)  # the files are gone, its maps are not
    reader.read_state()
    np.testing.assert_array_equal(reader.search(query, 9)[0], before[1:])


def test_a_query_that_does_not_fit_is_refused(index):
    for query in (np.ones(DIM + 1), np.full(DIM, np.nan)):
        with pytest.raises(BadInput, match=f"{DIM} finite numbers"):
            index[0].search(query.astype(np.float32), 1)


@pytest.fixture
def shelf(services):
    """A way to keep vectors as embeddings of a scan, and the store that finds them."""
    services.datasets.create(DatasetRequest(name="d"))
    store = VectorStore(services.stores, services.settings.home / "vectors")
    space = Space("made-up", "picture", DIM)

    def keep(vectors, name):
        content = io.BytesIO(f"stimulus\n{name}\n".encode())
        scan = services.scans.ingest(content, ScanRequest(name=f"{name}.tsv", dataset="d"))
        with services.stores.sessions.begin() as session:
            rows = [NewEmbedding(space, "made", vector, f"{place}") for place, vector in enumerate(vectors)]
            write_embeddings(session, Owner(scan.id), rows)
        return scan.id

    def look(query, k=10, **how):
        with services.stores.sessions() as session:
            found = find_space(session, "made-up")
        return store.search(found, query, k, **how)

    return services, store, keep, look


def read_all(services):
    with services.stores.sessions() as session:
        rows = session.execute(select(Embedding.id, Embedding.vector).order_by(Embedding.id)).all()
    return np.array([row.id for row in rows]), np.stack([unpack(row.vector) for row in rows])


def test_rows_are_found_as_soon_as_they_are_there_and_gone_when_they_are(shelf):
    services, _, keep, look = shelf
    scans = [keep(draw(400, seed=seed), f"s{seed}") for seed in range(3)]
    query = draw(1, seed=20)[0].astype(np.float32)
    ids, vectors = read_all(services)
    assert len(ids) == 1200
    assert [one for one, _ in look(query)] == compare_all(ids, vectors, query, 10)[0].tolist()
    with services.stores.sessions.begin() as session:
        assert remove_embeddings(session, Embedding.scan_id == scans[1]) == 400
    ids, vectors = read_all(services)
    assert [one for one, _ in look(query)] == compare_all(ids, vectors, query, 10)[0].tolist()
    keep(draw(5, seed=21), "late")
    ids, vectors = read_all(services)
    late = vectors[-1].astype(np.float32)
    assert look(late, 1)[0] == (ids[-1], pytest.approx(1, abs=1e-3))
    other = VectorStore(services.stores, services.settings.home / "vectors")
    with services.stores.sessions() as session:
        assert len(other.follow(find_space(session, "made-up"))) == len(ids) == 805


def test_what_a_cascade_took_is_never_an_answer(shelf):
    services, store, keep, look = shelf
    scan = keep(draw(300, seed=1), "a")
    keep(draw(300, seed=2), "b")
    query = draw(1, seed=1)[0].astype(np.float32)
    [(first, _)] = look(query, 1)
    with services.stores.sessions.begin() as session:
        session.execute(delete(Scan).where(Scan.id == scan))
    found = look(query)
    ids, vectors = read_all(services)
    assert first not in ids
    assert [one for one, _ in found] == compare_all(ids, vectors, query, 10)[0].tolist()
    store.follow_all()
    stored = b"".join(path.read_bytes() for path in (services.settings.home / "vectors").rglob("*.npy"))
    assert draw(300, seed=1)[0].tobytes() not in stored


def test_embedding_again_replaces(shelf):
    services, _, keep, look = shelf
    scan = keep(draw(10), "a")
    with services.stores.sessions.begin() as session:
        rows = [NewEmbedding(Space("made-up", "picture", DIM), "made", 5 * draw(1, seed=30)[0])]
        rows.append(NewEmbedding(rows[0].space, "nothing", np.zeros(DIM)))
        assert write_embeddings(session, Owner(scan), rows) == 1
    assert len(look(draw(1, seed=30)[0].astype(np.float32))) == 1


def test_owners_that_change_places_do_not_wait_for_each_other_for_ever(shelf):
    services, _, keep, _ = shelf
    spaces = [Space("made-up", "picture", DIM), Space("another", "picture", DIM)]
    owners = [Owner(keep(draw(2), "a")), Owner(keep(draw(2), "b"))]
    together = Barrier(2)

    def write(number):
        for turn in range(40):
            rows = [NewEmbedding(spaces[(number + turn) % 2], "made", draw(1)[0])]
            together.wait(60)
            with services.stores.sessions.begin() as session:
                write_embeddings(session, owners[number], rows)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    assert len(read_all(services)[0]) == 2


def test_a_condition_narrows_the_search(shelf):
    _, _, keep, look = shelf
    keep(draw(100, seed=1), "a")
    scan = keep(draw(100, seed=2), "b")
    found = look(draw(1, seed=1)[0].astype(np.float32), 200, allowed=Embedding.scan_id == scan)
    assert len(found) == 100
    assert look(draw(1)[0].astype(np.float32), allowed=Embedding.role == "none") == []


def test_a_space_keeps_to_one_length(shelf):
    services, _, keep, _ = shelf
    scan = keep(draw(1), "a")
    with services.stores.sessions.begin() as session, pytest.raises(Conflict, match=f"{DIM}, as in the rest"):
        write_embeddings(session, Owner(scan), [NewEmbedding(Space("made-up", "picture", 3), "x", np.ones(3))])
    with services.stores.sessions() as session, pytest.raises(NotFound, match="made-up"):
        find_space(session, "another")


def test_pgvector_finds_nearly_all_of_the_nearest(shelf):
    services, _, keep, look = shelf
    graphs = HalfvecIndex(services.stores.engine)
    scan = keep(draw(1500, seed=1), "a")
    with services.stores.sessions() as session:
        space = find_space(session, "made-up")
    if services.stores.engine.dialect.name == "sqlite":
        with pytest.raises(Unavailable, match="a sqlite database"):
            graphs.build(space)
        with pytest.raises(Unavailable, match="no graph"):
            graphs.search(space, draw(1)[0].astype(np.float32), 10)
        return
    assert not graphs.is_built(space)
    graphs.build(space)
    keep(draw(500, seed=2), "b")
    queries = draw(40, seed=3).astype(np.float32)
    hits = 0
    for query in queries:
        exactly = dict(look(query))
        found = dict(graphs.search(space, query, 10, breadth=400))
        hits += len(set(exactly) & set(found))
        for one in set(exactly) & set(found):
            assert found[one] == pytest.approx(exactly[one], abs=2e-3)
    assert hits >= 0.97 * 10 * len(queries)
    late = draw(500, seed=2)[7].astype(np.float32)
    assert graphs.search(space, late, 1)[0][1] == pytest.approx(1, abs=2e-3), "what came after the graph is in it"
    narrow = graphs.search(space, late, 5, allowed=Embedding.scan_id == scan)
    with services.stores.sessions() as session:
        owners = session.scalars(select(Embedding.scan_id).where(Embedding.id.in_([one for one, _ in narrow]))).all()
    assert len(narrow) == 5
    assert set(owners) == {scan}
    with services.stores.sessions.begin() as session:
        session.execute(delete(Scan).where(Scan.id == scan))
    assert graphs.search(space, draw(1, seed=1)[0].astype(np.float32), 1)[0][1] < 0.9


def test_the_store_needs_no_network():
    modules = "voxelight.storage.vectors, voxelight.storage.halfvec, voxelight.neuro.embed, voxelight.medseg.embed"
    code = f"import sys, {modules}; print('torch' in sys.modules, 'faiss' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
