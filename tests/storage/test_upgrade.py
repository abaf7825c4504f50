"""A database that any earlier version wrote is opened, brought up to date and read; a newer one is refused."""

from pathlib import Path

import pytest
from sqlalchemy import text

import voxelight.storage.migrations
from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import ResultQuery
from voxelight.app.settings import Settings
from voxelight.models.errors import Conflict
from voxelight.storage.database import is_current, open_engine, upgrade

VERSIONS = sorted(
    path.stem.split("_")[0]
    for path in (Path(voxelight.storage.migrations.__file__).parent / "versions").glob("[0-9]*.py")
)


@pytest.mark.parametrize("version", VERSIONS)
def test_rows_of_an_earlier_version_are_read_through_the_verbs(
    version, database_url, migrate_to, fill_tables, tmp_path
):
    engine = open_engine(database_url)
    migrate_to(engine, version)
    written = fill_tables(engine, count=2)
    assert is_current(engine) is (version == VERSIONS[-1])
    if version == VERSIONS[-1]:
        upgrade(engine)
    engine.dispose()
    services = open_services(Settings(home=tmp_path / "home", database_url=database_url))
    try:
        [first, second] = sorted(row["name"] for row in written["dataset"])
        assert sorted(each.name for each in services.datasets.list().items) == [first, second]
        assert {scan.sha256 for scan in services.scans.list().items} == {row["sha256"] for row in written["blob"]}
        jobs = services.jobs.list().items
        assert {job.recipe for job in jobs} == {row["recipe"] for row in written["job"]}
        results = list(services.results.walk(ResultQuery()))
        assert {str(result.id) for result in results} == {as_text(row["id"]) for row in written["run"]}
        with services.stores.engine.connect() as connection:
            for table, rows in written.items():
                count = connection.scalar(text(f'SELECT count(*) FROM "{table}"'))
                assert count >= len(rows), f"rows of {table} were lost"
    finally:
        services.close()


def as_text(identity):
    import uuid

    return str(uuid.UUID(str(identity)))


def test_a_newer_database_is_refused(database_url, tmp_path):
    engine = open_engine(database_url)
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    settings = Settings(home=tmp_path / "home", database_url=database_url)
    for _ in range(2):
        with pytest.raises(Conflict, match="version 9999; expected at most"):
            open_services(settings)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    engine.dispose()
