"""One import name: people work in folders that hold a `models.py`, an `app/` or `tests/` of their own."""

import sys
from pathlib import Path

import pytest


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder like a checkout of a published system, whose modules must never be taken for ours."""
    (tmp_path / "models.py").write_text("raise AssertionError('a foreign models.py was imported')\n")
    for package in ("app", "medseg", "neuro", "storage", "tests"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"raise AssertionError('a foreign {package} was imported')\n")
    return tmp_path


@pytest.mark.parametrize("module", ["models.values", "models.registry", "medseg.recipes", "neuro.recipes", "storage"])
def test_a_foreign_folder_of_the_same_name_is_never_imported(foreign, root, run, module):
    code = f"import voxelight.{module} as found; print(found.__file__)"
    place = Path(run(sys.executable, "-c", code, cwd=foreign).stdout.strip())
    assert place.is_relative_to(root / module.partition(".")[0])


def test_the_command_runs_in_a_foreign_folder(foreign, run):
    command = Path(sys.executable).with_name("voxelight")
    assert "Not for clinical use" in " ".join(run(command, "--help", cwd=foreign).stdout.split())
