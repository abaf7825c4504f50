"""The shell as a person calls it: in this process for speed, and as a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from voxelight.app.bootstrap import open_services
from voxelight.app.cli import main
from voxelight.app.settings import Settings


@pytest.fixture(scope="session")
def fresh_home(tmp_path_factory) -> Path:
    """A home folder with an empty database."""
    home = tmp_path_factory.mktemp("fresh") / "home"
    open_services(Settings(home=home)).close()
    return home


@pytest.fixture
def home(fresh_home, tmp_path) -> Path:
    """A home folder of one test."""
    return Path(shutil.copytree(fresh_home, tmp_path / "home"))


@pytest.fixture
def shell(home, monkeypatch) -> Callable[..., Result]:
    """Call the shell; it must end with the given exit code, and never with a traceback."""
    monkeypatch.setenv("VOXELIGHT_POLL_S", "0.05")

    def _shell(*words: object, code: int = 0) -> Result:
        said = ["--home", str(home), *map(str, words)]
        result = CliRunner().invoke(main, said, catch_exceptions=False, prog_name="voxelight")
        assert result.exit_code == code, f"{words} ended with {result.exit_code}:\n{result.stdout}\n{result.stderr}"
        return result

    return _shell


@pytest.fixture
def ask(shell) -> Callable[..., Any]:
    """Call the shell and return its answer, which must be JSON and nothing else."""

    def _ask(*words: object, code: int = 0) -> Any:
        return json.loads(shell(*words, "--json", code=code).stdout)

    return _ask


@pytest.fixture
def start(home) -> Callable[..., subprocess.Popen[str]]:
    """Start the shell as a process of its own; one that is still there is ended with the test."""
    started = []

    def _start(*words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "voxelight.app.cli", "--home", str(home), *map(str, words)]
        environment = os.environ | {"VOXELIGHT_POLL_S": "0.05", "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=environment, cwd=home.parent, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield _start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def recording(tmp_path, betas_mat) -> Path:
    """A small simulated recording in a file."""
    path = tmp_path / "recording.mat"
    path.write_bytes(betas_mat)
    return path


@pytest.fixture(scope="session")
def hippocampus(shared_data) -> list[Path]:
    """Three real T1 crops around a hippocampus."""
    return sorted((shared_data / "msd_task04_hippocampus/images").glob("*.nii.gz"))[:3]
