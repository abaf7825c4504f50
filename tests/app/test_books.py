"""The audit finds each way in which the books can fail to balance, and nothing where they do."""

import os
import time
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, event, select, update

from voxelight.app.books import audit
from voxelight.app.schemas import JobRequest
from voxelight.app.schemas_uploads import UploadRequest
from voxelight.app.worker import working
from voxelight.storage.schema import Artifact, Blob, Job, QueueEntry, Run, Segmentation, Upload, utc_now
from voxelight.storage.stores import name_blob

RECIPE = {"kind": "segment", "recipe": "hippocampus-agunet", "dataset": "volumes", "queue": "cpu"}


@pytest.fixture
def done(services, volumes, one_thread):
    """A job that a worker has done, long ago for the audit."""
    job = services.jobs.submit(JobRequest(**RECIPE))
    with working(services):
        deadline = time.monotonic() + 100
        while services.jobs.show(job.id).status != "done" and time.monotonic() < deadline:
            time.sleep(0.05)
    assert audit(services, older_than_s=0, deep=True) == []
    return job.id


def spoil(services, *statements):
    with services.stores.sessions.begin() as session:
        for statement in statements:
            session.execute(statement)


def find(services, **how):
    return [(each.what.split()[0], each.found) for each in audit(services, older_than_s=0, **how)]


def test_what_does_not_add_up_is_named(services, done, tmp_path):
    with services.stores.sessions() as session:
        file = session.scalars(select(Artifact).where(Artifact.role == "label_map")).first()
        [run, other, _] = session.scalars(select(Run.id).order_by(Run.position))
    root = Path(services.settings.resolved_blobs_url)
    path = root / "sha256" / file.blob_sha256[:2] / file.blob_sha256
    content = path.read_bytes()

    path.write_bytes(content[:-1])
    assert find(services) == [("blob", f"{len(content) - 1} bytes")]
    path.write_bytes(bytes(len(content)))
    assert find(services) == []
    [(_, found)] = find(services, deep=True)
    assert found.startswith("content with the hash")
    path.unlink()
    assert find(services) == [("blob", "no file")]
    path.write_bytes(content)

    spoil(services, update(Job).values(done=2))
    assert find(services) == [("counters", "3 items, 2 done, 0 failed")]
    spoil(services, update(Job).values(done=3), update(Run).where(Run.id == other).values(status="running"))
    names = find(services)
    assert ("items", "1 that are running in a job that is done") in names
    assert ("item", "results, though it is not done") in names
    spoil(services, update(Run).values(status="done"), delete(Segmentation).where(Segmentation.run_id == run))
    assert find(services) == [("item", "no label map")]
    spoil(services, update(Run).where(Run.id == run).values(status="failed"), update(Job).values(done=2, failed=1))
    assert ("item", "results, though it is not done") in find(services)
    spoil(services, delete(Artifact).where(Artifact.run_id == run))
    assert {found for _, found in find(services)} == {"nothing that refers to it"}
    services.sweep(older_than_s=-1)
    assert find(services) == []


def test_an_item_that_ends_while_the_audit_reads_is_no_discrepancy(services, done):
    run = select(Run.id).where(Run.position == 0).scalar_subquery()
    spoil(services, update(Run).where(Run.id == run).values(status="running"), update(Job).values(done=2))
    with services.stores.sessions() as session:
        engine = session.get_bind()

    def end_it(*_):
        if not ended:
            ended.append(True)
            spoil(services, update(Run).where(Run.id == run).values(status="done"), update(Job).values(done=3))

    ended = []
    event.listen(engine, "after_cursor_execute", end_it)  # the audit has its first answer, and asks on
    assert find(services) == []
    event.remove(engine, "after_cursor_execute", end_it)
    with services.stores.sessions() as session:
        assert session.scalar(select(Job.done)) == 3


def test_what_no_row_names_is_left_over_once_it_is_old(services, done):
    content = services.stores.blobs.put_bytes(b"left by a crash")
    lost = services.settings.spool / "half.part"
    lost.write_bytes(b"half")
    assert {what for what, _ in find(services)} == {"file"}
    assert len(find(services)) == 2
    assert audit(services) == []
    with services.stores.sessions.begin() as session:
        name_blob(session, content, "text/plain")
    assert ("row", "nothing that refers to it") in find(services)
    spoil(services, update(Blob).where(Blob.sha256 == content.sha256).values(created_at=utc_now() - timedelta(days=2)))
    assert [each.what.split()[0] for each in audit(services)] == ["row"]
    services.sweep(older_than_s=-1)
    assert find(services) == []


def test_a_job_that_is_open_stands_on_its_queue_and_no_other_does(services, volumes):
    job = services.jobs.submit(JobRequest(**RECIPE))
    assert find(services) == []
    spoil(services, update(QueueEntry).values(worker="gone", generation=1))
    assert find(services) == [("place", "held by gone, which is not known")]
    spoil(services, update(QueueEntry).values(worker="", generation=0), update(Job).values(attempt=7))
    assert find(services) == [("job", "not on a queue")]
    spoil(services, update(Job).values(attempt=1, status="failed"), update(Run).values(status="failed"))
    assert ("job", "still on a queue") in find(services)
    spoil(services, update(Job).values(status="queued"), update(Run).values(status="pending"))
    services.jobs.cancel(job.id)
    assert find(services) == []


def test_uploads_are_compared_with_their_files(services, volumes):
    upload = services.uploads.create(UploadRequest(dataset="volumes", name="new.nii.gz", size=10))
    assert find(services) == []
    path = services.settings.uploads / uuid.UUID(str(upload.id)).hex
    path.write_bytes(b"more than ten bytes")
    assert find(services) == [("upload", "19 bytes")]
    path.unlink()
    assert find(services) == [("upload", "no file")]
    path.write_bytes(b"")
    spoil(services, delete(Upload))
    assert find(services) == [("file", "no upload that is open")]
    old = time.time() - 100_000
    os.utime(path, (old, old))
    assert [each.what.split()[0] for each in audit(services)] == ["file"]
    services.sweep()
    assert find(services) == []
