"""Whose turn it is, which worker takes what, and what stays loaded."""

import threading
import time
import tracemalloc
import uuid
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from imitated import SEGMENT, fill, wait
from sqlalchemy import select, update

from voxelight.app.presence import explain_needs
from voxelight.app.runner import Runner
from voxelight.app.verbs.progress import Places
from voxelight.app.warm import WARM, WarmModels
from voxelight.app.worker import working
from voxelight.models.errors import Conflict
from voxelight.storage.joblog import read_events
from voxelight.storage.leases import Fenced, fence, finish, give_back, list_candidates, release, take
from voxelight.storage.schema import Job, QueueEntry, Run, Worker
from voxelight.storage.workers import Facts, Watch, beat, bury, list_workers, sign_in

FACTS = Facts(host="here", pid=1, place="here/1:1", queues=("cpu",), memory_gib=8.0)


@pytest.fixture
def me(services):
    """A worker that is signed in."""
    return enter(services, "one")


def enter(services, name, **facts):
    with services.stores.sessions.begin() as session:
        return sign_in(session, name, Facts(**vars(FACTS) | {"place": f"here/{name}"} | facts), None)


@pytest.fixture
def submit(services):
    """Submit a job of somebody, and return its id."""
    fill(services, 1)

    def ask(owner="", priority=0, need_gib=None):
        job = services.jobs.submit(SEGMENT.model_copy(update={"priority": priority}))
        if not owner and need_gib is None:
            return job.id
        with services.stores.sessions.begin() as session:
            session.execute(update(Job).where(Job.id == job.id).values(owner=owner))
            row = session.get_one(Job, job.id)
            session.refresh(row)
            services.queue.enqueue(session, row)
            if need_gib is not None:
                session.execute(update(QueueEntry).where(QueueEntry.job_id == job.id).values(need_gib=need_gib))
        return job.id

    return ask


def take_next(services, me, memory_gib=8.0):
    with services.stores.sessions.begin() as session:
        found = list_candidates(session, "cpu", memory_gib)
        return take(session, me, found[0].number) if found else None


def test_one_persons_many_jobs_do_not_starve_anothers_one(services, me, submit):
    many = [submit("anna") for _ in range(6)]
    urgent = submit("anna", priority=2)
    one, other = submit("ben"), submit("carl")
    order = [take_next(services, me).job_id for _ in range(9)]
    assert order == [urgent, one, other, *many], "anna's urgent one first, then each in turn, then the rest in order"
    assert take_next(services, me) is None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_jobs_end_in_the_order_of_turns(services, submit):
    owners = {submit(owner): owner for owner in ("anna", "anna", "anna", "ben")}
    with working(services, ("cpu",)):
        for job_id in owners:
            wait(services, job_id)
    ended = sorted(services.jobs.find_ended(list(owners)), key=lambda job: job.finished_at)
    assert [owners[job.id] for job in ended] == ["anna", "ben", "anna", "anna"]


def test_a_job_too_large_for_a_worker_waits_for_another_and_says_so(services, me, submit):
    large, small = submit(need_gib=40.0), submit()
    assert take_next(services, me).job_id == small
    assert take_next(services, me) is None
    with services.stores.sessions.begin() as session:
        explain_needs(session, list_workers(session))
    with services.stores.sessions() as session:
        [said] = [line.message for line in read_events(session, large)[0] if "Waits for" in line.message]
    assert said == "Waits for a worker with 40.0 GiB: the largest of 1 on queue cpu has 8.0 GiB."
    assert services.jobs.show(large).notes == [said]
    [queue] = [row for row in services.workers.queues() if row.queue == "cpu"]
    assert (queue.waiting, queue.running, queue.without_worker, queue.workers, queue.items) == (1, 1, 1, 1, 2)
    assert queue.oldest_s > 0
    lease = take_next(services, enter(services, "two", memory_gib=64.0), 64.0)
    assert lease.job_id == large
    assert [row.without_worker for row in services.workers.queues()] == [0, 0]


