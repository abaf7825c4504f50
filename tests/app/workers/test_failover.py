"""What a worker leaves behind, dead, asleep or told to stop, another one goes on with; nothing is done twice."""

import os
import signal
import time
from collections import Counter

import pytest
from imitated import SEGMENT, fill, list_starts, wait
from sqlalchemy import func, select

from voxelight.storage.schema import Artifact, QueueEntry, Segmentation, Worker

N_ITEMS = 9


def check_books(services, job, n_items):
    """Every item is done once, its rows and files are there once, and nothing is left on the queue."""
    assert (job.status, job.done, job.failed) == ("done", n_items, 0)
    with services.stores.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Segmentation)) == n_items
        roles = Counter(session.scalars(select(Artifact.role)))
        hashes = list(session.scalars(select(Artifact.blob_sha256)))
        assert session.scalar(select(func.count()).select_from(QueueEntry)) == 0
    assert roles == {"label_map": n_items, "overlay": n_items, "sidecar": n_items}
    assert all(services.stores.blobs.exists(sha256) for sha256 in hashes)


def find_worker(services, job):
    with services.stores.sessions() as session:
        return session.scalar(select(QueueEntry.worker).where(QueueEntry.job_id == job.id))


def find_states(services):
    with services.stores.sessions() as session:
        return {row.name.rpartition("-")[2]: row.state for row in session.scalars(select(Worker))}


def begin(services, hosts, **changes):
    """A job that one of two hosts works on; return it, that host's name, and the other's."""
    fill(services, N_ITEMS)
    for host in ("a", "b"):
        hosts.start(host, **changes)
    while find_states(services) != {"a": "running", "b": "running"}:
        time.sleep(0.05)
    job = services.jobs.submit(SEGMENT)
    wait(services, job.id, lambda job: job.done >= 1)
    busy = find_worker(services, job)[-1]
    return job, busy, "b" if busy == "a" else "a"


def is_with(services, host):
    """Whether a host works on a job."""
    return lambda job: (find_worker(services, job) or "").endswith(f"-{host}")


def test_another_worker_goes_on_where_a_killed_one_was(services, hosts, capsys):
    job, busy, other = begin(services, hosts)
    hosts.running[busy].kill()
    killed = time.monotonic()
    left = services.jobs.show(job.id)
    assert 1 <= left.done < N_ITEMS - 1
    done = {run.id: run.finished_at for run in services.jobs.list_runs(job.id, status="done")}
    wait(services, job.id, is_with(services, other))
    taken = time.monotonic() - killed
    with capsys.disabled():
        print(f"\n{services.stores.engine.dialect.name}: taken up by another {taken:.1f} s after kill -9")
    assert taken < 20, "several times what it takes, for busy machines"
    job = wait(services, job.id)
    check_books(services, job, N_ITEMS)
    runs = services.jobs.list_runs(job.id)
    assert {run.id: run.finished_at for run in runs if run.id in done} == done, "done items were done again"
    assert sum(run.attempts for run in runs) <= N_ITEMS + 1, "at most the item under way was started twice"
    taken_up = [line for line in list_starts(services, job.id) if "Taken up" in line]
    assert [f"-{busy}:" in line for line in taken_up] == [True, False]
    assert f"{N_ITEMS - len(done)} items to do" in taken_up[1], "it began at the first unfinished item"
    assert find_states(services)[busy] == "dead"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_that_slept_through_its_own_burial_writes_nothing(services, hosts):
    job, busy, other = begin(services, hosts)
    os.kill(hosts.running[busy].pid, signal.SIGSTOP)
    wait(services, job.id, is_with(services, other))
    os.kill(hosts.running[busy].pid, signal.SIGCONT)
    job = wait(services, job.id)
    check_books(services, job, N_ITEMS)
    assert sum(run.attempts for run in services.jobs.list_runs(job.id)) <= N_ITEMS + 1
    log = list_starts(services, job.id)
    handed = next(place for place, line in enumerate(log) if f"-{other}:" in line)
    assert not any(f"-{busy}:" in line for line in log[handed:]), "the sleeper went on"
    deadline = time.monotonic() + 180
    while find_states(services)[busy] != "running":
        assert time.monotonic() < deadline, "it did not sign in again"
        time.sleep(0.1)
    assert hosts.running[busy].poll() is None
    assert "was given up by the others" in hosts.read_log(busy)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_workers_are_restarted_one_after_the_other_and_lose_nothing(services, hosts):
    patient = {"VOXELIGHT_GRACE_S": "200", "VOXELIGHT_SILENT_S": "60"}  # so that a busy machine changes nothing
    job, busy, other = begin(services, hosts, **patient)
    before = services.jobs.show(job.id)
    assert before.done < N_ITEMS - 2
    for host in (busy, other):
        hosts.running[host].terminate()
        assert hosts.running[host].wait(240) == 0
        assert find_states(services)[host] == "stopped"
        hosts.start(host, **patient)
        while find_states(services)[host] != "running":
            time.sleep(0.05)
    job = wait(services, job.id)
    check_books(services, job, N_ITEMS)
    assert {run.attempts for run in services.jobs.list_runs(job.id)} == {1}, "no item was cut off"
    taken_up = [line for line in list_starts(services, job.id) if "Taken up" in line]
    assert f"-{busy}:" in taken_up[0]
    assert f"-{other}:" in taken_up[1], "it went to the other at once"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_two_hosts_do_not_work_under_one_name(services, hosts):
    first = hosts.start("a", name="twin")
    while find_states(services).get("twin") != "running":
        time.sleep(0.05)
    second = hosts.start("b", name="twin")
    assert second.wait(60) == 4
    assert "one living worker of a name" in hosts.read_log("b")
    first.kill()
    first.wait(30)
    hosts.start("b", name="twin")
    fill(services, 1)
    assert wait(services, services.jobs.submit(SEGMENT).id).done == 1
