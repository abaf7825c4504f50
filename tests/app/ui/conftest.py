"""The page without a browser, before an installation of its own."""

import uuid
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.io import savemat
from streamlit.testing.v1 import AppTest

from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobAnswer, JobRequest, ResultAnswer, ScanRequest
from voxelight.app.services import Services
from voxelight.app.settings import Settings
from voxelight.app.web import PAGE, current_services
from voxelight.storage.formats.images import encode_png
from voxelight.storage.results import Outcome, OutputFile, record_run

RUNS_WITHIN_S = 60
STIMULI, REPEATS, VOXELS, SIDE = 6, 3, 40, 8


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_tables: Callable[[str], None]) -> Services:
    """The installation that the page stands before."""
    monkeypatch.setenv("VOXELIGHT_HOME", str(tmp_path / "home"))
    with_tables(Settings().resolved_database_url)
    return current_services()


@pytest.fixture
def visit(services: Services) -> Callable[..., AppTest]:
    """Open a page by the name of its file, at an address."""

    def open_page(page: str, **query: str) -> AppTest:
        app = AppTest.from_file(PAGE, default_timeout=RUNS_WITHIN_S).run().switch_page(f"screens/{page}.py")
        app.query_params.update(query)
        return app.run()

    return open_page


@pytest.fixture
def betas(tmp_path: Path) -> Path:
    """A subject simulated from random pictures."""
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 255, size=(STIMULI, SIDE * SIDE), dtype=np.uint8)
    shown = np.tile(np.arange(STIMULI), REPEATS)
    responses = pictures[shown] / 255 @ rng.normal(size=(SIDE * SIDE, VOXELS))
    path = tmp_path / "betas.mat"
    noise = rng.normal(size=responses.shape)
    savemat(path, {"fmriTrn": (responses + 0.1 * noise).astype(np.float32), "stimTrn": pictures[shown]})
    return path


@pytest.fixture
def dataset(services: Services, betas: Path) -> str:
    """Name of a simulated data set that may be decoded."""
    request = DatasetRequest(name="noise", consent="simulated", purpose="Tests", simulated=True)
    services.datasets.create(request)
    services.scans.ingest_path(betas, ScanRequest(name=betas.name, dataset="noise"))
    return "noise"


@pytest.fixture
def submitted(services: Services, dataset: str) -> JobAnswer:
    """A job that waits: no worker listens here."""
    request = JobRequest(
        kind="reconstruct", recipe="miyawaki-ridge", dataset=dataset, options={"permutations": 19}, queue="cpu"
    )
    return services.jobs.submit(request)


@pytest.fixture
def finish(services: Services) -> Callable[[uuid.UUID], JobAnswer]:
    """Do the steps of a job here and now."""

    def run_through(job_id: uuid.UUID) -> JobAnswer:
        runner = Runner(services)
        for batch in runner.list_batches(job_id):
            runner.run_batch(job_id, batch)
        runner.close(job_id)
        return services.jobs.show(job_id)

    return run_through


@pytest.fixture
def decoded(services: Services, finish: Callable[[uuid.UUID], JobAnswer], make_mat) -> JobAnswer:
    """A job that decoded two samples of each of three stimuli by random weights."""
    services.datasets.create(DatasetRequest(name="random", consent="simulated", purpose="Tests", simulated=True))
    services.scans.ingest(BytesIO(make_mat(n_stimuli=3)), ScanRequest(name="betas.mat", dataset="random"))
    quick = {"preset": "fast", "prior_steps": 2, "dtype": "float32", "samples": 2}
    request = JobRequest(kind="decode", recipe="random-small", dataset="random", options=quick, queue="cpu")
    return finish(services.jobs.submit(request).id)


@pytest.fixture
def segmented(services: Services) -> ResultAnswer:
    """A label map as a worker writes it down, of a volume of two labels."""
    services.datasets.create(DatasetRequest(name="mri"))
    image = nib.Nifti1Image(np.arange(60, dtype=np.float32).reshape(3, 4, 5), np.eye(4))
    with BytesIO(image.to_bytes()) as file:
        services.scans.ingest(file, ScanRequest(name="brain.nii", dataset="mri", subject="07"))
    job = services.jobs.submit(JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="mri"))
    Runner(services).list_batches(job.id)
    [run] = services.jobs.list_runs(job.id)
    files = (
        OutputFile("label_map", "brain_dseg.nii.gz", "application/gzip", b"labels"),
        OutputFile("overlay", "brain_overlay.png", "image/png", encode_png(np.zeros((9, 9, 3), np.uint8))),
        OutputFile("sidecar", "brain_dseg.json", "application/json", b"{}"),
    )
    volumes = {"anterior": 1.234, "posterior": 0.9}
    record_run(
        services.stores,
        run.id,
        Outcome(files, {"recipe": job.recipe}, label_names={1: "anterior", 2: "posterior"}, volumes_ml=volumes),
    )
    return services.results.show(run.id)