def test_who_was_given_up_can_commit_nothing(services, me, submit):
    job_id = submit()
    lease = take_next(services, me)
    stores = fence(services.stores, lease)
    with stores.sessions.begin() as session:
        session.get_one(Job, job_id).error = "written while the ticket held"
    with services.stores.sessions.begin() as session:
        assert bury(session, session.get_one(Worker, "one"))
        assert release(session, me.name, me.generation, "silent") == 1
        assert not beat(session, me, {}, [])
    with pytest.raises(Fenced), stores.sessions.begin() as session:
        session.get_one(Job, job_id).error = "written by the dead"
    with pytest.raises(Fenced), stores.sessions.begin() as session:
        finish(session, lease)
    with services.stores.sessions() as session:
        assert session.get_one(Job, job_id).error == "written while the ticket held"
        assert not give_back(session, lease)
    assert take_next(services, me) is None, "it takes nothing before it signs in again"
    again = take_next(services, enter(services, "one"))
    assert (again.job_id, again.part) == (job_id, 2)
    assert again.name != lease.name, "the engine would take it for done"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_start_counts_against_no_item_whose_worker_lives_on(services, me, submit, monkeypatch):
    job_id = submit()
    lease = take_next(services, me)
    runner = Runner(services)
    runner.hold(lease)
    [batch] = runner.list_batches(job_id)
    begun = threading.Event()

    def stall(self, job):
        begun.set()
        with services.stores.sessions.begin() as session:
            assert release(session, me.name, me.generation, "silent") == 1
        self._go_on(job)

    monkeypatch.setattr(Runner, "_find_open", stall)
    with pytest.raises(Fenced):
        runner.run_batch(job_id, batch)
    assert begun.is_set()
    with services.stores.sessions() as session:
        assert session.scalars(select(Run.attempts).where(Run.job_id == job_id)).all() == [0] * len(batch)


def test_an_entry_goes_to_one_of_many_who_reach_for_it(services, me, submit):
    for _ in range(8):
        submit()
    names = [enter(services, f"worker{number}") for number in range(4)]
    taken, problems = [], []

    def reach(me):
        try:
            while (lease := take_next(services, me)) is not None:
                taken.append(lease.workflow_id)
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=reach, args=(each,)) for each in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    while (lease := take_next(services, me)) is not None:  # a thread that lost a race may have seen none left
        taken.append(lease.workflow_id)
    assert problems == []
    assert set(Counter(taken).values()) == {1}
    assert len(taken) == 8


def test_two_places_have_one_name_only_in_turn(services):
    first = enter(services, "one", place="here/1:1")
    assert enter(services, "one", place="there/1:1") is None, "it may be alive"
    again = enter(services, "one", place="here/1:1")
    assert again.generation == first.generation + 1, "the same lock: its process is gone"
    with services.stores.sessions.begin() as session:
        beats = session.get_one(Worker, "one").beats
        taken = sign_in(session, "one", Facts(**vars(FACTS) | {"place": "there/1:1"}), beats)
        assert taken.generation == again.generation + 1, "it stood still for long enough"
        assert not beat(session, again, {}, [])
    with services.stores.sessions.begin() as session:
        assert beat(session, taken, {}, [])


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_elsewhere_is_refused_while_the_first_beats(services):
    elsewhere = services.settings.model_copy(update={"home": services.settings.home.parent / "elsewhere"})
    with (
        working(services, ("cpu",), "one"),
        pytest.raises(Conflict, match="one living worker"),
        working(replace(services, settings=elsewhere), ("cpu",), "one"),
    ):
        pass


def row(name, beats, generation=1):
    return Worker(name=name, beats=beats, generation=generation)


