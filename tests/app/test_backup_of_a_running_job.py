"""A backup that is taken in the middle of a job brings the job back, and it ends as the other one did."""

import time

import pytest
from sqlalchemy import select

from voxelight.app.bootstrap import open_services
from voxelight.app.queue import JobQueue
from voxelight.app.schemas import JobRequest
from voxelight.app.settings import Settings
from voxelight.app.worker import working
from voxelight.storage.artifacts import BlobStore
from voxelight.storage.backup import BackupPlace, Besides, take_backup
from voxelight.storage.database import open_engine
from voxelight.storage.moving import Place
from voxelight.storage.restore import restore
from voxelight.storage.schema import Artifact, Run


def tell(_what, _done, _total):
    """Nobody looks."""


def wait_until(services, job_id, until):
    deadline = time.monotonic() + 120
    while not until(job := services.jobs.show(job_id)):
        assert time.monotonic() < deadline, job
        time.sleep(0.01)
    return job


def list_files(services, job_id):
    """What a job gave: hashes by item, role and name, but for sidecars, which tell the time."""
    query = select(Run.item_key, Artifact.role, Artifact.name, Artifact.blob_sha256).join(
        Run, Run.id == Artifact.run_id
    )
    with services.stores.sessions() as session:
        rows = session.execute(query.where(Run.job_id == job_id, Artifact.role != "sidecar"))
        return {(row.item_key, row.role, row.name): row.blob_sha256 for row in rows}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_job_goes_on_where_the_backup_found_it(services, brain, tmp_path):
    job = services.jobs.submit(JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset=brain, queue="cpu"))
    url = str(tmp_path / "kept")
    kept = BackupPlace(url, BlobStore(url, tmp_path / "spool"))
    source = Place(services.stores.engine, services.stores.blobs)
    with working(services):
        wait_until(services, job.id, lambda now: now.done >= 1)
        taken = take_backup(source, kept, Besides(tmp_path), "0.0", tell)
        wait_until(services, job.id, lambda now: now.status == "done")
    settings = Settings(home=tmp_path / "other", database_url=f"sqlite:///{tmp_path / 'other.sqlite'}", poll_s=0.05)
    target = Place(open_engine(settings.database_url), BlobStore(settings.resolved_blobs_url, settings.spool))
    moved = restore(kept, *kept.read(), target, settings.home, JobQueue(settings.database_url), tell)
    target.engine.dispose()
    other = open_services(settings)
    try:
        before = other.jobs.show(job.id)
        assert 1 <= before.done < before.total, f"the job was {before.status} when it was kept, so nothing was tried"
        assert moved.requeued == [str(job.id)]
        finished = {run.id: run.finished_at for run in other.jobs.list_runs(job.id, status="done")}
        with working(other):
            after = wait_until(other, job.id, lambda now: now.status not in ("queued", "running"))
        assert (after.status, after.done, after.failed) == ("done", after.total, 0)
        runs = {run.id: run.finished_at for run in other.jobs.list_runs(job.id)}
        assert {each: runs[each] for each in finished} == finished, "done items were done again"
        assert list_files(other, job.id) == list_files(services, job.id)
    finally:
        other.close()
    assert taken.snapshot.keys is False
