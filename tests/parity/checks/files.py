"""Files of a folder of parity fixtures: a JSON that says what was run, and the tensors beside it."""

import json
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from checks.folder import find_files
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

Made = TypeVar("Made")

# Weights are stored in few bits; the outputs were computed in float32 from exactly those values.
NARROW = {torch.float16, torch.bfloat16, torch.float8_e4m3fn}


class BrokenFixture(Exception):
    """A file of fixtures that cannot be used, and why."""


class Fixture:
    """One JSON and the tensors beside it.

    Parameters
    ----------
    path : of the JSON
    name : of the file within its folder, without suffix
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self._made: dict[Any, Any] = {}

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the JSON says."""
        try:
            facts = json.loads(self.path.read_text())
        except (OSError, ValueError) as error:
            raise BrokenFixture(f"{self.path.name} cannot be read: {error}") from error
        if not isinstance(facts, dict):
            raise BrokenFixture(f"{self.path.name} holds a {type(facts).__name__}; expected an object")
        return facts

    @property
    def config(self) -> dict[str, Any]:
        """Sizes and options of what was run."""
        return self.fact("config")

    def fact(self, name: str) -> Any:
        """Return one entry of the JSON."""
        if name not in self.facts:
            raise BrokenFixture(f"{self.path.name} has no entry {name!r}; found {sorted(self.facts)}")
        return self.facts[name]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, read without the tensors."""
        stored = self.path.with_suffix(".safetensors")
        if not stored.is_file():
            raise BrokenFixture(f"no {stored.name} beside {self.path.name}")
        try:
            with safe_open(stored, "pt") as file:
                return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except Exception as error:  # the reader raises a class of its own for every kind of damage
            raise BrokenFixture(f"{stored.name} cannot be read: {error}") from error

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor, in float32 where it was stored in fewer bits."""
        found = load_file(self.path.with_suffix(".safetensors")) if self.shapes else {}
        return {name: value.float() if value.dtype in NARROW else value for name, value in found.items()}

    def part(self, start: str) -> dict[str, Tensor]:
        """Return the tensors whose name starts so, under the rest of their name."""
        return {name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)}

    def given(self, name: str) -> Tensor:
        """Return one tensor."""
        if name not in self.tensors:
            raise BrokenFixture(f"{self.path.name} comes without the tensor {name!r} that this check needs")
        return self.tensors[name]

    def once(self, make: Callable[["Fixture"], Made]) -> Made:
        """Return `make(self)`, computed once for this file."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    def neighbour(self, stem: str) -> "Fixture":
        """Return the fixture of another name in the same folder."""
        path = self.path.with_name(f"{stem}.json")
        if not path.is_file():
            raise BrokenFixture(f"{self.path.name} takes its weights from {path.name}, which is not beside it")
        return open_fixture(path, str(Path(self.name).with_name(stem)))


@lru_cache(maxsize=64)
def open_fixture(path: Path, name: str) -> Fixture:
    """Return a fixture, one object for each file, so that what it computed is kept."""
    return Fixture(path, name)


def find_fixtures(folder: Path) -> list[Fixture]:
    """Return the fixtures in a folder and below."""
    return [open_fixture(path, path.relative_to(folder).with_suffix("").as_posix()) for path in find_files(folder)]
