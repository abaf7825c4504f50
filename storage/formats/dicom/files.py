"""DICOM files wherever they lie: loose, in folders, in ZIP archives."""

import io
import logging
import struct
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any

from pydicom import Dataset, config, dcmread
from pydicom.errors import BytesLengthException, InvalidDicomError

from voxelight.models.errors import BadInput, VoxelightError
from voxelight.storage.formats.archives import is_litter, list_members, opened_zip

# pydicom repeats values that break a rule of DICOM in warnings and in its log, and these may name a person. Such values
# are common, and not ours to mend.
config.settings.reading_validation_mode = config.IGNORE
config.settings.writing_validation_mode = config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

_HEAD = 132
_ZIP = b"PK\x03\x04"
_FAULTS = (
    *(InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError, IndexError),
    BytesLengthException,
    *(MemoryError, RecursionError, OverflowError, TypeError, struct.error),  # lengths and depths that nobody means
)


@dataclass(frozen=True)
class DicomFile:
    """One file, or one member of an archive.

    Parameters
    ----------
    path : of the file or of the archive
    member : name in the archive; empty for a loose file
    """

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        """What a person finds it by."""
        return PurePosixPath(self.member).name if self.member else self.path.name


def read_each(files: Sequence[DicomFile]) -> Iterator[tuple[DicomFile, bytes]]:
    """Yield files with their whole content, one in memory at a time; an archive is opened once.

    Raises
    ------
    BadInput
        One is damaged.
    """
    with ExitStack() as stack:
        archives: dict[Path, zipfile.ZipFile] = {}
        for file in files:
            if not file.member:
                yield file, file.path.read_bytes()
                continue
            if file.path not in archives:
                archives[file.path] = stack.enter_context(opened_zip(file.path))
            yield file, archives[file.path].read(file.member)


def read_headers(files: Sequence[DicomFile]) -> Iterator[Dataset]:
    """Yield the headers of files, voxels left alone; an archive is opened once.

    Raises
    ------
    BadInput
        One is damaged.
    """
    with ExitStack() as stack:
        archives: dict[Path, zipfile.ZipFile] = {}
        for file in files:
            if not file.member:
                with file.path.open("rb") as stream:
                    yield parse(stream, file.name, stop_before_pixels=True)
                continue
            if file.path not in archives:
                archives[file.path] = stack.enter_context(opened_zip(file.path))
            archive = archives[file.path]
            yield _read_header(archive, archive.getinfo(file.member))


def parse(file: IO[bytes], name: str, **how: Any) -> Dataset:
    """Read a DICOM stream as pydicom does; values are kept as they are, valid or not.

    Raises
    ------
    BadInput
        It is damaged.
    """
    with dicom_faults(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(file, force=True, **how)


@contextmanager
def dicom_faults(name: str) -> Iterator[None]:
    """Turn what pydicom raises at a damaged file into `BadInput`; it reads many values only when they are asked for."""
    try:
        yield
    except _FAULTS as error:
        if isinstance(error, VoxelightError):
            raise
        raise BadInput(
            f"{name}, a DICOM file that can't be read ({type(error).__name__})", "an intact file", "Copy it again."
        ) from error


def walk(paths: Sequence[Path]) -> Iterator[tuple[DicomFile, Dataset]]:
    """Yield every DICOM file below some paths with its header, voxels left alone; other files are passed over.

    Parameters
    ----------
    paths : files, folders and ZIP archives

    Raises
    ------
    BadInput
        A path leads nowhere, an archive is not to be trusted, or a file is DICOM by its name alone.
    """
    for path in paths:
        if not path.exists():
            raise BadInput(f"no file or folder {path}", "a path that is there", "Check the path.")
        for file in _search(path):
            with file.open("rb") as stream:
                head = stream.read(_HEAD)
                if head.startswith(_ZIP):
                    yield from _walk_zip(file)
                elif is_dicom(head):
                    stream.seek(0)
                    yield DicomFile(file), parse(stream, file.name, stop_before_pixels=True)
                else:
                    _refuse_damaged(file)


def is_dicom(head: bytes) -> bool:
    """Whether a file begins as DICOM does: by its magic, or as old ones without a preamble with group 0008."""
    return head[128:132] == b"DICM" or (head[:2] == b"\x08\x00" and head[3:4] == b"\x00" and len(head) == _HEAD)


def _search(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    inside = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in inside if not is_litter(PurePosixPath(file.relative_to(path))))


def _walk_zip(path: Path) -> Iterator[tuple[DicomFile, Dataset]]:
    with opened_zip(path) as archive:
        for info in list_members(archive):
            with archive.open(info) as stream:
                head = stream.read(_HEAD)
                if is_dicom(head):
                    yield DicomFile(path, info.filename), _read_header(archive, info)
                else:
                    _refuse_damaged(PurePosixPath(info.filename))


def _refuse_damaged(path: PurePath) -> None:
    """Refuse what calls itself DICOM and begins as none: at the end of a series nobody would miss its slice."""
    if path.suffix.lower() == ".dcm":
        raise BadInput(
            f"{path.name}, which does not begin as DICOM does", "an intact file", "Copy it again, or leave it out."
        )


def _read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Dataset:
    """Unpack as much of a member as its header takes, which pydicom can't do on a stream that only goes forward."""
    with archive.open(info) as stream:
        return parse(io.BufferedReader(stream, 1 << 16), info.filename, stop_before_pixels=True)  # type: ignore[type-var]
