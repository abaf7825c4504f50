"""What the tests of the house share: the files of the project, and a Python of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HOUSE = ("app", "docs", "medseg", "models", "neuro", "storage")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def built(files: list[Path]) -> list[Path]:
    """The files of the five folders that the import name covers, and the documents, which come along."""
    return [path for path in files if path.parts[0] in HOUSE]


@pytest.fixture(scope="session")
def files(root: Path) -> list[Path]:
    """Every file of the project, new ones included and ignored ones left out, relative to the checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted(Path(name) for name in names.split("\0") if name and (root / name).is_file())


@pytest.fixture(scope="session")
def texts(root: Path, files: list[Path]) -> dict[Path, str]:
    """Every text file that the project wrote itself."""
    found = {}
    for path in files:
        if path.is_relative_to("app/static/vendor"):
            continue
        try:
            found[path] = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a command elsewhere, with nothing of the checkout on its path; it must end well."""

    def _run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env={**inherited, **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    return _run


@pytest.fixture(scope="session")
def loaded_by(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], set[str]]:
    """Top-level names of the modules that a fresh Python has loaded after one import."""

    def _loaded_by(module: str) -> set[str]:
        code = f"import {module}, sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
        return set(run(sys.executable, "-c", code, cwd=tmp_path_factory.getbasetemp()).stdout.split())

    return _loaded_by