def test_neither_a_clock_nor_a_database_that_was_away_makes_a_worker_dead():
    now = [0.0]
    watch = Watch(3.0, clock=lambda: now[0])

    def look(passed, **beats):
        now[0] += passed
        return [each.name for each in watch.look([row(name, count) for name, count in beats.items()])]

    assert look(0, a=1, b=1) == []
    for step in range(2, 7):
        assert look(0.5, a=step, b=1) == []
    assert look(0.5, a=7, b=1) == ["b"], "three seconds without a beat"
    assert look(0.5, a=7, b=2) == [], "it came back"
    assert look(600, a=7, b=2) == [], "ten minutes without a look say nothing"
    assert look(1.0, a=8, b=3) == []


def test_the_networks_used_longest_ago_go_when_the_budget_is_full(caplog):
    caplog.set_level("INFO", logger="voxelight.app.warm")
    warm, loads = WarmModels(budget_bytes=100), []

    def find(name, size, need=0):
        def load():
            loads.append(name)
            return np.zeros(size, np.uint8)

        return warm.find(name, f"recipe {name}", "cpu", load, lambda kept: kept.nbytes, need)

    find("a", 40), find("b", 40), find("a", 40)
    assert loads == ["a", "b"]
    find("c", 40)
    assert warm.describe() == {"recipe a": 40, "recipe c": 40}, "b was used longest ago"
    assert "Let go of recipe b" in caplog.text
    find("d", 500)
    assert warm.describe() == {"recipe d": 500}, "what is in use stays, however large"
    find("e", 30, need=30)
    assert warm.describe() == {"recipe e": 30}, "room was made before it was loaded"
    assert (loads, warm.evicted) == (["a", "b", "c", "d", "e"], 4)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_shows_what_it_keeps_loaded(services, submit):
    with working(services, ("cpu",), "one"):
        wait(services, submit())
        deadline = time.monotonic() + 90
        while not (found := services.workers.list()[0]).warm_bytes:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert found.warm_bytes["hippocampus-agunet"] > 100_000
        assert (found.state, found.queues, found.generation) == ("running", ["cpu"], 1)
        assert services.workers.list(alive=True) == services.workers.list()
    assert [each.state for each in services.workers.list()] == ["stopped"]
    assert services.workers.list(alive=True) == []


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_cold_worker_leaves_a_job_to_a_warm_one_for_a_moment_only(services, submit):
    WARM.clear()  # of what other tests of this process left
    job_id = submit()
    warm, stop = enter(services, "warm"), threading.Event()

    def keep_warm():
        while not stop.wait(0.2):
            with services.stores.sessions.begin() as session:
                beat(session, warm, {"hippocampus-agunet": 1}, ["cpu"])

    with services.stores.sessions.begin() as session:
        beat(session, warm, {"hippocampus-agunet": 1}, ["cpu"])
    thread = threading.Thread(target=keep_warm)
    thread.start()
    settings = services.settings.model_copy(update={"head_start_s": 3.0})
    try:
        with working(replace(services, settings=settings), ("cpu",), "cold"):
            began = time.monotonic()
            time.sleep(1.5)
            assert services.jobs.show(job_id).status == "queued", "the warm one has a head start"
            assert wait(services, job_id).status == "done"
            assert time.monotonic() - began > 2.5
    finally:
        stop.set()
        thread.join()


def test_ids_of_entries_are_those_that_the_engine_had(services, submit):
    job_id = submit()
    with services.stores.sessions() as session:
        [entry] = session.scalars(select(QueueEntry))
        assert entry.workflow_id == session.get_one(Job, job_id).workflow_id == f"{uuid.UUID(str(job_id))}.1"


def test_places_of_a_long_queue_take_little_memory():
    ids = sorted((uuid.uuid4() for _ in range(20_000)), key=lambda job_id: job_id.bytes)
    rows = ((job_id, place) for place, job_id in enumerate(ids, start=1))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        places = Places(rows)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert [places.find(job_id) for job_id in ids] == list(range(1, 20_001))
    assert places.find(uuid.uuid4()) is None
    assert taken / len(ids) < 30
