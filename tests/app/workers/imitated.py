"""Several hosts, imitated: a process and a home folder each, over one database and one blob store."""

import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path

import boto3
import nibabel as nib
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from sqlalchemy import select

from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.app.settings import Settings
from voxelight.storage.schema import JobEvent

SEGMENT = JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="crops", queue="cpu")


class Hosts:
    """Workers in processes of their own; what a host needs of the others is two addresses."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._settings = folder, settings
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, host: str, name: str | None = None, **changes: str) -> subprocess.Popen[bytes]:
        """Start a worker on a host."""
        home = self._folder / host
        environment = os.environ | {
            "VOXELIGHT_HOME": str(home),
            "VOXELIGHT_DATABASE_URL": self._settings.database_url,
            "VOXELIGHT_BLOBS_URL": self._settings.resolved_blobs_url,
            "VOXELIGHT_POLL_S": "0.1",
            "OMP_NUM_THREADS": "1",
            **changes,
        }
        command = [sys.executable, "-m", "voxelight.app.cli", "worker", "--queue", "cpu", "--name", name or host]
        with (self._folder / f"{host}.log").open("ab") as log:
            self.running[host] = subprocess.Popen(command, env=environment, stderr=log)
        return self.running[host]

    def read_log(self, host: str) -> str:
        """Return what a host said."""
        return (self._folder / f"{host}.log").read_text()

    def close(self) -> None:
        """End every process, stopped ones as well."""
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait(30)


@pytest.fixture(scope="session")
def objects():
    """An S3-compatible store for all tests; the client keeps its connections to one address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(request, database_url, monkeypatch):
    """A bucket of an S3-compatible store beside PostgreSQL; beside SQLite, which is one machine, there is none."""
    if database_url.startswith("sqlite"):
        return ""
    for name, value in {
        "AWS_ENDPOINT_URL": request.getfixturevalue("objects"),
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"crops-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture
def services(database_url, bucket, tmp_path, with_tables):
    """The installation, as the machine that jobs are submitted from sees it."""
    with_tables(database_url)
    settings = Settings(home=tmp_path / "door", database_url=database_url, blobs_url=bucket, poll_s=0.05)
    opened = open_services(settings)
    yield opened
    opened.close()


@pytest.fixture
def hosts(services, tmp_path):
    """Where workers can be started."""
    made = Hosts(tmp_path, services.settings)
    yield made
    made.close()


def fill(services, count, dataset="crops"):
    """Store as many small volumes of noise."""
    services.datasets.create(DatasetRequest(name=dataset))
    for number in range(count):
        array = np.random.default_rng(number).normal(300, 80, (24, 32, 24)).astype(np.float32)
        path = services.settings.home / f"crop{number:02}.nii.gz"
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset=dataset))


def wait(services, job_id, until=lambda job: job.status in ("done", "failed", "cancelled"), seconds=240):
    """Return a job once it is as it should be."""
    deadline = time.monotonic() + seconds
    while not until(job := services.jobs.show(job_id)):
        assert time.monotonic() < deadline, f"still {job}"
        time.sleep(0.02)
    return job


def list_starts(services, job_id):
    """Return which host started which item, in order, from the log of the job."""
    with services.stores.sessions() as session:
        lines = session.scalars(
            select(JobEvent.message).where(JobEvent.job_id == job_id).order_by(JobEvent.created_at)
        ).all()
    return [line for line in lines if re.search(r"started|Taken up", line)]
