"""The state of a training as arrays and JSON, which is all that a checkpoint holds: nothing in it is ever executed."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelight.models.errors import BadInput

Arrays = Mapping[str, NDArray[Any]]


class Stored(Protocol):
    """A checkpoint that was found."""

    @property
    def step(self) -> int:
        """Steps that were taken before it."""

    @property
    def facts(self) -> Any:
        """What is not an array, as it was written."""

    @property
    def arrays(self) -> Arrays:
        """Arrays by name, each read when it is asked for."""


class Checkpoints(Protocol):
    """Where the state of one training is kept, `storage.checkpoints.CheckpointFolder` for one."""

    def write(self, step: int, arrays: Iterator[tuple[str, NDArray[Any]]], facts: Any) -> None:
        """Keep a state whole, or not at all."""

    def latest(self) -> Stored | None:
        """Return the latest undamaged one."""


def pack(state: Any) -> tuple[Iterator[tuple[str, NDArray[Any]]], Any]:
    """Take tensors out of a state.

    Parameters
    ----------
    state : dict, list, tuple, tensor, number, str, bool or None, nested

    Returns
    -------
    names and arrays, copied from their device one by one, and the rest, which JSON can hold

    Raises
    ------
    BadInput
        There is something else in it.
    """
    tensors: dict[str, Tensor] = {}
    facts = _outline(state, "", tensors)
    return ((name, _to_array(tensor)) for name, tensor in tensors.items()), facts


def unpack(facts: Any, arrays: Arrays) -> Any:
    """Return the state that `pack` took apart, tensors on the CPU."""
    if isinstance(facts, list):
        return [unpack(value, arrays) for value in facts]
    if not isinstance(facts, dict):
        return facts
    ((kind, held),) = facts.items()
    if kind == "dict":
        return {key: unpack(value, arrays) for key, value in held}
    if kind == "tuple":
        return tuple(unpack(value, arrays) for value in held)
    name, dtype = held
    return torch.from_numpy(arrays[name]).view(getattr(torch, dtype))


def _outline(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value
        return {"tensor": [path, str(value.dtype).removeprefix("torch.")]}
    if isinstance(value, dict):  # keys may be numbers, which are no keys in JSON
        return {"dict": [[key, _outline(part, f"{path}/{key}", tensors)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        parts = [_outline(part, f"{path}/{index}", tensors) for index, part in enumerate(value)]
        return parts if isinstance(value, list) else {"tuple": parts}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise BadInput(f"a {type(value).__name__} at {path}", "tensors, numbers, words, and dicts and lists of them",
                   "Leave it out of the state, or write it as one of these.")  # fmt: skip


def _to_array(tensor: Tensor) -> NDArray[Any]:
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:  # numpy has no such type
        plain = plain.view(torch.int16)
    array: NDArray[Any] = plain.numpy()
    return array


class NamedCheckpoints:
    """Whole states under names, for a training of several stages.

    Parameters
    ----------
    open_stage : gives where the states of the stage of a name are kept
    """

    def __init__(self, open_stage: Callable[[str], Checkpoints]) -> None:
        self._open = open_stage

    def find(self, name: str) -> dict[str, Any] | None:
        """Return what was last kept under a name."""
        stored = self._open(name).latest()
        return None if stored is None else dict(unpack(stored.facts, stored.arrays))

    def write(self, name: str, state: dict[str, Any]) -> None:
        """Keep a state, its number of steps being under ``step``, in place of what was there."""
        arrays, facts = pack(state)
        self._open(name).write(int(state["step"]), arrays, facts)
