"""Items of several jobs that ask for the same are done in one batch, and give what they give alone, byte for byte."""

import io
import time

import pytest
from imitated import wait
from sqlalchemy import select

from voxelight.app.metrics import MIXED
from voxelight.app.pipelines import decode
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.app.worker import working
from voxelight.storage.schema import Artifact, QueueEntry, Run

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
OPTIONS = {"batch": 6, "dtype": "float32", "stop": "unrefined", "prior_steps": 2, "preset": "fast"}


@pytest.fixture
def few(services, make_mat):
    """Three data sets of two stimuli each."""
    for name in ("one", "two", "three"):
        services.datasets.create(DatasetRequest(name=name, consent="simulated", purpose="a test", simulated=True))
        content = io.BytesIO(make_mat(2, 2))
        services.scans.ingest(content, ScanRequest(name=f"{name}.mat", dataset=name))
    return ("one", "two", "three")


def ask(services, dataset, **options):
    request = JobRequest(
        kind="decode", recipe="random-small", dataset=dataset, queue="cpu", options=OPTIONS | options, seed=len(dataset)
    )
    return services.jobs.submit(request).id


def alone(services, job_id):
    """Carry a job out by itself, step by step."""
    runner = Runner(services)
    for batch in runner.list_batches(job_id):
        runner.run_batch(job_id, batch)
    assert runner.close(job_id) == "done"
    with services.stores.sessions.begin() as session:
        session.delete(session.scalars(select(QueueEntry).where(QueueEntry.job_id == job_id)).one())


def read(services, job_id):
    """What came out: item, role and name -> hash, and the provenance of each item."""
    with services.stores.sessions() as session:
        files = session.execute(
            select(Run.item_key, Artifact.role, Artifact.name, Artifact.blob_sha256)
            .join(Run, Run.id == Artifact.run_id)
            .where(Artifact.job_id == job_id)
        )
        made = session.execute(select(Run.item_key, Run.provenance).where(Run.job_id == job_id))
        return {tuple(row[:3]): row[3] for row in files}, dict(made.all())


def count_calls(monkeypatch):
    """Note how many stimuli each call of the networks had."""
    sizes, original = [], decode.OpenDecoding.decode

    def counted(self, parts, go_on):
        sizes.append(len(parts))
        return original(self, parts, go_on)

    monkeypatch.setattr(decode.OpenDecoding, "decode", counted)
    return sizes


def test_three_small_jobs_share_a_batch_and_lose_nothing_by_it(services, few, monkeypatch):
    sizes = count_calls(monkeypatch)
    expected = []
    for name in few:
        job_id = ask(services, name)
        alone(services, job_id)
        expected.append(read(services, job_id))
    assert sizes == [2, 2, 2]
    sizes.clear()
    before = MIXED.labels("decode")._value.get()
    jobs = [ask(services, name) for name in few]
    other = ask(services, "one", prior_steps=3)
    with working(services, ("cpu",)):
        ended = [wait(services, job_id) for job_id in (*jobs, other)]
    assert [(job.status, job.done, job.failed) for job in ended] == [("done", 2, 0)] * 4
    assert sizes == [6, 2], "one batch of three jobs; other options are another batch"
    assert MIXED.labels("decode")._value.get() - before == 4
    assert [read(services, job_id) for job_id in jobs] == expected
    assert {run.attempts for job_id in jobs for run in services.jobs.list_runs(job_id)} == {1}
    assert all(len(job.artifacts) == len(ended[0].artifacts) > 0 for job in ended), "each is closed as a job of its own"


def test_a_job_that_is_cancelled_in_anothers_batch_harms_nobody(services, few, monkeypatch):
    jobs, original = [ask(services, name) for name in few], decode.OpenDecoding.decode

    def interrupted(self, parts, go_on):
        if len(parts) == 6:
            services.jobs.cancel(jobs[1])
        return original(self, parts, go_on)

    monkeypatch.setattr(decode.OpenDecoding, "decode", interrupted)
    with working(services, ("cpu",)):
        assert [wait(services, jobs[place]).status for place in (0, 2)] == ["done", "done"]
        deadline = time.monotonic() + 120
        while {run.status for run in services.jobs.list_runs(jobs[1])} != {"cancelled"}:
            assert time.monotonic() < deadline, services.jobs.list_runs(jobs[1])
            time.sleep(0.05)
    assert services.jobs.show(jobs[1]).status == "cancelled"
    assert services.jobs.retry(jobs[1]).status == "queued"
