"""NIfTI headers, checked before a single voxel is held in memory."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry
from voxelight.storage.formats.nifti_forms import measure_disagreement, refuse_disagreement
from voxelight.storage.formats.sniff import NAMES, sniff
from voxelight.storage.formats.streams import check_size, check_stream, gzip_faults, open_stream, readable, refuse_if

MAX_BYTES = 4 * 2**30
"""Voxels of one file in memory, as float32 or as stored, whichever is more."""

_MAX_EXTENSIONS = 64 * 2**20
_AXES = 3
_MOST_SIDE = 32767  # NIfTI-1 has 16 bits for a side
_ORDERS: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}
_UNITS = {0: "unknown", 1: "meter", 2: "mm", 3: "micron"}
_UNIT_MM = {"meter": 1000.0, "micron": 0.001}
_FORMS = {
    "sform": ["srow_x", "srow_y", "srow_z"],
    "qform": ["quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"],
}
_PLACEMENT = ["pixdim", "sform_code", "qform_code", *_FORMS["sform"], *_FORMS["qform"]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SourceGrid:
    """The grid and orientation a file came with, enough to put a result back onto it.

    Parameters
    ----------
    shape : (i, j, k) as stored, voxels
    affine : array (4, 4), stored voxel index -> RAS+ mm
    orientation : where the stored axes point, e.g. ``LAS``
    version : 1 or 2, of the NIfTI format
    placement : header field -> value, as stored
    units : code of space units, as stored
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    orientation: str
    version: int
    placement: Mapping[str, NDArray[Any]]
    units: int

    @property
    def axes(self) -> NDArray[np.float64]:
        """Which RAS+ axis each stored axis becomes, and its direction: array (3, 2)."""
        return np.asarray(nib.io_orientation(self.affine))

    @property
    def geometry(self) -> Geometry:
        """The same voxels with the axes in RAS+ order."""
        ras = self.affine @ nib.orientations.inv_ornt_aff(self.axes, self.shape)
        i, j, k = (self.shape[int(axis)] for axis in np.argsort(self.axes[:, 0]))
        return Geometry((i, j, k), ras)

    @property
    def is_placed(self) -> bool:
        """Whether the header says where the voxels lie: sform or qform code above 0."""
        return bool(self.placement["sform_code"] > 0 or self.placement["qform_code"] > 0)


