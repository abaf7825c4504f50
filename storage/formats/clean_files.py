"""Take out of NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF and MATLAB files what says who or when.

What they show stays, value for value.

Each cleaner writes the cleaned file and returns True, or returns False where there is nothing to clean, so that a clean
file is stored as it came.
"""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import gzip
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from PIL import Image

from voxelight.models.errors import BadInput
from voxelight.storage.formats.names import find_suffix
from voxelight.storage.formats.nifti_header import parse_header, read_header
from voxelight.storage.formats.sniff import sniff
from voxelight.storage.formats.streams import gzip_faults, open_stream

_NIFTI_TEXTS = ("descrip", "aux_file", "intent_name", "db_name", "data_type")
_GZIP_HEAD = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # deflate, no name, no time, no system
_GZIP_FLAGS = {"extra": 4, "name": 8, "comment": 16, "checksum": 2}
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"
# Chunks that say how pixels are to be shown; all others that a reader may skip are texts, times and notes.
_PNG_KEPT = {
    *(b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"bKGD", b"hIST", b"tRNS", b"pHYs", b"sPLT"),
    *(b"acTL", b"fcTL", b"fdAT"),
}
_ORIENTATION = 0x0112
_MAT_TEXT = b"MATLAB 5.0 MAT-file"
_MAT_TEXT_BYTES = 116
_JPEG_SCAN = b"\xff\xda"
_CHUNK = 1 << 20


def clean_nifti(path: Path, target: Path, name: str) -> bool:
    """Empty the texts of a NIfTI header, take out its extensions, and the name in a gzip header.

    Raises
    ------
    BadInput
        The header is impossible, or the gzip stream damaged.
    """
    packed = sniff(path) == "gzip"
    fields = parse_header(path, name)
    texts = {field for field in _NIFTI_TEXTS if field in fields.keys() and bytes(fields[field]).strip(b"\0 ")}  # noqa: SIM118
    smallest = fields.single_vox_offset
    extended = _has_extension(path, name, fields)
    if not texts and not extended:
        return packed and _clean_gzip(path, target, name)
    header = read_header(path, name=name)
    for field in texts:
        fields[field] = b""
    offset, fields["vox_offset"] = header.offset, smallest
    with gzip_faults(name), open_stream(path) as source, target.open("wb") as file:
        source.seek(offset)
        out: IO[bytes] = gzip.GzipFile("", "wb", 1, file, mtime=0) if packed else file  # type: ignore[assignment]
        out.write(fields.binaryblock + b"\0" * (smallest - len(fields.binaryblock)))
        left = header.stored_bytes - offset
        while left > 0 and (chunk := source.read(min(_CHUNK, left))):
            out.write(chunk)
            left -= len(chunk)
        if packed:
            out.close()
    return True


def clean_png(path: Path, target: Path, name: str) -> bool:
    """Take every chunk out of a PNG file that is no part of the picture; an orientation stays."""
    content = path.read_bytes()
    kept = [chunk for kind, chunk in _png_chunks(content) if not kind[0] & 0x20 or kind in _PNG_KEPT]
    if b"".join((_PNG_HEAD, *kept)) == content:
        return False
    turned = _read_orientation(path)
    if turned != 1:
        note = b"eXIf" + _minimal_exif(turned)
        kept.insert(1, (len(note) - 4).to_bytes(4, "big") + note + zlib.crc32(note).to_bytes(4, "big"))
    return _write_if_other(b"".join((_PNG_HEAD, *kept)), content, target)


def clean_jpeg(path: Path, target: Path, name: str) -> bool:
    """Take every segment out of a JPEG file that is no part of the picture; an orientation stays."""
    content = path.read_bytes()
    parts = list(_jpeg_parts(content))
    if not parts[-1].startswith(_JPEG_SCAN):
        raise BadInput(f"{name}, whose segments don't lead to its picture", "an intact JPEG", "Save it again.")
    if b"".join(parts) == content:
        return False
    turned = _read_orientation(path)
    if turned != 1:
        note = b"Exif\0\0" + _minimal_exif(turned)
        place = 2 if parts[1][1] == 0xE0 else 1
        parts.insert(place, b"\xff\xe1" + (len(note) + 2).to_bytes(2, "big") + note)
    return _write_if_other(b"".join(parts), content, target)


def clean_mat(path: Path, target: Path, name: str) -> bool:
    """Replace the text of a MATLAB header, which says when and on what kind of machine it was written."""
    text = _MAT_TEXT.ljust(_MAT_TEXT_BYTES)
    with path.open("rb") as file:
        if sniff(path) != "mat" or file.read(_MAT_TEXT_BYTES) == text:
            return False
    shutil.copyfile(path, target)
    with target.open("r+b") as file:
        file.write(text)
    return True


def _has_extension(path: Path, name: str, fields: Any) -> bool:
    length = len(fields.binaryblock)
    if float(fields["vox_offset"]) > fields.single_vox_offset:
        return True
    with gzip_faults(name), open_stream(path) as stream:
        stream.seek(length)
        return bool(stream.read(4).strip(b"\0"))


