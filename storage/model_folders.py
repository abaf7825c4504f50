"""Folders of models: each under a plain name, and there whole or not at all."""

import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from voxelight.models.errors import BadInput, NotFound

FACTS = "model.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")


def fits(name: str) -> bool:
    """Return whether a name is a plain word."""
    return _NAME.fullmatch(name) is not None


def refuse_unfit(name: str) -> None:
    """Refuse a name that is no plain word.

    Raises
    ------
    BadInput
        It is none.
    """
    if not fits(name):
        raise BadInput(
            f"the model name {name[:60]!r}", "letters, digits, '_', '.' and '-', at most 120", "Choose another name."
        )


@contextmanager
def replacing_folder(place: Path) -> Iterator[Path]:
    """Fill a folder beside its place, and move it there once the block ends well, in place of an earlier one."""
    temporary = place.parent / f".{place.name}.{uuid.uuid4().hex[:8]}.part"
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(place, ignore_errors=True)
        temporary.replace(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Named(Protocol):
    """What is described in a folder of its name."""

    @property
    def name(self) -> str:
        """Name of the folder."""


Model = TypeVar("Model", bound=Named)


class ModelFolders(Generic[Model]):
    """Models below one folder, each described by a file `FACTS` in a folder of its name.

    Parameters
    ----------
    folder : of all of them
    read : folder of a model -> what is known of it; raises `BadInput` where the description can't be read
    kind, remedy : for the error that there is no such model
    """

    def __init__(self, folder: Path, read: Callable[[Path], Model], kind: str, remedy: str) -> None:
        self._folder, self._read, self._kind, self._remedy = folder, read, kind, remedy

    def list(self) -> list[Model]:
        """Return every model, by name; what is damaged is left out, and told by `find`."""
        found = []
        for place in sorted(self._folder.glob("*")):
            try:
                found += [self._read(place)] if self.has(place.name) else []
            except BadInput:
                continue
        return found

    def has(self, name: str) -> bool:
        """Return whether there is a model of this name."""
        return fits(name) and (self._folder / name / FACTS).is_file()

    def find(self, name: str) -> Model:
        """Return what is known of a model.

        Raises
        ------
        NotFound
            There is none of this name.
        BadInput
            Its description can't be read.
        """
        if not self.has(name):
            known = ", ".join(model.name for model in self.list()) or "none yet"
            raise NotFound(f"no {self._kind} {name!r}", f"one of {known}", self._remedy)
        return self._read(self._folder / name)
