"""Small inputs for the service layer."""

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scipy.io
import uvicorn
from starlette.types import Receive, Scope, Send

from voxelight.app.api import create_api
from voxelight.app.schemas import DatasetRequest, ScanRequest
from voxelight.app.services import Services
from voxelight.app.transport import Transport


def _mat(n_stimuli: int, n_repeats: int, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 2, (n_stimuli, 16)).astype(float)
    shown = np.tile(np.arange(n_stimuli), n_repeats)
    betas = pictures[shown] @ rng.normal(size=(16, 40)) + rng.normal(size=(len(shown), 40))
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"fmriTrn": betas, "stimTrn": pictures[shown], "labelTrn": np.ones((len(shown), 1))})
    return buffer.getvalue()


@pytest.fixture(scope="session")
def betas_mat() -> bytes:
    """Simulated betas of 8 stimuli shown three times, with the pictures."""
    return _mat(8, 3)


def make_decodable(n_stimuli: int = 6, n_repeats: int = 2, **changes: float) -> bytes:
    """A .mat with random betas of as many voxels as the profile `random-small` takes; some stimuli may have others."""
    rng = np.random.default_rng(3)
    pictures = rng.integers(0, 255, (n_stimuli, 64)).astype(np.uint8)
    shown = np.tile(np.arange(n_stimuli), n_repeats)
    betas = rng.normal(size=(len(shown), 1200)).astype(np.float32)
    for place, value in changes.items():
        betas[shown == int(place.removeprefix("stimulus"))] = value
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"fmriTrn": betas, "stimTrn": pictures[shown]})
    return buffer.getvalue()


@pytest.fixture(scope="session")
def make_mat():
    """Make a file of random betas that the profile `random-small` takes."""
    return make_decodable


@pytest.fixture(scope="session")
def decodable_mat() -> bytes:
    """Random betas of 6 stimuli shown twice, with the pictures."""
    return make_decodable()


@pytest.fixture
def decodable(services, decodable_mat):
    """The name of a data set that may be decoded by the profile `random-small`."""
    services.datasets.create(DatasetRequest(name="random", consent="simulated", purpose="a test", simulated=True))
    services.scans.ingest(io.BytesIO(decodable_mat), ScanRequest(name="betas.mat", dataset="random"))
    return "random"


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three small volumes of smooth noise."""
    folder = tmp_path_factory.mktemp("crops")
    paths = []
    for number in range(3):
        array = np.random.default_rng(number).normal(300, 80, (32, 40, 32)).astype(np.float32)
        paths.append(folder / f"crop{number}.nii.gz")
        nib.save(nib.Nifti1Image(array, np.eye(4)), paths[-1])
    return paths


@pytest.fixture
def brain(services, betas_mat):
    """The name of a data set that may be decoded, with betas in it."""
    services.datasets.create(DatasetRequest(name="brain", consent="simulated", purpose="a test", simulated=True))
    services.scans.ingest(io.BytesIO(betas_mat), ScanRequest(name="betas.mat", dataset="brain"))
    return "brain"


@pytest.fixture
def volumes(services, crops):
    """The name of a data set with three volumes in it."""
    services.datasets.create(DatasetRequest(name="volumes"))
    for path in crops:
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="volumes"))
    return "volumes"


@contextmanager
def serving(services: Services) -> Iterator[str]:
    """Serve the API of an installation on a socket, placed as the one process places it; give its address."""
    api = create_api(services)

    async def placed(scope: Scope, receive: Receive, send: Send) -> None:
        await api({**scope, "root_path": "/api"}, receive, send)

    server = uvicorn.Server(uvicorn.Config(placed, http=Transport, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def serve_api() -> Callable[[Services], AbstractContextManager[str]]:
    """Serve the API of services that are open already, in a thread, for as long as a block lasts."""
    return serving
