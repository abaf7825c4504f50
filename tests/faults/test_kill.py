"""A worker that dies, or is asked to stop, in the middle of a batch loses nothing and does nothing twice."""

import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import nibabel as nib
import numpy as np
import pytest
import scipy.io
from sqlalchemy import func, select

from voxelight.app.schemas import DatasetRequest, JobRequest, ResultQuery, ScanRequest
from voxelight.storage.schema import Artifact, Reconstruction, Run, Segmentation


@pytest.fixture
def batch(services, tmp_path, n_items):
    """A job over volumes that nobody works on yet."""
    services.datasets.create(DatasetRequest(name="batch"))
    for number in range(n_items):
        array = np.random.default_rng(number).normal(300, 80, (32, 40, 32)).astype(np.float32)
        path = tmp_path / f"crop{number:02}.nii.gz"
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="batch"))
    return services.jobs.submit(JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="batch", queue="cpu"))


def _start_worker(services):
    environment = os.environ | {
        "VOXELIGHT_HOME": str(services.settings.home),
        "VOXELIGHT_DATABASE_URL": services.settings.database_url,
        "VOXELIGHT_POLL_S": "0.1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "voxelight.app.cli", "worker", "--queue", "cpu"]
    return subprocess.Popen(command, env=environment)


def _wait(services, job_id, until, seconds=180):
    deadline = time.monotonic() + seconds
    while not until(job := services.jobs.show(job_id)):
        assert time.monotonic() < deadline, f"still {job}"
        time.sleep(0.05)
    return job


@pytest.mark.parametrize(
    ("database_url", "n_items", "blow"),
    [("sqlite", 20, signal.SIGKILL), ("postgresql", 10, signal.SIGKILL), ("sqlite", 10, signal.SIGTERM)],
    indirect=["database_url"],
)
def test_the_next_worker_finishes_what_the_last_one_left(services, batch, n_items, blow):
    worker = _start_worker(services)
    try:
        _wait(services, batch.id, lambda job: job.done >= n_items // 4)
        worker.send_signal(blow)
        worker.wait(60)
        left = services.jobs.show(batch.id)
        assert left.status == "running"
        assert n_items // 4 <= left.done < n_items
        finished = {run.id: run.finished_at for run in services.jobs.list_runs(batch.id, status="done")}
        worker = _start_worker(services)
        job = _wait(services, batch.id, lambda job: job.status in ("done", "failed"))
    finally:
        worker.kill()
        worker.wait(60)
    assert (job.status, job.done, job.failed) == ("done", n_items, 0)
    runs = services.jobs.list_runs(batch.id)
    assert {run.id: run.finished_at for run in runs if run.id in finished} == finished, "done items were done again"
    assert sum(run.attempts for run in runs) <= n_items + 1, "at most the item under way was started twice"
    assert len({result.scan for result in services.results.walk(ResultQuery(job=batch.id))}) == n_items
    with services.stores.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Segmentation)) == n_items
        roles = Counter(session.scalars(select(Artifact.role)))
        hashes = list(session.scalars(select(Artifact.blob_sha256)))
    assert roles == {"label_map": n_items, "overlay": n_items, "sidecar": n_items}
    services.sweep(older_than_s=-1)
    assert all(services.stores.blobs.exists(sha256) for sha256 in hashes), "a sweep took what a row names"
    assert services.sweep(older_than_s=-1) == [], "a sweep left something"


def _list_running(services, job):
    return {run.id for run in services.jobs.list_runs(job.id, status="running")}


@pytest.fixture
def decoding(services, n_items):
    """A job that decodes random betas by random weights, three stimuli at once."""
    rng, shown = np.random.default_rng(0), np.tile(np.arange(n_items), 2)
    content = io.BytesIO()
    betas, pictures = rng.normal(size=(len(shown), 1200)), rng.integers(0, 255, (n_items, 64)).astype(np.uint8)
    scipy.io.savemat(content, {"fmriTrn": betas.astype(np.float32), "stimTrn": pictures[shown]})
    content.seek(0)
    services.datasets.create(DatasetRequest(name="random", consent="simulated", purpose="a test", simulated=True))
    services.scans.ingest(content, ScanRequest(name="betas.mat", dataset="random"))
    options = {"batch": 3, "dtype": "float32"}
    return services.jobs.submit(
        JobRequest(kind="decode", recipe="random-small", dataset="random", queue="cpu", options=options)
    )


@pytest.mark.parametrize(("database_url", "n_items"), [("sqlite", 9)], indirect=["database_url"])
def test_a_batch_of_denoising_that_is_cut_off_is_done_again_and_kept_once(services, decoding, n_items):
    worker = _start_worker(services)
    try:
        _wait(services, decoding.id, lambda job: job.done >= 3 and len(_list_running(services, job)) == 3)
        worker.kill()
        worker.wait(60)
        under_way = _list_running(services, decoding)
        assert under_way, "the batch ended before the blow"
        finished = {run.id: run.finished_at for run in services.jobs.list_runs(decoding.id, status="done")}
        assert len(finished) < n_items
        worker = _start_worker(services)
        job = _wait(services, decoding.id, lambda job: job.status in ("done", "failed"))
    finally:
        worker.kill()
        worker.wait(60)
    assert (job.status, job.done, job.failed) == ("done", n_items, 0)
    runs = services.jobs.list_runs(decoding.id)
    assert {run.id: run.finished_at for run in runs if run.id in finished} == finished, "done items were done again"
    again = {run.id for run in runs if run.attempts > 1}
    assert again == under_way, "only what was under way was started twice"
    with services.stores.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Reconstruction)) == n_items
        roles = Counter(session.scalars(select(Artifact.role).where(Artifact.run_id.is_not(None))))
    assert roles.pop("retrieved") == 5 * n_items
    assert set(roles.values()) == {n_items}


@pytest.mark.parametrize(("database_url", "n_items"), [("sqlite", 4)], indirect=["database_url"])
def test_an_item_that_takes_its_worker_down_each_time_is_given_up(services, batch, n_items):
    with services.stores.sessions.begin() as session:
        poison = session.scalars(select(Run).where(Run.item_key.contains("crop03"))).one()
        poison.attempts = services.settings.max_attempts
    worker = _start_worker(services)
    try:
        job = _wait(services, batch.id, lambda job: job.status in ("done", "failed"))
    finally:
        worker.kill()
        worker.wait(60)
    assert (job.status, job.done, job.failed) == ("failed", n_items - 1, 1)
    [lost] = services.jobs.list_runs(batch.id, status="failed")
    assert (lost.scan, lost.error_class) == ("crop03.nii.gz", "WorkerLost")