def place_grid(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> SourceGrid:
    """Describe the grid of an image that is no NIfTI file as the header of one would.

    Parameters
    ----------
    shape : (i, j, k) as stored, voxels
    affine : array (4, 4), stored voxel index -> RAS+ mm
    """
    Geometry(shape, affine)  # refuses an affine that folds space flat
    if max(shape) > _MOST_SIDE:
        raise BadInput(f"a grid of {shape} voxels", f"at most {_MOST_SIDE} along a side", "Cut it into parts.")
    fields = nib.Nifti1Header()
    fields.set_data_shape(shape)
    fields.set_sform(affine, code="scanner")
    fields.set_qform(affine, code="scanner")
    fields.set_xyzt_units("mm")
    return SourceGrid(
        shape,
        affine,
        _find_orientation(affine),
        1,
        {field: np.array(fields[field]) for field in _PLACEMENT},
        int(fields["xyzt_units"]) & 7,
    )


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """What a NIfTI file says of itself, already believed to be possible.

    Parameters
    ----------
    shape : sides, three or more
    dtype : as stored
    grid : SourceGrid of the first three axes
    offset : byte at which the voxels begin
    scaling : slope and intercept of the stored values
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    grid: SourceGrid
    offset: int
    scaling: tuple[float, float]

    @property
    def stored_bytes(self) -> int:
        """Length of header, extensions and voxels."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


@contextmanager
def opened(path: Path, max_bytes: int = MAX_BYTES, name: str = "") -> Iterator[tuple[NiftiHeader, ArrayProxy]]:
    """Open a NIfTI file, header and stream checked, voxels still on disk.

    Parameters
    ----------
    path : ``.nii`` or ``.nii.gz``, or a name without a suffix; the content decides
    max_bytes : limit of the voxels in memory, bytes
    name : what the person calls the file, where that is not the name on disk

    Raises
    ------
    BadInput
        The name or content is of another kind, the header is impossible, or the stream is cut, damaged or a bomb.
    """
    header = read_header(path, max_bytes, name)
    check_stream(path, header.stored_bytes, name or path.name)
    with open_stream(path) as stream:
        yield header, ArrayProxy(stream, (header.shape, header.dtype, header.offset, *header.scaling), mmap=False)


def read_header(path: Path, max_bytes: int = MAX_BYTES, name: str = "") -> NiftiHeader:
    """Read and check the header alone: `shape x dtype` against `max_bytes` and against the size of the file.

    Raises
    ------
    BadInput
        As `opened`, except for faults further down the stream.
    """
    name = name or path.name
    fields = parse_header(path, name)
    shape = _shape(name, fields)
    dtype = _dtype(name, fields)
    voxels = math.prod(shape)
    refuse_if(
        voxels * max(dtype.itemsize, 4) > max_bytes,
        f"{name}, {path.stat().st_size} bytes long, whose header claims {readable(voxels * dtype.itemsize)} "
        f"of voxels in shape {shape}",
        f"at most {readable(max_bytes)}",
        "Check that the header is not damaged, or split the file.",
    )
    offset = float(fields["vox_offset"])
    smallest = int(fields["sizeof_hdr"]) + 4
    refuse_if(
        not smallest <= offset <= _MAX_EXTENSIONS,
        f"{name} whose voxels begin at byte {offset:g}",
        f"a start from byte {smallest} to {_MAX_EXTENSIONS}",
        "Write the file again as single-file NIfTI.",
    )
    header = NiftiHeader(shape, dtype, _grid(name, fields, shape), int(offset), _scaling(name, fields))
    check_size(path, header.stored_bytes, name)
    return header


def parse_header(path: Path, name: str) -> nib.Nifti1Header:
    """Read the fields of a header as they are stored, in their own byte order.

    Raises
    ------
    BadInput
        The name or the content is of another kind.
    """
    kind = sniff(path)
    suffix = ".nii.gz" if name.lower().endswith(".nii.gz") else Path(name).suffix.lower()
    refuse_if(
        suffix not in {".nii", ".nii.gz", ""},
        f"{name}, {NAMES[kind]} by its content",
        "a name that ends in .nii or .nii.gz",
        "Convert the image to NIfTI.",
    )
    refuse_if(
        kind not in {"gzip", "nifti"},
        f"{NAMES[kind]} under the name {name}",
        "a single-file NIfTI image",
        "Convert the image to NIfTI; renaming it is not enough.",
    )
    right = ".nii.gz" if kind == "gzip" else ".nii"
    refuse_if(
        suffix not in {right, ""}, f"{NAMES[kind]} under the name {name}", f"a name that ends in {right}", "Rename it."
    )
    with gzip_faults(name), open_stream(path) as stream:
        block = stream.read(nib.Nifti2Header.template_dtype.itemsize)
    for header_type, magic in ((nib.Nifti1Header, b"n+1"), (nib.Nifti2Header, b"n+2")):
        length = header_type.template_dtype.itemsize
        for endianness, order in _ORDERS.items():
            if len(block) >= length and int.from_bytes(block[:4], order) == length:
                fields = header_type(block[:length], endianness, check=False)
                if bytes(fields["magic"]).startswith(magic):
                    return fields
    raise BadInput(
        f"{name} without a NIfTI header in its first {len(block)} bytes",
        "a single-file NIfTI image",
        "Convert the image to NIfTI; renaming it is not enough.",
    )


def _shape(name: str, fields: nib.Nifti1Header) -> tuple[int, ...]:
    dims = [int(side) for side in fields["dim"]]
    refuse_if(
        not 1 <= dims[0] <= 7 or any(side < 1 for side in dims[1 : dims[0] + 1]),
        f"{name} of {dims[0]} dimensions with the sides {tuple(dims[1:])}",
        "1 to 7 dimensions with positive sides",
        "Repair the header (dim) or convert the image again.",
    )
    shape = dims[1 : dims[0] + 1]
    while len(shape) > _AXES and shape[-1] == 1:
        shape.pop()
    refuse_if(
        len(shape) < _AXES,
        f"{name} of shape {tuple(shape)}, {len(shape)}-D",
        "three axes or more",
        "Give a whole volume; a single slice needs a third axis of length 1.",
    )
    return tuple(shape)


def _dtype(name: str, fields: nib.Nifti1Header) -> np.dtype[Any]:
    remedy = "Save it as integers or floats of up to 64 bits."
    try:
        dtype = np.dtype(fields.get_data_dtype())
    except (HeaderDataError, KeyError) as error:
        raise BadInput(f"{name} with voxels of data type {int(fields['datatype'])}", "a known type", remedy) from error
    refuse_if(
        dtype.kind not in "iuf" or dtype.itemsize > 8,
        f"{name} with {'colour' if dtype.fields else dtype.name} voxels",
        "one integer or real number a voxel",
        remedy,
    )
    return dtype


def _grid(name: str, fields: nib.Nifti1Header, shape: tuple[int, ...]) -> SourceGrid:
    declared = {"pixdim": fields["pixdim"][1:4]}
    declared |= {
        form: np.concatenate([np.atleast_1d(fields[field]) for field in parts])
        for form, parts in _FORMS.items()
        if fields[f"{form}_code"] > 0
    }
    for what, values in declared.items():
        refuse_if(
            not np.isfinite(values).all(),
            f"{name} whose {what} holds {int((~np.isfinite(values)).sum())} non-finite numbers",
            "a finite affine",
            "Repair the header (sform or qform) and try again.",
        )
    three = (shape[0], shape[1], shape[2])
    fields = fields.copy()
    try:
        fields.check_fix(_log, error_level=100)
        affine = np.asarray(fields.get_best_affine(), dtype=np.float64)
        distance, degrees = measure_disagreement(fields, three)
    except (HeaderDataError, ValueError) as error:
        raise BadInput(
            f"{name} whose affine can't be read ({error})", "a valid sform or qform", "Repair it."
        ) from error
    unit = int(fields["xyzt_units"]) & 7  # of space; beside it stands that of time
    if unit not in _UNITS:
        raise BadInput(f"{name} with the unit {unit} of lengths", f"one of {_UNITS}", "Correct xyzt_units.")
    unit_mm = _UNIT_MM.get(_UNITS[unit], 1.0)
    affine[:3] *= unit_mm
    Geometry(three, affine)  # refuses an affine that folds space flat
    refuse_disagreement(name, (distance * unit_mm, degrees))
    return SourceGrid(
        three,
        affine,
        _find_orientation(affine),
        1 if fields["sizeof_hdr"] == nib.Nifti1Header.template_dtype.itemsize else 2,
        {field: np.array(fields[field]) for field in _PLACEMENT},
        int(fields["xyzt_units"]) & 7,
    )


def _find_orientation(affine: NDArray[np.float64]) -> str:
    codes = nib.aff2axcodes(affine)
    if None in codes:
        raise BadInput(
            "an affine that leaves an axis without a direction", "three axes that span space",
            "Repair the header (sform or qform) and try again.",
        )  # fmt: skip
    return "".join(codes)


def _scaling(name: str, fields: nib.Nifti1Header) -> tuple[float, float]:
    try:
        slope, inter = fields.get_slope_inter()
    except HeaderDataError as error:
        raise BadInput(f"{name}: {error}", "a finite scl_inter", "Repair the header.") from error
    return (1.0, 0.0) if slope is None else (slope, inter)
