"""Write a fixture as the published ones are written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

Arrays = dict[str, NDArray[Any]]
TOLERANCE = {"atol": 2e-5, "rtol": 2e-5}


def write(folder: Path, name: str, config: Mapping[str, Any], arrays: Arrays, **facts: Any) -> Path:
    """Write one fixture: weights in half precision, everything else that is real in single."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: _to_tensor(key, np.asarray(value)) for key, value in arrays.items()}
    save_file(tensors, folder / f"{name}.safetensors")
    shapes = {key: [str(value.dtype), list(value.shape)] for key, value in tensors.items() if not key.startswith("w.")}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"tolerance": TOLERANCE, **facts, "config": config, "tensors": shapes}))
    return path


def draw_weights(rng: np.random.Generator, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """Draw weights that half precision holds exactly; matrices shrink with their width."""
    return {name: _draw(rng, shape) for name, shape in shapes.items()}


def _draw(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    scale = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.3
    return (rng.standard_normal(shape) * scale + (len(shape) == 1)).astype(np.float16).astype(np.float64)


def _to_tensor(key: str, value: NDArray[Any]) -> torch.Tensor:
    if value.dtype.kind == "f":
        value = value.astype(np.float16 if key.startswith("w.") else np.float32)
    return torch.from_numpy(np.ascontiguousarray(np.atleast_1d(value)))
