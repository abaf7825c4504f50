"""What was chosen for a session, on the disk between the runs of a job; and the betas of one run."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.neuro.glm.choices import Choices
from voxelight.storage.formats.streams import replacing

_ARRAYS = ("response", "gain", "r2", "pool", "count_scores", "fraction", "fraction_scores", "scale", "offset")


def write_choices(path: Path, choices: Choices) -> None:
    """Write choices, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: getattr(choices, name) for name in _ARRAYS}
    told = json.dumps({"count": choices.count, "estimate": choices.estimate, "notes": list(choices.notes)})
    with replacing(path) as file:
        np.savez(file, told=np.array(told), **arrays)


def read_choices(path: Path) -> Choices:
    """Read choices as `write_choices` wrote them."""
    with np.load(path, allow_pickle=False) as file:
        told = json.loads(str(file["told"]))
        arrays = {name: file[name] for name in _ARRAYS}
    return Choices(count=told["count"], estimate=told["estimate"], notes=tuple(told["notes"]), **arrays)


def encode_table(betas: NDArray[np.float32]) -> bytes:
    """Return betas (trial, voxel) as the content of a ``.npy``."""
    buffer = io.BytesIO()
    np.save(buffer, betas, allow_pickle=False)
    return buffer.getvalue()


def decode_table(content: bytes) -> NDArray[np.float32]:
    """Return the betas of `encode_table`."""
    found: NDArray[np.float32] = np.load(io.BytesIO(content), allow_pickle=False)
    return found
