"""No row of a project shows to a stranger, whichever table it is in and however it is asked for."""

import pytest
from sqlalchemy import delete, func, inspect, select, update
from sqlalchemy.orm import aliased

from voxelight.storage import access
from voxelight.storage.access import Principal, bind, seeing_everything
from voxelight.storage.schema import Base, Dataset, Job, Metric, Run, Scan, Subject

STRANGER = Principal("stranger", roles={"yaks": "admin"})
# Tables whose rows belong to no project, with why that is no leak.
SHARED = {
    "Blob": "hash and size of a content; a route reads it through a scan or an artifact",
    "Turn": "the name of an owner; workers alone read it",
    "Worker": "a process; nothing of a project",
}
TABLES = sorted((mapper.class_ for mapper in Base.registry.mappers), key=lambda table: table.__name__)
NARROWED = access._find_conditions(("yaks",))


def read(house, principal, table):
    """Every row that shows, as text, by its key."""
    with bind(house.stores.sessions, principal)() as session:
        columns = [attribute.key for attribute in inspect(table).column_attrs]
        return {
            inspect(row).identity: " ".join(str(getattr(row, column)) for column in columns)
            for row in session.scalars(select(table))
        }


def find_foreign(house, things, principal=STRANGER, tables=NARROWED):
    """The tables of which the principal sees a row that tells of the zebras, or sees as many as there are of both."""
    everything = Principal("root", admin=True)
    foreign = set()
    for table in tables:
        shown, there = read(house, principal, table), read(house, everything, table)
        assert there, f"the fixtures put nothing into {table.__name__}"
        told = [text for text in shown.values() for word in (*things["zebra"].texts(), "zebra") if word in text]
        if told or len(shown) >= len(there):
            foreign.add(table)
    return foreign


def test_every_table_is_narrowed_or_known_to_be_shared():
    assert {table.__name__ for table in TABLES} == {table.__name__ for table in NARROWED} | set(SHARED)


def test_a_stranger_sees_own_rows_and_no_others_in_every_table(house, things, people):
    assert find_foreign(house, things) == set()
    own = {table for table in NARROWED if read(house, STRANGER, table)}
    assert {table.__name__ for table in set(NARROWED) - own} == {"Account", "ApiKey", "AuditEvent"}


def test_a_table_that_is_not_narrowed_is_found(house, things, people, monkeypatch):
    """What the test before would say if one criterion were forgotten, for each in turn."""
    for forgotten in NARROWED:
        kept = {table: condition for table, condition in NARROWED.items() if table is not forgotten}
        monkeypatch.setattr(access, "_find_conditions", lambda _projects, kept=kept: kept)
        access._find_criteria.cache_clear()
        assert find_foreign(house, things, tables=[forgotten]) == {forgotten}, forgotten.__name__
    monkeypatch.undo()
    access._find_criteria.cache_clear()


@pytest.fixture
def session(house, things):
    with bind(house.stores.sessions, STRANGER)() as session:
        yield session


def test_subqueries_aliases_joins_counts_and_unions_are_narrowed(session, things):
    other = aliased(Metric)
    run_id = things["zebra"].named["run_id"]
    assert session.get(Run, run_id) is None
    assert session.scalar(select(func.count()).where(Run.status == "done")) == 1
    assert session.scalar(select(func.sum(Job.done))) == 1
    assert session.scalars(select(other.name)).all() == ["yak-score"]
    inside = select(Run.job_id).where(Run.id == run_id)
    assert session.scalars(select(Subject.id).where(inside.exists())).all() == []
    assert session.scalars(select(Job.id).union(select(Run.job_id))).all() == [things["yak"].named["job_id"]]
    counted = select(Dataset.name, func.count(Scan.id)).outerjoin(Subject).outerjoin(Scan.imaging_session)
    named = {row[0] for row in session.execute(counted.group_by(Dataset.name))}
    assert "yak-heads" in named
    assert not any("zebra" in name for name in named)
    few = select(Run.id).cte("few")
    assert session.scalars(select(few.c.id)).all() == [things["yak"].named["run_id"]]


def test_changes_reach_own_rows_alone(session, things):
    session.execute(update(Run).values(error_message="changed"))
    session.execute(delete(Metric))
    with seeing_everything(session):
        said = dict(session.execute(select(Run.id, Run.error_message)).all())
        assert said[things["zebra"].named["run_id"]] == ""
        assert said[things["yak"].named["run_id"]] == "changed"
        assert session.scalars(select(Metric.name)).all() == ["zebra-score"]
    session.rollback()


def test_a_block_that_must_know_all_rows_sees_them_and_ends(session):
    jobs = select(func.count()).select_from(Job)
    own = session.scalar(jobs)
    with seeing_everything(session):
        assert session.scalar(jobs) > own >= 1
    assert session.scalar(jobs) == own


def test_nobody_in_no_project_sees_nothing(house, things):
    for table in NARROWED:
        assert read(house, Principal("new"), table) == {}, table.__name__
