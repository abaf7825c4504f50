"""A backup is one state, whole and provable; what comes back from it is what was kept."""

import hashlib
import json
import uuid
from pathlib import Path

import pytest
from sqlalchemy import delete, select, text, update

from voxelight.app.queue import JobQueue
from voxelight.models.errors import Conflict, NotFound, Unavailable
from voxelight.storage import backup as backup_module
from voxelight.storage.artifacts import BlobStore
from voxelight.storage.backup import BackupPlace, Besides, prune, take_backup, verify_backup
from voxelight.storage.database import is_current, open_engine, open_sessions, upgrade
from voxelight.storage.moving import Place
from voxelight.storage.portable import Shape, list_shapes
from voxelight.storage.restore import restore
from voxelight.storage.schema import Blob, Dataset, Job

CONTENTS = [f"content {number}".encode() * 50 for number in range(3)]
BLOBS = {hashlib.sha256(content).hexdigest(): len(content) for content in CONTENTS}
PASSING = ("worker", "queue_entry")


def tell(_what, _done, _total):
    """Nobody looks."""


@pytest.fixture
def make_place(new_database, tmp_path):
    made = []

    def make(kind):
        url = new_database(kind)
        made.append(open_engine(url))
        return Place(made[-1], BlobStore(str(tmp_path / f"blobs-{uuid.uuid4().hex}"), tmp_path / "spool"))

    yield make
    for engine in made:
        engine.dispose()


@pytest.fixture
def kept(tmp_path):
    """A folder for backups."""
    url = str(tmp_path / "kept")
    return BackupPlace(url, BlobStore(url, tmp_path / "spool"))


@pytest.fixture
def full(make_place, fill_tables):
    """A place with rows in every table and their files; nothing is under way."""

    def make(kind):
        place = make_place(kind)
        upgrade(place.engine)
        fill_tables(place.engine, blobs=BLOBS)
        for content in CONTENTS:
            place.blobs.put_bytes(content)
        with place.engine.begin() as connection:
            connection.execute(text("UPDATE job SET status = 'done'"))
            connection.execute(text("UPDATE action SET status = 'done'"))
        return place

    return make


def keep(source, kept, home, *paths):
    return take_backup(source, kept, Besides(home, paths), "0.0", tell)


def bring_back(kept, target, home, name=None):
    queues = JobQueue(target.engine.url.render_as_string(hide_password=False))
    return restore(kept, *kept.read(name), target, home, queues, tell)


@pytest.mark.parametrize(
    ("first", "second"), [("sqlite", "sqlite"), ("postgresql", "sqlite"), ("sqlite", "postgresql")]
)
def test_what_comes_back_is_what_was_kept(full, make_place, kept, read_all, tmp_path, first, second):
    source, target = full(first), make_place(second)
    home, other = tmp_path / "home", tmp_path / "other"
    model = home / "weights/segmentation/mine/model.json"
    model.parent.mkdir(parents=True)
    model.write_text("{}")
    taken = keep(source, kept, home, model)
    before = read_all(source.engine)
    moved = bring_back(kept, target, other)
    assert is_current(target.engine)
    after = read_all(target.engine)
    assert {name: rows for name, rows in after.items() if name not in PASSING} == {
        name: rows for name, rows in before.items() if name not in PASSING
    }
    assert moved.copied == len(BLOBS)
    assert [target.blobs.read(sha256) for sha256 in BLOBS] == CONTENTS
    assert (other / "weights/segmentation/mine/model.json").read_text() == "{}"
    assert taken.added == len(BLOBS)
    with pytest.raises(Conflict, match="rows in the table"):
        bring_back(kept, target, other)


def test_a_second_backup_adds_only_what_is_new(full, kept, tmp_path):
    source = full("sqlite")
    first = keep(source, kept, tmp_path)
    stored = {path.name for path in (tmp_path / "kept/sha256").rglob("*") if path.is_file()}
    new = source.blobs.put_bytes(b"new")
    with open_sessions(source.engine).begin() as session:
        session.add(Blob(sha256=new.sha256, size=new.size, media_type="text/plain"))
    second = keep(source, kept, tmp_path)
    added = {path.name for path in (tmp_path / "kept/sha256").rglob("*") if path.is_file()} - stored
    assert second.added == 1
    assert new.sha256 in added
    assert len(added) == 2, "the file, and the table of files that names it"
    assert kept.list() == sorted([first.name, second.name])
    assert kept.read()[0] == second.name


def _cut_short(path):
    path.write_bytes(path.read_bytes()[:-1])


def _change(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [_cut_short, _change, Path.unlink])
@pytest.mark.parametrize("what", ["description", "rows", "file"])
def test_a_damaged_backup_is_refused_before_anything_is_written(full, make_place, kept, tmp_path, harm, what):
    taken = keep(full("sqlite"), kept, tmp_path)
    tables = {table.name: table for table in taken.snapshot.tables}
    sha256 = {"rows": tables["dataset"].parts[0], "file": next(iter(BLOBS))}.get(what)
    content = tmp_path / "kept/sha256" / sha256[:2] / sha256 if sha256 else None
    harm(content or tmp_path / f"kept/snapshots/{taken.name}.json")
    target = make_place("sqlite")
    with pytest.raises((Unavailable, NotFound)):
        bring_back(kept, target, tmp_path / "other")
    assert not Path(target.engine.url.database).exists()
    assert not (tmp_path / "other").exists()


