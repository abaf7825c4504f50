"""ZIP archives from elsewhere: counted before anything is unpacked, read in memory, never extracted by their names."""

import errno
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from voxelight.models.errors import BadInput
from voxelight.storage.formats.streams import readable, refuse_if

MAX_MEMBERS = 100_000
MAX_BYTES = 64 << 30
_MAX_RATIO, _FREE_BYTES = 200, 256 << 20  # an archive of masks may expand much, but is small
_FAULTS = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, IndexError, UnicodeError, struct.error),
    *(zlib.error, lzma.LZMAError, MemoryError, OSError),  # OSError: how bz2 says that its data are damaged
)
_REMEDY = "Pack the files again with an ordinary ZIP program."


@contextmanager
def opened_zip(path: Path, name: str = "", max_bytes: int = MAX_BYTES) -> Iterator[zipfile.ZipFile]:
    """Open an archive whose members are few, small and harmless enough by its own table of contents.

    A member never gives more bytes than that table claims, so a table that lies gains nothing.

    Parameters
    ----------
    path : the archive
    name : what the person calls it, where that is not the name on disk
    max_bytes : limit of all members together, unpacked

    Raises
    ------
    BadInput
        It is damaged or encrypted, holds too much, holds links, or a member's name leads out of the archive.
    """
    name = name or path.name
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive.infolist(), name, max_bytes)
            yield archive
    except _FAULTS as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk, and not the archive
        raise BadInput(f"{name}, a ZIP archive that can't be read ({error})", "an intact archive", _REMEDY) from error


def list_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the files of an archive in the order of their names, without folders and what systems leave behind."""
    kept = [info for info in archive.infolist() if not info.is_dir() and not is_litter(PurePosixPath(info.filename))]
    return sorted(kept, key=lambda info: info.filename)


def is_litter(path: PurePosixPath) -> bool:
    """Whether a file is hidden, or is what a system leaves in every folder."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return hidden or path.name.lower() in {"thumbs.db", "desktop.ini"}


def _check(members: list[zipfile.ZipInfo], name: str, max_bytes: int) -> None:
    refuse_if(
        len(members) > MAX_MEMBERS, f"{name} with {len(members)} files", f"at most {MAX_MEMBERS}", "Split the archive."
    )
    unpacked, packed = sum(info.file_size for info in members), sum(info.compress_size for info in members)
    refuse_if(
        unpacked > max_bytes,
        f"{name} that unpacks to {readable(unpacked)}",
        f"at most {readable(max_bytes)}",
        "Split the archive.",
    )
    refuse_if(
        unpacked > _FREE_BYTES and unpacked > _MAX_RATIO * max(packed, 1),
        f"{name} of {readable(packed)} that would unpack to {readable(unpacked)}",
        f"at most {_MAX_RATIO} times above {readable(_FREE_BYTES)}",
        "It looks made to exhaust the disk: upload the files themselves.",
    )
    for info in members:
        parts = PurePosixPath(info.filename.replace("\\", "/"))
        refuse_if(
            parts.is_absolute() or ".." in parts.parts or ":" in (parts.parts or ("",))[0],
            f"{name} with a member named {info.filename[:80]!a}, which leads out of the archive",
            "plain relative names",
            _REMEDY,
        )
        refuse_if(
            stat.S_ISLNK(info.external_attr >> 16),
            f"{name} with {info.filename[:80]!a}, a link",
            "files only",
            "Pack what the link leads to in its place.",
        )
        refuse_if(bool(info.flag_bits & 1), f"{name}, which is encrypted", "an archive without password", _REMEDY)
