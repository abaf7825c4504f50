"""Checkpoints: opened without running anything in them, and without a copy in memory."""

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from voxelight.models.errors import BadInput

Tensors = dict[str, Tensor]

_OLD_ATTENTION = re.compile(r"(.*attentions\.\d+\.)(query|key|value|proj_attn)(\.(?:weight|bias))$")
_NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel and of torch.compile


def read_checkpoint(path: Path, root: str = "") -> Tensors:
    """Open the tensors of a checkpoint without copying them into memory.

    What stands beside them, an optimiser for one, is neither read nor kept; objects of other kinds are replaced
    by empty ones, so nothing that the file holds is run.

    Parameters
    ----------
    path : safetensors, a file of ``torch.save``, or a folder with ``last.pth``
    root : key under which the tensors stand; a file that holds nothing but tensors needs none

    Returns
    -------
    name -> tensor, mapped from the file; wrappers such as ``module.`` are taken off the names

    Raises
    ------
    BadInput
        It is no checkpoint, not a whole one, or one that DeepSpeed left in pieces.
    """
    path = find_checkpoint(path)
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise BadInput(f"an empty file {path.name}", "a checkpoint", _AGAIN)
    found = _read_safetensors(path) if start[8:] == b"{" else _read_torch(path, root)
    return modern_names(_unwrap(found))


def find_checkpoint(path: Path) -> Path:
    """Return the file that holds the weights.

    Parameters
    ----------
    path : the file itself, or a folder with ``last.pth``

    Raises
    ------
    BadInput
        There is none, or DeepSpeed left it in pieces.
    """
    if not path.exists():
        raise BadInput(f"no file {path}", "a checkpoint", "Correct the path.")
    if not path.is_dir():
        return path
    if (path / "last.pth").is_file():
        return path / "last.pth"
    pieces = sorted(piece.name for piece in path.rglob("*_states.pt"))
    if pieces or (path / "zero_to_fp32.py").is_file():
        raise BadInput(
            f"the folder {path} of DeepSpeed with {len(pieces)} pieces and no last.pth",
            "one file with whole weights",
            f"Join the pieces with DeepSpeed's ZeRO-to-fp32 step, python {path.name}/zero_to_fp32.py {path.name} "
            "last.pth, then convert the file that it writes.",
        )
    raise BadInput(f"the folder {path}", "a checkpoint, or a folder with last.pth", "Name the file itself.")


def modern_names(tensors: Tensors) -> Tensors:
    """Give the attention of older diffusers its present names; nothing else is called so."""

    def _name(old: str) -> str:
        found = _OLD_ATTENTION.match(old)
        return f"{found[1]}{_NEW_ATTENTION[found[2]]}{found[3]}" if found else old

    return {_name(old): tensor for old, tensor in tensors.items()}


class _Inert:
    """Stands for an object that is not a tensor: takes whatever it is given, does nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass


def _read_safetensors(path: Path) -> Tensors:
    try:
        with safe_open(str(path), "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path.name}, which ends early or is damaged ({error})", "whole safetensors", _AGAIN) from error


def _read_torch(path: Path, root: str) -> Tensors:
    found = _unpickle(path)
    if root and isinstance(found, Mapping) and isinstance(found.get(root), Mapping):
        found = found[root]
    if not isinstance(found, Mapping):
        raise BadInput(f"{path.name} with a {type(found).__name__}", "a dictionary of tensors", "Name another file.")
    foreign = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    if foreign or not found:
        raise BadInput(
            f"{path.name} with the entries {', '.join(map(str, list(found)[:8])) or '(none)'}",
            f"tensors, or tensors under {root}" if root else "tensors by name",
            "Name the file that holds the weights.",
        )
    return dict(found)


def _unpickle(path: Path) -> Any:
    try:
        if not _is_zip(path):  # the format before torch 1.6 can't be mapped
            return torch.load(path, map_location="cpu", weights_only=True)
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        with torch.serialization.safe_globals([(_Inert, name) for name in unknown]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (UnpicklingError, EOFError) as error:
        raise BadInput(
            f"{path.name}, which holds more than weights or is damaged ({str(error).splitlines()[0][:160]})",
            "a checkpoint that torch reads with weights_only",
            _AGAIN,
        ) from error
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise BadInput(
            f"{path.name}, which ends early or is damaged ({str(error).splitlines()[0][:160]})",
            "a whole file of torch.save",
            _AGAIN,
        ) from error


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _unwrap(tensors: Tensors) -> Tensors:
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors


_AGAIN = "Fetch it again: voxelight weights fetch goes on where it stopped."
