"""One volume of a 4-D NIfTI file as a file of its own."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import gzip
from pathlib import Path
from typing import IO

from voxelight.models.errors import BadInput
from voxelight.storage.formats.nifti_header import parse_header, read_header
from voxelight.storage.formats.sniff import sniff
from voxelight.storage.formats.streams import check_stream, open_stream

_CHUNK = 1 << 20


def write_one_volume(path: Path, target: Path, name: str, number: int) -> None:
    """Write one volume; its stored values, scaling and placement stay as they are, to the byte.

    Parameters
    ----------
    path, target : the 4-D file, and where to write
    name : what the person calls it
    number : of the volume, from 1

    Raises
    ------
    BadInput
        The file is damaged, or has no such volume.
    """
    header = read_header(path, name=name)
    volumes = header.shape[3] if len(header.shape) == 4 else 1
    if len(header.shape) > 4 or not 1 <= number <= volumes:
        raise BadInput(
            f"volume {number} of {name}, whose shape is {header.shape}",
            f"one from 1 to {volumes} of a 4-D image",
            "Choose another volume.",
        )
    check_stream(path, header.stored_bytes, name)
    fields = parse_header(path, name).copy()
    fields["dim"] = [3, *header.shape[:3], 1, 1, 1, 1]
    smallest = fields.single_vox_offset
    fields["vox_offset"] = smallest
    left = header.stored_bytes - header.offset
    size = left // volumes
    with open_stream(path) as source, target.open("wb") as file:
        packed = sniff(path) == "gzip"
        out: IO[bytes] = gzip.GzipFile("", "wb", 1, file, mtime=0) if packed else file  # type: ignore[assignment]
        out.write(fields.binaryblock + b"\0" * (smallest - len(fields.binaryblock)))
        source.seek(header.offset + (number - 1) * size)
        left = size
        while left and (chunk := source.read(min(_CHUNK, left))):
            out.write(chunk)
            left -= len(chunk)
        if packed:
            out.close()