def test_a_row_that_was_made_up_is_found(full, kept, tmp_path):
    """Even where somebody gives the changed part its right name: its rows are counted and summed."""
    taken = keep(full("sqlite"), kept, tmp_path)
    [table] = [table for table in taken.snapshot.tables if table.name == "subject"]
    lines = backup_module.read_part(kept.contents, table.parts[0])
    part = backup_module._keep(kept.contents, [*lines[:-1], lines[0]])
    changed = taken.snapshot.model_dump(mode="json")
    for each in changed["tables"]:
        if each["name"] == "subject":
            each["parts"] = [part]
    with pytest.raises(Unavailable, match="rows of subject"):
        verify_backup(kept, type(taken.snapshot).model_validate(changed), tell)


def test_a_file_that_is_deleted_while_it_is_kept_begins_the_backup_again(full, kept, tmp_path):
    source = full("sqlite")
    extra = source.blobs.put_bytes(b"soon gone")
    with open_sessions(source.engine).begin() as session:
        session.add(Blob(sha256=extra.sha256, size=extra.size, media_type="text/plain"))
    source.blobs.remove(extra.sha256)
    looks = []

    def delete_row(what, _done, _total):
        looks.append(what)
        if len(looks) == 1:
            with open_sessions(source.engine).begin() as session:
                session.execute(delete(Blob).where(Blob.sha256 == extra.sha256))

    taken = take_backup(source, kept, Besides(tmp_path), "0.0", delete_row)
    assert taken.snapshot.blobs == len(BLOBS)
    verify_backup(kept, taken.snapshot, tell)


def test_a_missing_file_ends_a_backup(full, kept, tmp_path):
    source = full("sqlite")
    source.blobs.remove(next(iter(BLOBS)))
    with pytest.raises(Unavailable, match="no content"):
        keep(source, kept, tmp_path)
    assert kept.list() == []


def test_a_backup_of_older_tables_is_brought_up_to_date(
    make_place, kept, migrate_to, fill_tables, monkeypatch, tmp_path
):
    source, target = make_place("sqlite"), make_place("sqlite")
    migrate_to(source.engine, "0007")
    fill_tables(source.engine, blobs=BLOBS)
    for content in CONTENTS:
        source.blobs.put_bytes(content)
    monkeypatch.setattr(backup_module, "list_shapes", lambda: list(as_they_were(source.engine)))
    taken = keep(source, kept, tmp_path)
    assert taken.snapshot.revision == "0007"
    with open_sessions(target.engine)() as session:
        bring_back(kept, target, tmp_path / "other")
        assert is_current(target.engine)
        datasets = session.scalars(select(Dataset)).all()
    assert [each.project for each in datasets] == ["default"] * 3
    newer = taken.snapshot.model_copy(update={"revision": "9999"})
    with pytest.raises(Conflict, match="9999"):
        restore(kept, "n", newer, make_place("sqlite"), tmp_path / "third", None, tell)


def as_they_were(engine):
    from sqlalchemy import inspect

    known = inspect(engine)
    there = set(known.get_table_names())
    for shape in list_shapes():
        if shape.name in there:
            columns = {column["name"] for column in known.get_columns(shape.name)}
            kept_columns = tuple(column for column in shape.columns if column[0] in columns)
            yield Shape(shape.name, kept_columns, shape.key)


def test_jobs_that_were_under_way_are_put_back(full, make_place, kept, tmp_path):
    source, target = full("sqlite"), make_place("sqlite")
    with open_sessions(source.engine).begin() as session:
        job = session.scalars(select(Job).limit(1)).one()
        job.status, job.kind, job.recipe, job.queue = "running", "segment", "hippocampus-agunet", "cpu"
    keep(source, kept, tmp_path)
    assert bring_back(kept, target, tmp_path / "other").requeued == [str(job.id)]


def test_another_file_in_the_home_folder_is_left_alone(full, make_place, kept, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "identity.key").write_text("a")
    keep(full("sqlite"), kept, home, home / "identity.key")
    (home / "identity.key").write_text("b")
    with pytest.raises(Conflict, match=r"identity\.key"):
        bring_back(kept, make_place("sqlite"), home)
    assert (home / "identity.key").read_text() == "b"
    bring_back(kept, make_place("sqlite"), tmp_path / "other")
    assert (tmp_path / "other/identity.key").stat().st_mode & 0o777 == 0o600


def test_prune_removes_what_no_backup_needs_any_more(full, make_place, kept, read_all, tmp_path):
    source = full("sqlite")
    old = source.blobs.put_bytes(b"old")
    with open_sessions(source.engine).begin() as session:
        session.add(Blob(sha256=old.sha256, size=old.size, media_type="text/plain"))
    first = keep(source, kept, tmp_path)
    with open_sessions(source.engine).begin() as session:
        session.execute(delete(Blob).where(Blob.sha256 == old.sha256))
        session.execute(update(Dataset).values(purpose="new"))
    second = keep(source, kept, tmp_path)
    assert prune(kept, 1, 3600) == ([first.name], []), "young contents stay"
    _, gone = prune(kept, 1, -1)
    assert old.sha256 in gone
    assert not kept.contents.exists(old.sha256)
    assert kept.list() == [second.name]
    target = make_place("sqlite")
    bring_back(kept, target, tmp_path / "other")
    assert read_all(target.engine)["dataset"] == read_all(source.engine)["dataset"]


def test_a_backup_is_named_by_its_hash(full, kept, tmp_path):
    taken = keep(full("sqlite"), kept, tmp_path)
    path = tmp_path / f"kept/snapshots/{taken.name}.json"
    assert taken.name.endswith(hashlib.sha256(path.read_bytes()).hexdigest()[:16])
    assert json.loads(path.read_text())["keys"] is False
    with pytest.raises(NotFound, match="no backup 'x'"):
        kept.read("x")
