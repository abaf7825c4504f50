"""What a file really is, told by its first bytes and not by its name."""

import pickletools
from io import StringIO
from pathlib import Path

from voxelight.models.errors import BadInput

_HEAD_BYTES = 4096

# (kind, offset, magic), the first that fits wins
_MAGIC: list[tuple[str, int, bytes]] = [
    ("gzip", 0, b"\x1f\x8b"),
    ("png", 0, b"\x89PNG\r\n\x1a\n"),
    ("jpeg", 0, b"\xff\xd8\xff"),
    ("mat", 0, b"MATLAB 5.0 MAT-file"),
    ("mat-7.3", 0, b"MATLAB 7.3 MAT-file"),
    ("hdf5", 0, b"\x89HDF\r\n\x1a\n"),
    ("zip", 0, b"PK\x03\x04"),
    ("npy", 0, b"\x93NUMPY"),
    ("nrrd", 0, b"NRRD"),
    ("tiff", 0, b"II*\0"),
    ("tiff", 0, b"MM\0*"),
    ("tiff", 0, b"II+\0"),
    ("tiff", 0, b"MM\0+"),
    ("metaimage", 0, b"ObjectType = Image"),
    ("metaimage", 0, b"NDims = "),
    ("pdf", 0, b"%PDF"),
    ("dicom", 128, b"DICM"),
    ("nifti-pair", 344, b"ni1\0"),
    ("nifti", 344, b"n+1\0"),
    ("nifti", 4, b"n+2\0\r\n\x1a\n"),
    *(("pickle", 0, bytes([0x80, protocol])) for protocol in range(2, 6)),
]

NAMES = {
    "gzip": "a gzip file",
    "png": "a PNG picture",
    "jpeg": "a JPEG picture",
    "mat": "a MATLAB 5 file",
    "mat-7.3": "a MATLAB 7.3 file",
    "hdf5": "an HDF5 file",
    "zip": "a ZIP archive (as .npz and .pt files are)",
    "npy": "a NumPy array",
    "nrrd": "an NRRD file",
    "metaimage": "a MetaImage file",
    "tiff": "a TIFF picture",
    "pdf": "a PDF",
    "dicom": "a DICOM file",
    "nifti-pair": "one half of a NIfTI pair (.hdr, .img)",
    "nifti": "a NIfTI file",
    "pickle": "a Python pickle",
    "text": "plain text",
    "unknown": "a file of no known kind",
}


def sniff(path: Path) -> str:
    """Tell the kind of a file, a key of `NAMES`; nothing is decompressed or executed.

    Raises
    ------
    BadInput
        There is no file, or it is empty.
    """
    if not path.is_file():
        raise BadInput(f"no file {path.name}", "a file", "Check the path.")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise BadInput(f"{path.name} with 0 bytes", "a file with content", "Copy or upload it again.")
    for kind, offset, magic in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    if _is_old_pickle(head):
        return "pickle"
    return "text" if _is_text(head) else "unknown"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else a character that the head cuts in two
            return False
        text = head[: error.start].decode("utf-8-sig")
    return all(letter.isprintable() or letter in "\r\n\t" for letter in text)


def _is_old_pickle(head: bytes) -> bool:
    """Whether the bytes read as opcodes of pickle protocol 0 or 1 that the stack allows; nothing of it is carried out.

    The stack tells a pickle from a table: letters are opcodes too, and ``stim_file`` would set an item on nothing.
    """
    listing = StringIO()
    try:
        pickletools.dis(head, out=listing)
        return listing.getvalue().count("\n") > 3  # a line an opcode, and one for the protocol
    except (ValueError, EOFError, KeyError, UnicodeDecodeError, IndexError):
        return False
