"""Headers of NRRD and MetaImage: what places the voxels, checked before any is read, and nothing that names anyone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from voxelight.models.errors import BadInput
from voxelight.storage.formats.streams import refuse_if

_MOST_HEADER = 1 << 20
# What places and types the voxels; every other field, key and comment is text that may name who or when.
_NRRD_KEPT = {
    *("type", "dimension", "sizes", "encoding", "endian", "space", "space dimension", "space directions"),
    *("space origin", "space units", "spacings", "units", "kinds", "centers", "centerings"),
}
_META_KEPT = {
    *("ObjectType", "NDims", "BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData"),
    *("CompressedDataSize", "TransformMatrix", "Rotation", "Orientation", "Offset", "Position", "Origin"),
    *("CenterOfRotation", "AnatomicalOrientation", "ElementSpacing", "ElementSize", "DimSize", "HeaderSize"),
    *("ElementNumberOfChannels", "ElementType", "ElementDataFile"),
}
_UNIT_MM = {"mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "um": 1e-3, "µm": 1e-3, "cm": 10.0, "m": 1000.0}


@dataclass(frozen=True)
class ItkHeader:
    """A header as text.

    Parameters
    ----------
    fields : name -> value, as they stand there
    kept : the lines that place and type the voxels, in their order
    offset : byte at which the voxels begin
    other : whether there is anything else in it
    """

    fields: Mapping[str, str]
    kept: tuple[str, ...]
    offset: int
    other: bool

    @property
    def content(self) -> bytes:
        """The header with what is kept alone."""
        return "".join(f"{line}\n" for line in self.kept).encode()


def read_itk_header(path: Path, name: str) -> ItkHeader:
    """Read the header of an NRRD or MetaImage file by what it begins with.

    Raises
    ------
    BadInput
        It is neither, has no end, or leads to another file.
    """
    with path.open("rb") as file:
        head = file.read(_MOST_HEADER)
    if head.startswith(b"NRRD"):
        return _read_nrrd(head, name)
    if is_metaimage(head):
        return _read_meta(head, name)
    raise BadInput(f"{name}, neither NRRD nor MetaImage by its content", "one of them",
                   "Convert the image; renaming it is not enough.")  # fmt: skip


def is_metaimage(head: bytes) -> bool:
    """Whether a file begins as MetaImage does."""
    return re.match(rb"\s*(ObjectType\s*=\s*Image|NDims\s*=\s*\d)", head) is not None


def find_unit_mm(header: ItkHeader, name: str) -> float:
    """Return how many mm a unit of the header is; mm where none is named.

    Raises
    ------
    BadInput
        It is unknown, or differs between axes.
    """
    told = header.fields.get("space units") or header.fields.get("units") or ""
    units = {unit.strip().lower() for unit in re.findall(r'"([^"]*)"', told)} - {"", "???"}
    refuse_if(
        len(units) > 1 or not units <= _UNIT_MM.keys(),
        f"{name} in units of {', '.join(sorted(units))}",
        f"one of {', '.join(_UNIT_MM)} for all axes",
        "Write the image again in mm.",
    )
    return _UNIT_MM[units.pop()] if units else 1.0


def is_placed(header: ItkHeader) -> bool:
    """Whether the header says where left is."""
    nrrd = "space" in header.fields or "space dimension" in header.fields
    return nrrd or any(field in header.fields for field in ("TransformMatrix", "Rotation", "Orientation"))


def _read_nrrd(head: bytes, name: str) -> ItkHeader:
    end = re.search(rb"\r?\n\r?\n", head)
    if end is None:
        raise _endless(name)
    magic, *lines = head[: end.start()].decode("latin-1").splitlines()
    fields = {}
    kept = [magic.strip()]
    for line in lines:
        found = re.match(r"([^:#]+): (.*)$", line)
        if found is None:
            continue
        field = found[1].strip().lower()
        fields[field] = found[2].strip()
        if field in _NRRD_KEPT:
            kept.append(line.rstrip())
    refuse_if(
        "data file" in fields or "datafile" in fields,
        f"{name}, a header whose voxels lie in another file",
        "header and voxels in one .nrrd",
        "Save it again as one file (attached header).",
    )
    for field in ("byte skip", "byteskip", "line skip", "lineskip"):
        refuse_if(fields.get(field, "0") not in {"0", "-1"}, f"{name} with a {field} of {fields.get(field)}", "none",
                  "Save it again with 3D Slicer or SimpleITK.")  # fmt: skip
    kept.append("")  # the empty line that ends a header
    return ItkHeader(fields, tuple(kept), end.end(), len(kept) - 1 < len(lines) + 1)


def _read_meta(head: bytes, name: str) -> ItkHeader:
    end = re.search(rb"ElementDataFile\s*=\s*([^\r\n]*)\r?\n", head)
    if end is None:
        raise _endless(name)
    data = end[1].decode("latin-1").strip()
    refuse_if(
        data.upper() != "LOCAL",
        f"{name}, a header whose voxels lie in another file",
        "header and voxels in one .mha, or an .mhd together with its .raw",
        "Choose both files together, or save it again as .mha.",
    )
    lines = head[: end.end()].decode("latin-1").splitlines()
    pairs = [(line.partition("=")[0].strip(), line.partition("=")[2].strip()) for line in lines]
    for field, value in pairs:  # ITK keeps arrays for 10 axes, and writes beyond them where a header claims more
        refuse_if(
            field == "NDims" and re.fullmatch("[1-9]", value) is None,
            f"{name} with a number of axes of {value[:20]}",
            "3",
            "The header is damaged: save the image again from its source.",
        )
    kept = [f"{field} = {value}" for field, value in pairs if field in _META_KEPT]
    return ItkHeader(dict(pairs), tuple(kept), end.end(), len(kept) < len(lines))


def name_raw(path: Path) -> str | None:
    """Return the name of the file that a detached MetaImage header leads to, None where it leads to none or several."""
    with path.open("rb") as file:
        head = file.read(_MOST_HEADER)
    found = re.search(rb"ElementDataFile\s*=\s*([^\r\n]*)", head) if is_metaimage(head) else None
    data = found[1].decode("utf-8", "replace").strip() if found else ""
    plain = data and data.upper() not in {"LOCAL", "LIST"} and "%" not in data
    return data.replace("\\", "/").rpartition("/")[2] if plain else None


def join_metaimage(header: Path, raw: Path, target: Path, raw_name: str = "") -> None:
    """Write a detached header and its voxels as one .mha.

    Parameters
    ----------
    header, raw, target : the two as they lie, and where to write
    raw_name : what the person calls the voxels, where that is not the name on disk

    Raises
    ------
    BadInput
        The header leads to another file.
    """
    text = header.read_bytes()[:_MOST_HEADER]
    raw_name = raw_name or raw.name
    if name_raw(header) != raw_name:
        raise BadInput(
            f"{header.name}, which leads to {name_raw(header)}", raw_name, "Choose the two that belong together."
        )
    with target.open("wb") as file, raw.open("rb") as voxels:
        file.write(re.sub(rb"ElementDataFile\s*=.*", b"ElementDataFile = LOCAL\n", text, flags=re.DOTALL))
        while chunk := voxels.read(1 << 20):
            file.write(chunk)


def _endless(name: str) -> BadInput:
    return BadInput(f"{name} whose header has no end", "a whole file", "Copy it again, or save it again as one file.")
