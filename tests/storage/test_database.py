"""The tables are those of the migrations, on both databases, and the promises they keep."""

import threading
import uuid

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from voxelight.models.errors import BadInput
from voxelight.storage.database import is_current, open_engine, open_sessions, upgrade
from voxelight.storage.schema import Base, Dataset, Job, Model, Run, is_ours


def test_the_migrations_give_the_tables_of_the_schema(database_url):
    engine = open_engine(database_url)
    assert not is_current(engine)
    assert upgrade(engine)
    assert is_current(engine)
    assert not upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": is_ours})
        assert compare_metadata(context, Base.metadata) == []
    assert set(Base.metadata.tables) <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_processes_that_start_together_upgrade_once(database_url):
    engines = [open_engine(database_url) for _ in range(4)]
    applied = []
    threads = [threading.Thread(target=lambda e=engine: applied.append(upgrade(e))) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(applied) == [False, False, False, True]
    for engine in engines:
        engine.dispose()


def test_sqlite_is_opened_for_many_processes(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'a.sqlite'}")
    with engine.connect() as connection:
        found = {
            name: connection.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 30000}


def test_another_kind_of_database_is_refused():
    with pytest.raises(BadInput, match="expected sqlite or postgresql"):
        open_engine("mysql://somewhere/else")


@pytest.fixture
def sessions(database_url):
    engine = open_engine(database_url)
    upgrade(engine)
    yield open_sessions(engine)
    engine.dispose()


def _job(session):
    dataset = Dataset(name="d")
    model = Model(name="m", version="1", task="segmentation")
    session.add_all([dataset, model])
    session.flush()
    job = Job(kind="segment", recipe="r", dataset_id=dataset.id, model_id=model.id, queue="cpu")
    session.add(job)
    session.flush()
    return job


def test_a_dataset_asks_for_a_known_consent(sessions):
    with pytest.raises(IntegrityError), sessions.begin() as session:
        session.add(Dataset(name="d", consent="perhaps"))


def test_a_row_cannot_name_what_is_not_there(sessions):
    with sessions.begin() as session:
        job = _job(session)
    stray = Run(job_id=job.id, item_key="a", position=0, subject_id=uuid.uuid4(), scan_id=uuid.uuid4())
    with pytest.raises(IntegrityError), sessions.begin() as session:
        session.add(stray)


def test_two_writers_of_one_dataset_do_not_overwrite_each_other(sessions):
    with sessions.begin() as session:
        session.add(Dataset(name="d"))
    with sessions() as first, sessions() as second:
        mine = first.scalars(select(Dataset)).one()
        theirs = second.scalars(select(Dataset)).one()
        theirs.purpose = "theirs"
        second.commit()
        mine.purpose = "mine"
        with pytest.raises(StaleDataError):
            first.commit()


def test_times_come_back_aware_and_in_utc(sessions):
    with sessions.begin() as session:
        session.add(Dataset(name="d"))
    with sessions() as session:
        at = session.scalars(select(Dataset.created_at)).one()
    assert at.utcoffset().total_seconds() == 0


def test_what_is_rolled_back_is_gone(sessions):
    with sessions() as session:
        _job(session)
        session.rollback()
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0
