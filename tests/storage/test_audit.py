"""Nobody changes, takes out or cuts off an event unseen; on both databases, with writers at once."""

import json
import threading
import uuid
from contextlib import contextmanager

import pytest
from sqlalchemy import delete, text, update

from voxelight.models.errors import BadInput
from voxelight.storage.audit import AuditLog, Head, note, parse_head, read_events
from voxelight.storage.database import open_engine, open_sessions
from voxelight.storage.schema import AuditEvent, Base, Dataset, Review, SavedSearch


@pytest.fixture
def log(tmp_path):
    return AuditLog(tmp_path / "audit.key", tmp_path / "audit.head")


@contextmanager
def opened(url, log):
    engine = open_engine(url)
    Base.metadata.create_all(engine)
    sessions = open_sessions(engine)
    log.watch(sessions)
    yield sessions
    engine.dispose()


@pytest.fixture
def sessions(tmp_path, log):
    with opened(f"sqlite:///{tmp_path / 'voxelight.sqlite'}", log) as sessions:
        yield sessions


@pytest.fixture
def either(database_url, log):
    """The same on both databases."""
    with opened(database_url, log) as sessions:
        yield sessions


def write(sessions, count=5):
    for number in range(count):
        with sessions.begin() as session:
            note(session, "export job", f"job {uuid.UUID(int=number)}", files=number)


def verify(sessions, log, since=None):
    with sessions() as session:
        return log.verify(session, since)


def change(sessions, statement):
    """As somebody who has the database and not the program."""
    with sessions.kw["bind"].begin() as connection:
        connection.execute(statement)


def test_rows_are_noted_with_who_wrote_them_and_nothing_that_a_person_typed(either, log):
    with either() as session, session.begin():
        session.info["principal"] = type("Principal", (), {"name": "ana"})()
        dataset = Dataset(name="Jane Doe's scans", purpose="about Jane", consent="given")
        session.add(dataset)
        session.flush()
        dataset.consent = "public"
    with either.begin() as session:
        session.delete(session.get_one(Dataset, dataset.id))
    with either() as session:
        created, changed, deleted = read_events(session)
    assert (created.seq, created.actor, created.action, created.target) == (
        1, "ana", "create dataset", f"dataset {dataset.id}"
    )  # fmt: skip
    assert created.detail == {"consent": "given", "keeps_headers": False}
    assert (changed.action, changed.detail["changed"], changed.detail["consent"]) == (
        "change dataset", ["consent"], "public"
    )  # fmt: skip
    assert (deleted.actor, deleted.action) == ("", "delete dataset")
    with either() as session:
        said = json.dumps([[each.actor, each.action, each.target, each.detail] for each in read_events(session)])
    assert "Jane" not in said
    assert verify(either, log).wrong is None


def test_what_is_rolled_back_leaves_no_event(sessions, log):
    with sessions() as session:
        session.add(Dataset(name="d"))
        session.flush()
        session.rollback()
    write(sessions, 1)
    with sessions() as session:
        assert [each.action for each in read_events(session)] == ["export job"]


def test_a_statement_over_many_rows_is_noted(sessions, log):
    with sessions.begin() as session:
        session.execute(delete(SavedSearch))
        session.execute(update(Review).values(comment=""))
    with sessions() as session:
        assert [each.action for each in read_events(session)] == ["delete saved_search", "change review"]


@pytest.mark.parametrize(
    ("spoil", "wrong", "why"),
    [
        (update(AuditEvent).where(AuditEvent.seq == 3).values(actor="somebody else"), 3, "was changed"),
        (update(AuditEvent).where(AuditEvent.seq == 2).values(detail={"files": 7}), 2, "was changed"),
        (text("UPDATE audit_event SET at = '2020-01-01 00:00:00.000000' WHERE seq = 4"), 4, "was changed"),
        (delete(AuditEvent).where(AuditEvent.seq == 2), 3, "missing"),
        (delete(AuditEvent).where(AuditEvent.seq == 1), 2, "missing"),
        (delete(AuditEvent).where(AuditEvent.seq >= 4), 4, "all up to 5"),
        (delete(AuditEvent), 1, "all up to 5"),
    ],
)
def test_the_first_event_that_was_touched_is_named(sessions, log, spoil, wrong, why):
    write(sessions)
    assert verify(sessions, log).events == 5
    change(sessions, spoil)
    found = verify(sessions, log)
    assert (found.wrong, why in found.why) == (wrong, True)


def test_a_chain_written_anew_with_another_key_is_found(sessions, log, tmp_path):
    write(sessions)
    change(sessions, delete(AuditEvent))
    forger = AuditLog(tmp_path / "other.key", tmp_path / "other.head")
    with sessions.kw["bind"].connect() as connection:
        forged = open_sessions(connection.engine)
        forger.watch(forged)
        write(forged, 6)
    assert verify(sessions, forger).wrong is None
    assert verify(sessions, log).wrong == 1


def test_a_head_that_was_written_down_finds_a_chain_that_was_cut_with_its_file(sessions, log, tmp_path):
    write(sessions)
    head = verify(sessions, log).head
    change(sessions, delete(AuditEvent).where(AuditEvent.seq > 2))
    (tmp_path / "audit.head").unlink()
    assert verify(sessions, log).wrong is None
    assert verify(sessions, log, parse_head(str(head))).wrong == 3
    assert "written down" in verify(sessions, log, Head(2, "f" * 64)).why


def test_a_file_of_the_head_that_was_changed_is_refused_and_stays(sessions, log, tmp_path):
    write(sessions)
    (tmp_path / "audit.head").write_text(f"2 {'a' * 64} {'b' * 64}\n")
    with pytest.raises(BadInput, match=r"audit\.head, which was changed"):
        verify(sessions, log)
    write(sessions, 1)
    assert (tmp_path / "audit.head").read_text().startswith("2 ")


def test_writers_at_once_make_one_chain(either, log, tmp_path):
    logs = [AuditLog(tmp_path / "audit.key", tmp_path / "audit.head") for _ in range(4)]
    barrier = threading.Barrier(4)

    def work(log):
        engine = open_engine(either.kw["bind"].url.render_as_string(hide_password=False))
        own = open_sessions(engine)
        log.watch(own)
        barrier.wait()
        write(own, 15)
        engine.dispose()

    threads = [threading.Thread(target=work, args=(each,)) for each in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = verify(either, log)
    assert (found.events, found.wrong) == (60, None)
    assert log.read_head() == found.head
