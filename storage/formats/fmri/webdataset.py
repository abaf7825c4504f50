"""WebDataset tars: samples by key, their parts found by offset and read one at a time; no pickle is opened."""

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput

_CLOSING = 1024  # two blocks of zeros close a tar


@dataclass(frozen=True)
class Part:
    """Where one file of a sample lies.

    Parameters
    ----------
    tar : the archive
    offset, size : of its bytes in the archive
    """

    tar: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Read the bytes."""
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise BadInput(f"{self.tar.name}, cut short", "the whole archive", "Copy it again.")
        return content

    def read_array(self) -> NDArray[np.generic]:
        """Read a ``.npy``, refusing pickles."""
        try:
            return np.asarray(np.lib.format.read_array(io.BytesIO(self.read()), allow_pickle=False))
        except (ValueError, EOFError) as error:
            raise BadInput(
                f"an array in {self.tar.name} that can't be read ({error})", "a .npy of numbers", "Copy it again."
            ) from error


def list_samples(tar: Path) -> dict[str, dict[str, Part]]:
    """List the samples of a tar: key -> what follows the first dot of its file names -> Part.

    Raises
    ------
    BadInput
        The archive is damaged or cut short.
    """
    samples: dict[str, dict[str, Part]] = {}
    _refuse_cut(tar)
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                path = PurePosixPath(member.name)
                key, _, what = path.name.partition(".")
                parts = samples.setdefault(str(path.parent / key), {})
                if what in parts:
                    raise BadInput(f"{tar.name} with {member.name} twice", "every file once", "Make it again.")
                parts[what] = Part(tar, member.offset_data, member.size)
    except (tarfile.TarError, EOFError) as error:
        raise BadInput(f"{tar.name}, cut short or damaged ({error})", "a whole tar", "Copy it again.") from error
    if not samples:
        raise BadInput(f"{tar.name} without a sample", "samples of a WebDataset", "Check the archive.")
    return samples


def _refuse_cut(tar: Path) -> None:
    """Refuse an archive without its closing zeros: cut between two members it would read as a shorter one."""
    size = tar.stat().st_size
    with tar.open("rb") as file:
        file.seek(max(0, size - _CLOSING))
        closed = size >= _CLOSING and not any(file.read(_CLOSING))
    if not closed:
        raise BadInput(f"{tar.name} of {size} bytes without its end, cut short", "a whole tar", "Copy it again.")


def need(parts: Mapping[str, Part], key: str, *names: str) -> None:
    """Refuse a sample that lacks a part.

    Raises
    ------
    BadInput
        One of the names is missing.
    """
    lacking = [name for name in names if name not in parts]
    if lacking:
        where = next(iter(parts.values())).tar.name
        raise BadInput(f"{key} in {where} without {', '.join(lacking)}", f"{', '.join(names)}", "Copy the tar again.")
