"""Where the parity fixtures lie."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

DEFAULT = Path(__file__).resolve().parents[4] / "shared" / "fixtures"
CONTENTS = "index.json"


def find_folder(config: pytest.Config) -> Path:
    """Return the folder of fixtures; `--fixtures` is relative to where pytest was called."""
    given = config.getoption("fixtures_folder")
    return config.invocation_params.dir / given if given else DEFAULT


def find_files(folder: Path) -> list[Path]:
    """Return the JSON of every fixture in a folder and below, in the order of their names.

    The JSON of tensors that come without one is listed as well: it cannot be read, and must not be passed over.
    """
    found = {path.with_suffix(".json") for path in _walk(folder) if path.suffix in {".json", ".safetensors"}}
    return sorted(path for path in found if path.name != CONTENTS)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder, followlinks=True):
        yield from (Path(parent, name) for name in names)