def _clean_gzip(path: Path, target: Path, name: str) -> bool:
    """Write a gzip file with an empty header; the packed bytes stay as they are."""
    with path.open("rb") as source:
        head = source.read(10)
        flags = head[3]
        if not flags and not any(head[4:8]):
            return False
        if flags & _GZIP_FLAGS["extra"]:
            source.seek(int.from_bytes(source.read(2), "little"), os.SEEK_CUR)
        for flag in ("name", "comment"):
            while flags & _GZIP_FLAGS[flag] and source.read(1) not in {b"\0", b""}:
                pass
        if flags & _GZIP_FLAGS["checksum"]:
            source.seek(2, os.SEEK_CUR)
        with target.open("wb") as file:
            file.write(_GZIP_HEAD)
            shutil.copyfileobj(source, file, _CHUNK)
    return True


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_PNG_HEAD)
    while place + 12 <= len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        kind = content[place + 4 : place + 8]
        yield kind, content[place:end]
        if kind == b"IEND":
            return
        place = end


def _jpeg_parts(content: bytes) -> Iterator[bytes]:
    """Yield the parts of a JPEG file that stay."""
    yield content[:2]
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF:  # filling
            place += 1
            continue
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        segment = content[place:end]
        if marker == 0xDA:  # the picture itself, down to its end
            last = content.rfind(b"\xff\xd9", end)
            yield content[place : _end_of_scans(content, end) if last >= 0 else len(content)]
            return
        yield from _keep_segment(marker, segment)
        place = end


def _end_of_scans(content: bytes, place: int) -> int:
    """Return the place behind the first end-of-image marker; in packed data 0xFF is followed by 0 or a restart."""
    while (place := content.find(b"\xff", place)) >= 0 and place + 1 < len(content):
        marker = content[place + 1]
        if marker == 0xD9:
            return place + 2
        if marker in {0x00, 0xFF, 0x01} or 0xD0 <= marker <= 0xD7:
            place += 1
        else:  # tables between the scans of a progressive picture
            place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return len(content)


def _keep_segment(marker: int, segment: bytes) -> Iterator[bytes]:
    if marker == 0xE0 and segment[4:9] == b"JFIF\0":
        plain = segment[:16] + b"\0\0"  # without the thumbnail that it may hold
        yield plain[:2] + (len(plain) - 2).to_bytes(2, "big") + plain[4:]
    elif not (0xE0 <= marker <= 0xEF or marker == 0xFE) or marker == 0xEE or segment[4:16] == b"ICC_PROFILE\0":
        yield segment


def _read_orientation(path: Path) -> int:
    """Return how a picture is to be turned (EXIF 0x0112), wherever a reader would find it; 1: not at all."""
    with Image.open(path, formats=("PNG", "JPEG")) as picture:
        picture.load()  # a PNG file may say it behind its pixels
        turned = picture.getexif().get(_ORIENTATION, 1)
    return turned if turned in range(1, 9) else 1


def _minimal_exif(orientation: int) -> bytes:
    entry = _ORIENTATION.to_bytes(2, "big") + (3).to_bytes(2, "big") + (1).to_bytes(4, "big")
    return b"MM\0*\0\0\0\x08\0\x01" + entry + orientation.to_bytes(2, "big") + b"\0\0" + b"\0\0\0\0"


def _write_if_other(cleaned: bytes, content: bytes, target: Path) -> bool:
    if cleaned == content:
        return False
    target.write_bytes(cleaned)
    return True


def _clean_tiff(path: Path, target: Path, name: str) -> bool:
    from voxelight.storage.formats.tiff import clean_tiff

    return clean_tiff(path, target, name)


def _clean_sidecar(path: Path, target: Path, name: str) -> bool:
    from voxelight.storage.formats.fmri.tables_intake import clean_sidecar

    return clean_sidecar(path, target, name)


def _clean_itk(path: Path, target: Path, name: str) -> bool:
    from voxelight.storage.formats.itk import clean_itk

    return clean_itk(path, target, name)


CLEANERS: dict[str, Callable[[Path, Path, str], bool]] = {
    ".nii": clean_nifti,
    ".nii.gz": clean_nifti,
    ".mat": clean_mat,
    ".png": clean_png,
    ".jpg": clean_jpeg,
    ".jpeg": clean_jpeg,
    ".tif": _clean_tiff,
    ".tiff": _clean_tiff,
    ".nrrd": _clean_itk,
    ".mha": _clean_itk,
    ".json": _clean_sidecar,
}


def clean_file(path: Path, target: Path, name: str) -> bool:
    """Clean a file by the suffix of its name, once its content is known to agree with that.

    Returns
    -------
    bool
        Whether `target` holds the cleaned file; else there was nothing to clean.
    """
    cleaner = CLEANERS.get(find_suffix(name))
    return cleaner is not None and cleaner(path, target, name)
