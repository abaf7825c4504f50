"""A move brings every row and every file to another place, or nothing that anybody sees."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from sqlalchemy import delete, select, text, update

from voxelight.app.queue import JobQueue
from voxelight.models.errors import BadInput, Conflict, Unavailable
from voxelight.storage.artifacts import BlobStore
from voxelight.storage.database import is_current, open_engine, open_sessions, upgrade
from voxelight.storage.halfvec import HalfvecIndex
from voxelight.storage.moving import Place, move
from voxelight.storage.portable import Tally, list_shapes
from voxelight.storage.schema import Base, Dataset, Embedding, EmbeddingSpace, Job
from voxelight.storage.schema_base import BytewiseText

CONTENTS = [f"content {number}".encode() * 50 for number in range(3)]
BLOBS = {hashlib.sha256(content).hexdigest(): len(content) for content in CONTENTS}


@pytest.fixture
def place(new_database, tmp_path):
    """Make a place of a kind; `full` with rows in every table, and their files."""
    made = []

    def make(kind, full=None, blobs=None):
        url = new_database(kind)
        here = Place(open_engine(url), blobs or BlobStore(str(tmp_path / uuid.uuid4().hex), tmp_path / "spool"))
        made.append(here.engine)
        if full:
            upgrade(here.engine)
            full(here.engine, blobs=BLOBS)
            for content in CONTENTS:
                here.blobs.put_bytes(content)
            with here.engine.begin() as connection:  # nothing is under way
                connection.execute(text("UPDATE job SET status = 'done'"))
                connection.execute(text("UPDATE action SET status = 'done'"))
        return here

    yield make
    for engine in made:
        engine.dispose()


def queues(here):
    return JobQueue(here.engine.url.render_as_string(hide_password=False))


@pytest.mark.parametrize(
    ("first", "second"), [("sqlite", "postgresql"), ("postgresql", "sqlite"), ("postgresql", "postgresql")]
)
def test_every_row_and_file_is_there_afterwards(place, fill_tables, read_all, first, second):
    source, target = place(first, fill_tables), place(second)
    before = read_all(source.engine)
    moved = move(source, target, "s", queues(target))
    after = read_all(target.engine)
    lasting = {shape.name for shape in list_shapes()}
    assert len(lasting) > 25
    for name in lasting:
        assert after[name] == before[name], name
        assert len(after[name]) >= 3, f"{name} holds nothing, so nothing was compared"
    assert (moved.blobs, moved.copied, moved.bytes) == (3, 3, sum(BLOBS.values()))
    assert [target.blobs.read(sha256) for sha256 in BLOBS] == CONTENTS
    assert all(proof.source == proof.target and proof.rows >= 3 for proof in moved.tables)
    assert is_current(target.engine)
    assert read_all(source.engine) == before
    with pytest.raises(Conflict, match="rows in the table"):
        move(source, target, "s", queues(target))


def test_the_sum_of_hashes_is_of_any_order_and_of_these_rows_alone():
    sums = set()
    for rows in (["a", "b", "b"], ["b", "a", "b"], ["a", "b"], ["a", "b", "c"], ["a", "a", "b"]):
        tally = Tally()
        for row in rows:
            tally.add(row)
        sums.add((tally.rows, tally.sha256_sum))
    assert len(sums) == 4
    alone = Tally()
    alone.add("a")
    assert alone.sha256_sum == hashlib.sha256(b"a").hexdigest()


def test_each_column_has_a_kind_and_only_what_passes_is_left_out():
    names = {table.name for table in Base.metadata.sorted_tables} - {shape.name for shape in list_shapes()}
    assert names <= {"worker", "queue_entry"}
    shapes = {shape.name: dict(shape.columns) for shape in list_shapes()}
    assert shapes["embedding"]["vector"] == "bytes"
    assert shapes["job"]["params"] == "json"
    assert shapes["result_word"]["word"] == "text"
    assert isinstance(Base.metadata.tables["result_word"].c.word.type, type(BytewiseText))


@pytest.mark.parametrize(("first", "second"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_numbers_go_on_after_those_that_were_given_out(place, fill_tables, first, second):
    source, target = place(first, fill_tables), place(second)
    with open_sessions(source.engine).begin() as session:
        session.execute(delete(Embedding).where(Embedding.id == 3))
        [one, *_] = session.scalars(select(Embedding).order_by(Embedding.id))
        facts = {name: getattr(one, name) for name in ("space_id", "role", "scan_id", "vector")}
        session.add(Embedding(owner=uuid.uuid4(), **facts))
        session.flush()
        [last] = session.scalars(select(Embedding.id).order_by(Embedding.id.desc()).limit(1))
        session.execute(delete(Embedding).where(Embedding.id == last))
    move(source, target, "s", queues(target))
    with open_sessions(target.engine).begin() as session:
        new = Embedding(owner=uuid.uuid4(), **facts)
        session.add(new)
        session.flush()
        assert new.id == last + 1, "an index on the disk takes smaller numbers for known"


def test_the_graph_of_a_space_is_built_at_the_target(place, fill_tables):
    source, target = place("postgresql", fill_tables), place("postgresql")
    with open_sessions(source.engine)() as session:
        space = session.scalars(select(EmbeddingSpace).order_by(EmbeddingSpace.id)).first()
    HalfvecIndex(source.engine).build(space)
    assert move(source, target, "s", queues(target)).graphs == [space.name]
    [(found, cosine)] = HalfvecIndex(target.engine).search(space, np.array([1, 0], np.float32), 1)
    assert (found, cosine) == (space.id, pytest.approx(1))


def test_what_is_under_way_is_refused_or_put_on_the_queues_of_the_target(place, fill_tables):
    source, target = place("sqlite", fill_tables), place("postgresql")
    with open_sessions(source.engine).begin() as session:
        session.execute(update(Job).values(status="done"))
        [job, *_] = session.scalars(select(Job).order_by(Job.id))
        job.status, job.queue, job.kind, job.recipe = "running", "cpu", "segment", "hippocampus-agunet"
    with pytest.raises(Conflict, match="1 jobs and actions"):
        move(source, target, "s", queues(target))
    moved = move(source, target, "s", queues(target), queued=True)
    assert moved.requeued == [str(job.id)]


def test_a_row_that_the_target_does_not_take_is_named_and_none_is_kept(place, fill_tables, read_all):
    source, target = place("sqlite", fill_tables), place("postgresql")
    with open_sessions(source.engine).begin() as session:
        [dataset, *_] = session.scalars(select(Dataset))
        before, dataset.name = dataset.name, "x" * 121
    with pytest.raises(BadInput, match=rf"a row of dataset \(id {dataset.id}\).*too long"):
        move(source, target, "s", queues(target))
    with pytest.raises(Conflict, match="is being moved"):
        is_current(target.engine)
    assert not any(rows for name, rows in read_all(target.engine).items() if name != "project")
    with open_sessions(source.engine).begin() as session:
        session.get_one(Dataset, dataset.id).name = before
    assert move(source, target, "s", queues(target)).copied == 0, "files were copied twice"


def test_a_source_that_is_written_to_meanwhile_is_told(place, fill_tables):
    source, target = place("sqlite", fill_tables), place("postgresql")

    def write(what, done, total):
        if (what, done) == ("tables", total):
            with open_sessions(source.engine).begin() as session:
                session.add(Dataset(name="late"))

    with pytest.raises(Conflict, match="written to meanwhile, in dataset"):
        move(source, target, "s", queues(target), tell=write)
    with pytest.raises(Conflict, match="another installation"):
        move(place("sqlite", fill_tables), target, "another", queues(target))
    move(source, target, "s", queues(target))
    with open_sessions(target.engine)() as session:
        assert "late" in set(session.scalars(select(Dataset.name)))


def test_damaged_and_missing_files_end_a_move(place, fill_tables, tmp_path):
    source, target = place("sqlite", fill_tables), place("sqlite")
    damaged, missing, _ = BLOBS
    [path] = tmp_path.glob(f"*/sha256/{damaged[:2]}/{damaged}")
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    with pytest.raises(Unavailable, match=damaged[:12]):
        move(source, target, "s", queues(target))
    path.write_bytes(good)
    source.blobs.remove(missing)
    target.blobs.remove(missing)
    with pytest.raises(Unavailable, match=missing[:12]):
        move(source, target, "s", queues(target))
    source.blobs.put_bytes(CONTENTS[1])
    # What lies at the target under a name and is something else is replaced.
    target.blobs.put_bytes(CONTENTS[0])
    [copy] = set(tmp_path.glob(f"*/sha256/{damaged[:2]}/{damaged}")) - {path}
    copy.write_bytes(b"half")
    move(source, target, "s", queues(target))
    assert copy.read_bytes() == good


def test_older_tables_are_refused(place, migrate_to):
    source, target = place("sqlite"), place("sqlite")
    migrate_to(source.engine, "0005")
    with pytest.raises(Conflict, match="storage upgrade"):
        move(source, target, "s", queues(target))


@pytest.fixture(scope="module")
def s3():
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield {"key": "test", "secret": "test", "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
    server.stop()


# Moves between the two places that are given, with a pause before each file.
MOVE = """
import json, sys, time
from pathlib import Path
from voxelight.app.queue import JobQueue
from voxelight.storage.artifacts import BlobStore
from voxelight.storage.database import open_engine
from voxelight.storage.moving import Place, move
source_url, source_blobs, target_url, target_blobs, options, spool = sys.argv[1:]
class Slow(BlobStore):
    def put_file(self, *arguments):
        time.sleep(0.5)
        return super().put_file(*arguments)
