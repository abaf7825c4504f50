"""Fixtures shared by every test: where the real data lie, and which skips continuous integration refuses."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def _beside_the_checkout(folder: str) -> Path:
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip(f"needs the folder {folder} of the shared data beside the checkout, which is not here")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Small real data sets, each with its SOURCE.txt."""
    return _beside_the_checkout("data")


@pytest.fixture(scope="session")
def shared_fixtures(request: pytest.FixtureRequest) -> Path:
    """Parity fixtures, or the folder given by `--fixtures`."""
    given = request.config.getoption("--fixtures")
    return Path(given) if given else _beside_the_checkout("fixtures")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fixtures", help="folder of parity fixtures to use in place of the shared one")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Where `VOXELIGHT_NO_SKIPS` is set, as in continuous integration, a skipped test has failed."""
    report = yield
    if report.skipped and os.environ.get("VOXELIGHT_NO_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and no test may be: {report.longrepr}"
    return report
