"""Names and colours of labels inside a NIfTI file: the label table of Caret, which Connectome Workbench reads too."""

import struct
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from voxelight.medseg.colours import find_parts
from voxelight.storage.formats.nifti_header import read_header
from voxelight.storage.formats.streams import open_stream

_CARET = 30  # ecode that the standard has registered for it
_HEADERS = {1: 348, 2: 540}
_BLOCK = 16
_MOST = 1000


def encode_extension(names: Mapping[int, str]) -> bytes:
    """Return what follows the header: that there is an extension, and the table of labels as one.

    Parameters
    ----------
    names : label number -> name, background left out

    Returns
    -------
    bytes, 4 more than a multiple of 16; the same names give the same bytes
    """
    if not names:
        return bytes(4)
    content = _write_table(names).encode()
    size = -(-(len(content) + 8) // _BLOCK) * _BLOCK
    return b"\1\0\0\0" + struct.pack("<ii", size, _CARET) + content.ljust(size - 8, b"\0")


def read_label_names(path: Path) -> dict[int, str]:
    """Return the names that a label map carries, background left out; none where it carries no table.

    Raises
    ------
    BadInput
        The file is no NIfTI image.
    """
    header = read_header(path)
    start = _HEADERS[header.grid.version]
    with open_stream(path) as stream:
        told = stream.read(header.offset)[start:]
    for code, content in islice(_list_extensions(told), _MOST):
        if code == _CARET:
            return _read_table(content)
    return {}


def _list_extensions(told: bytes) -> Iterator[tuple[int, bytes]]:
    if told[:1] != b"\1":
        return
    at = 4
    while at + 8 <= len(told):
        size, code = struct.unpack_from("<ii", told, at)
        if size < 8 or at + size > len(told):
            return
        yield code, told[at + 8 : at + size].rstrip(b"\0")
        at += size


def _write_table(names: Mapping[int, str]) -> str:
    rows = ['<Label Key="0" Red="0" Green="0" Blue="0" Alpha="0">???</Label>']
    for number, name in sorted(names.items()):
        red, green, blue = (f"{part / 255:.4f}" for part in find_parts(number))
        rows.append(
            f'<Label Key={quoteattr(str(number))} Red="{red}" Green="{green}" Blue="{blue}" Alpha="1">'
            f"{escape(name)}</Label>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<CaretExtension><VolumeInformation Index="0">'
        f"<LabelTable>{''.join(rows)}</LabelTable><VolumeType>Label</VolumeType>"
        "</VolumeInformation></CaretExtension>\n"
    )


def _read_table(content: bytes) -> dict[int, str]:
    if b"<!" in content.replace(b"<![CDATA[", b""):  # a table declares no entities
        return {}
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError:
        return {}
    labels = {label.get("Key", ""): (label.text or "").strip() for label in root.iter("Label")}
    return {int(key): name for key, name in labels.items() if key.isascii() and key.isdigit() and int(key) and name}
