"""A disk or a database that is away for a while costs no item anything; one that stays away is said."""

import errno
import time

import nibabel as nib
import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from voxelight.app.bootstrap import open_services
from voxelight.app.patience import is_store_away
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.app.worker import working
from voxelight.storage.artifacts import BlobStore

FULL = OSError(errno.ENOSPC, "No space left on device")


def submit(services, tmp_path, count=2):
    services.datasets.create(DatasetRequest(name="crops", simulated=True))
    for number in range(count):
        array = np.random.default_rng(number).normal(300, 80, (32, 40, 32)).astype(np.float32)
        path = tmp_path / f"crop{number}.nii.gz"
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="crops"))
    return services.jobs.submit(JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="crops", queue="cpu"))


def carry_out(services, job):
    runner = Runner(services)
    for batch in runner.list_batches(job.id):
        runner.run_batch(job.id, batch)
    runner.close(job.id)
    return services.jobs.show(job.id)


@pytest.fixture
def disk(monkeypatch):
    """A disk that is full for the next so many files."""
    full, put = {"for": 0}, BlobStore.put_bytes

    def refuse(self, content):
        if full["for"] > 0:
            full["for"] -= 1
            raise FULL
        return put(self, content)

    monkeypatch.setattr(BlobStore, "put_bytes", refuse)
    return full


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_item_waits_for_room_on_the_disk_and_is_done_once(services, tmp_path, disk, one_thread):
    job = submit(services, tmp_path)
    disk["for"] = 2
    job = carry_out(services, job)
    assert (job.status, job.done, job.failed) == ("done", 2, 0)
    assert [run.attempts for run in services.jobs.list_runs(job.id)] == [1, 1]
    said = [line.message for line in services.jobs.read_log(job.id).items if line.level == "warning"]
    assert len(said) == 1
    assert "No space left on device" in said[0]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_item_fails_once_it_has_waited_for_long_enough(services, tmp_path, disk, one_thread):
    job = submit(services, tmp_path)
    impatient = open_services(services.settings.model_copy(update={"patience_s": 0.4}))
    disk["for"] = 99
    job = carry_out(impatient, job)
    impatient.close()
    assert (job.status, job.done, job.failed) == ("failed", 0, 2)
    assert {run.error_class for run in services.jobs.list_runs(job.id)} == {"OSError"}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_job_goes_on_when_the_database_has_cut_every_connection(services, tmp_path, one_thread):
    job, cut = submit(services, tmp_path, 6), 0
    others = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with working(services, queues=("cpu",)):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                job = services.jobs.show(job.id)
                if job.status in ("done", "failed"):
                    break
                if job.done > cut and cut < 3:
                    with services.stores.engine.connect() as connection:
                        connection.execute(others)
                    cut += 1
            except OperationalError:
                continue
            time.sleep(0.02)
    assert cut == 3
    assert (job.status, job.done, job.failed) == ("done", 6, 0)
    assert all(run.attempts == 1 for run in services.jobs.list_runs(job.id)), "no start counts against an item"


def test_what_is_away_is_told_from_what_is_wrong():
    assert is_store_away(FULL)
    assert is_store_away(ConnectionResetError())
    assert not is_store_away(FileNotFoundError(errno.ENOENT, "gone"))
    assert not is_store_away(ValueError("no number"))
    wrapped = ValueError("the file can't be written")
    wrapped.__cause__ = FULL
    assert is_store_away(wrapped)
