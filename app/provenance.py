"""What is written beside every result, so that it can be made again."""

import subprocess
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from voxelight.app.services import find_version
from voxelight.models.values import Provenance


def describe(provenance: Provenance, inputs: dict[str, str]) -> dict[str, Any]:
    """Return a provenance as it is stored, with the hash of every input by name."""
    return asdict(provenance) | {"inputs_sha256": inputs}


@cache  # of the code that this process loaded, whatever is checked out later
def find_revision() -> str:
    """Return the version of this software, with the git revision where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        revision = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return find_version()
    return f"{find_version()}+g{revision}"


def find_device(wish: str) -> str:
    """Return the device to use: what was asked for, or the graphics card where there is one."""
    if wish != "auto":
        return wish
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"
