"""An installation of its own for each test, a client before its API, and makers of what is sent."""

import gzip
import io
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import scipy.io
from hypothesis import settings as drawing
from PIL import Image
from sqlalchemy import inspect, text
from starlette.testclient import TestClient

from voxelight.app.api import create_api
from voxelight.app.bootstrap import open_services
from voxelight.app.services import Services
from voxelight.app.settings import Settings
from voxelight.storage.results import Outcome, OutputFile, record_run
from voxelight.storage.schema import Dataset, Job, Model, Run, Scan

# pytest tests/app/api/test_fuzz.py --hypothesis-profile=long
drawing.register_profile("long", max_examples=200)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", poll_s=0.05)


@pytest.fixture
def services(settings: Settings, with_tables: Callable[[str], None]) -> Iterator[Services]:
    with_tables(settings.resolved_database_url)
    services = open_services(settings)
    yield services
    services.close()


@pytest.fixture
def client(services: Services) -> TestClient:
    """A client before the API, placed as it is served; a fault of the software comes back as its answer."""
    base = "http://localhost/api/v1/"
    return TestClient(create_api(services), base, raise_server_exceptions=False, root_path="/api")


@pytest.fixture
def dataset(client: TestClient) -> str:
    """Name of a data set that may be decoded."""
    body = {"name": "figures", "consent": "public", "purpose": "tests of the software"}
    assert client.post("datasets", json=body).status_code == 201
    return "figures"


@pytest.fixture
def upload(client: TestClient, dataset: str) -> Callable[..., dict[str, Any]]:
    """Put a file into the data set, which must succeed."""

    def _upload(name: str, content: bytes, **where: str) -> dict[str, Any]:
        answer = client.put(f"datasets/{dataset}/scans/{name}", content=content, params=where)
        assert answer.status_code == 201, answer.text
        return answer.json()

    return _upload


@pytest.fixture
def state(services: Services) -> Callable[[], tuple[dict[str, int], set[str]]]:
    """Everything that is stored: the rows of every table, those of the job engine too, and the names of all files."""

    def _state() -> tuple[dict[str, int], set[str]]:
        with services.stores.engine.connect() as connection:
            rows = {
                table: connection.scalar(text(f'SELECT count(*) FROM "{table}"')) or 0
                for table in inspect(connection).get_table_names()
            }
        home = services.settings.home
        files = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
        return rows, {name for name in files if not name.startswith("voxelight.sqlite")}

    return _state


@pytest.fixture
def finished(services: Services, upload) -> Callable[..., uuid.UUID]:
    """Store a run that is done, written by the function that workers write with; return its id."""
    scan_id = uuid.UUID(upload("seen.png", png(seed=11), subject="07")["id"])

    def _finished(content: bytes = b"0123456789", name: str = "result.bin", **job: Any) -> uuid.UUID:
        with services.stores.sessions.begin() as session:
            scan = session.get_one(Scan, scan_id)
            dataset = session.get_one(Dataset, scan.imaging_session.subject.dataset_id)
            model = Model(name=f"model-{uuid.uuid4().hex[:6]}", version="1", task="segmentation")
            row = Job(kind="segment", recipe="none", dataset=dataset, model=model, queue="cpu", **job)
            run = Run(job=row, item_key="one", position=0, subject=scan.imaging_session.subject, scan=scan)
            session.add_all([model, row, run])
            session.flush()
            run_id = run.id
        file = OutputFile("sidecar", name, "application/octet-stream", content)
        record_run(services.stores, run_id, Outcome(files=(file,), provenance={"seed": 1}))
        return run_id

    return _finished


def nifti(shape: tuple[int, ...] = (8, 9, 10), affine: np.ndarray | None = None, packed: bool = True) -> bytes:
    """A NIfTI image of a ramp."""
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    content = nib.Nifti1Image(array, np.eye(4) if affine is None else affine).to_bytes()
    return gzip.compress(content, mtime=0) if packed else content


def png(seed: int = 0, side: int = 4) -> bytes:
    """A grey picture."""
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def betas_mat(stimuli: int = 6, repeats: int = 3, voxels: int = 40) -> bytes:
    """Betas that follow the pictures linearly, with noise, as a MATLAB file."""
    rng = np.random.default_rng(3)
    pictures = rng.random((stimuli, 16))
    shown = np.repeat(np.arange(stimuli), repeats)
    betas = pictures[shown] @ rng.normal(size=(16, voxels)) + 0.1 * rng.normal(size=(len(shown), voxels))
    file = io.BytesIO()
    scipy.io.savemat(file, {"fmriTrn": betas, "stimTrn": pictures[shown], "labelTrn": shown[:, None] + 1.0})
    return file.getvalue()


def events_tsv(rows: int) -> bytes:
    """An events table that names one picture a row."""
    return ("onset\tstim_file\n" + "".join(f"{row}\tp{row % 2}.png\n" for row in range(rows))).encode()


@pytest.fixture(scope="session")
def make() -> Any:
    """The makers of this file, by name."""

    class Makers:
        nifti = staticmethod(nifti)
        png = staticmethod(png)
        betas_mat = staticmethod(betas_mat)
        events_tsv = staticmethod(events_tsv)

    return Makers


@pytest.fixture(scope="session")
def is_problem() -> Callable[..., dict[str, Any]]:
    """Assert that an answer is a whole problem of this status, and return it."""

    def _is_problem(answer: Any, status: int) -> dict[str, Any]:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert set(problem) == {"type", "title", "status", "detail", "found", "expected", "remedy"}
        assert problem["status"] == status
        assert all(problem.values())
        assert "Traceback" not in answer.text
        return problem

    return _is_problem