source = Place(open_engine(source_url), BlobStore(source_blobs, Path(spool)))
target = Place(open_engine(target_url), Slow(target_blobs, Path(spool), json.loads(options)))
move(source, target, "s", JobQueue(target_url))
"""


def test_a_move_to_s3_that_is_killed_goes_on(place, fill_tables, read_all, s3, tmp_path, new_database):
    contents = [os.urandom(300) for _ in range(24)]
    blobs = {hashlib.sha256(content).hexdigest(): len(content) for content in contents}
    folder = tmp_path / "blobs"
    source = place("sqlite", blobs=BlobStore(str(folder), tmp_path / "spool"))
    upgrade(source.engine)
    fill_tables(source.engine, blobs=blobs)
    with source.engine.begin() as connection:
        connection.execute(text("UPDATE job SET status = 'done'"))
        connection.execute(text("UPDATE action SET status = 'done'"))
    for content in contents:
        source.blobs.put_bytes(content)
    options = s3 | {"skip_instance_cache": True, "use_listings_cache": False}
    bucket, url = f"b{uuid.uuid4().hex}", new_database("postgresql")
    store = fsspec.filesystem("s3", **options)
    store.mkdir(bucket)
    there = BlobStore(f"s3://{bucket}/v", tmp_path / "spool", options)
    words = [source.engine.url.render_as_string(), folder, url, f"s3://{bucket}/v", __import__("json").dumps(options)]
    process = subprocess.Popen([sys.executable, "-c", MOVE, *map(str, words), str(tmp_path / "spool")])
    deadline = time.monotonic() + 60
    while len(store.find(f"{bucket}/v/sha256")) < 5:
        assert process.poll() is None, "the move ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    done = len(store.find(f"{bucket}/v/sha256"))
    assert 5 <= done < 24
    target = Place(open_engine(url), there)
    with pytest.raises(Conflict, match="is being moved"):
        is_current(target.engine)
    before = read_all(source.engine)
    moved = move(source, target, "s", queues(target))
    assert moved.copied == 24 - done
    assert {name: rows for name, rows in read_all(target.engine).items() if name not in ("worker", "queue_entry")} == {
        name: rows for name, rows in before.items() if name not in ("worker", "queue_entry")
    }
    assert sorted(there.read(sha256) for sha256 in blobs) == sorted(contents)
    assert all(hash_of(folder / "sha256" / sha256[:2] / sha256) == sha256 for sha256 in blobs), "the source was changed"
    target.engine.dispose()


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
