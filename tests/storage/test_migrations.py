"""What was stored under older tables is there under the newer ones, on both databases."""

import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData, inspect, select

import voxelight.storage.migrations
from voxelight.storage.database import is_current, open_engine, open_sessions, upgrade
from voxelight.storage.schema import Job, Reconstruction, Run

SHA, AT = "ab" * 32, datetime(2026, 11, 24, tzinfo=UTC)
CHAIN = ("dataset", "model", "subject", "imaging_session", "scan", "job", "run", "artifact", "reconstruction")
TEXTS = ("name", "version", "task", "weights_sha256", "licence", "purpose", "source", "label", "kind", "deid_status")
FACTS = {
    "dataset": {"consent": "public", "simulated": False, "version": 1},
    "model": {"config": {}},
    "scan": {"geometry": {}, "facts": {}, "warnings": [], "blob_sha256": SHA},
    "job": {
        "recipe": "",
        "queue": "cpu",
        "status": "done",
        "attempt": 1,
        "params": {},
        "seed": 5,
        "total": 1,
        "done": 1,
    }
    | {"failed": 0, "error": ""},
    "run": {"item_key": "a", "position": 0, "status": "done", "attempts": 1, "provenance": {}}
    | {"error_class": "", "error_message": "", "traceback": ""},
    "artifact": {"role": "reconstruction", "blob_sha256": SHA},
    "reconstruction": {"stimulus_id": "a", "seed": 5, "rank": 0, "simulated": False},
}


@pytest.fixture
def move(database_url):
    """An engine on an empty database, and a way to another revision of its tables."""
    engine = open_engine(database_url)
    config = Config()
    config.set_main_option("script_location", str(Path(voxelight.storage.migrations.__file__).parent))

    def to(verb, revision):
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            verb(config, revision)
            connection.commit()

    yield engine, to
    engine.dispose()


def write_rows(engine):
    """Write a job with one reconstruction into the tables as they are."""
    tables, ids = MetaData(), {name: uuid.uuid4() for name in CHAIN}
    tables.reflect(engine)
    with engine.begin() as connection:
        connection.execute(
            tables.tables["blob"].insert(), {"sha256": SHA, "size": 1, "media_type": "image/png", "created_at": AT}
        )
        for name in CHAIN:
            table = tables.tables[name]
            row = {column: "a" for column in TEXTS if column in table.c} | {"id": ids[name], "created_at": AT}
            row |= {f"{other}_id": ids[other] for other in CHAIN if f"{other}_id" in table.c} | FACTS.get(name, {})
            connection.execute(table.insert(), {key: as_stored(table.c[key], value) for key, value in row.items()})
    return ids


def as_stored(column, value):
    """SQLite tells no identity from text."""
    text = isinstance(value, uuid.UUID) and column.type.python_type is str
    return value.hex if text else value


def test_captions_come_to_a_database_that_holds_reconstructions(move):
    engine, to = move
    to(command.upgrade, "0001")
    ids = write_rows(engine)
    assert not is_current(engine)
    assert upgrade(engine)
    assert is_current(engine)
    with open_sessions(engine).begin() as session:
        row = session.scalars(select(Reconstruction)).one()
        assert (row.id, row.stimulus_id, row.seed, row.rank) == (ids["reconstruction"], "a", 5, 0)
        assert (row.caption, row.retrieved) == ("", [])
        assert session.get_one(Run, row.run_id).job_id == session.scalars(select(Job.id)).one() == ids["job"]
        row.caption, row.retrieved = "a dog on a beach", ["b", "c"]
    with open_sessions(engine)() as session:
        row = session.scalars(select(Reconstruction)).one()
        assert (row.caption, row.retrieved) == ("a dog on a beach", ["b", "c"])


def test_a_migration_can_be_taken_back(move):
    engine, to = move
    to(command.upgrade, "0001")
    write_rows(engine)
    before = {column["name"] for column in inspect(engine).get_columns("reconstruction")}
    upgrade(engine)
    to(command.downgrade, "0001")
    assert {column["name"] for column in inspect(engine).get_columns("reconstruction")} == before
    assert upgrade(engine)
