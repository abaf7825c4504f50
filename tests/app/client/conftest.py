"""An installation behind a real socket, a client before it, and jobs done here and now."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.bootstrap import open_services
from voxelight.app.client import Client
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobAnswer
from voxelight.app.schemas_uploads import Place
from voxelight.app.services import Services
from voxelight.app.settings import Settings


@pytest.fixture
def services(tmp_path, with_tables) -> Iterator[Services]:
    settings = Settings(home=tmp_path / "home", poll_s=0.05)
    with_tables(settings.resolved_database_url)
    with closing(open_services(settings)) as services:
        yield services


@pytest.fixture
def url(services, serve_api) -> Iterator[str]:
    with serve_api(services) as url:
        yield url


@pytest.fixture
def client(url) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture
def place(client) -> Place:
    """A place in a data set that may be decoded."""
    client.datasets.create(DatasetRequest(name="figures", consent="public", purpose="tests of the software"))
    return Place(dataset="figures", subject="01", session="01")


@pytest.fixture
def volume(tmp_path) -> Path:
    """An image of a ramp on the disk."""
    path = tmp_path / "t1.nii.gz"
    nib.save(nib.Nifti1Image(np.arange(8 * 9 * 10, dtype=np.int16).reshape(8, 9, 10), np.eye(4)), path)
    return path


@pytest.fixture
def betas(tmp_path, betas_mat) -> Path:
    """Simulated betas on the disk."""
    path = tmp_path / "betas.mat"
    path.write_bytes(betas_mat)
    return path


@pytest.fixture
def carry_out(services) -> Callable[[uuid.UUID], JobAnswer]:
    """Do the steps of a job here and now."""

    def _carry_out(job_id: uuid.UUID) -> JobAnswer:
        runner = Runner(services)
        for batch in runner.list_batches(job_id):
            runner.run_batch(job_id, batch)
        runner.close(job_id)
        return services.jobs.show(job_id)

    return _carry_out


@pytest.fixture
def noise(tmp_path) -> Path:
    """An image of 3 MiB of noise on the disk."""
    path = tmp_path / "noise.nii"
    voxels = np.random.default_rng(5).integers(0, 30_000, (128, 96, 128), dtype=np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    return path
