"""What an uploaded file is, said before anything is stored."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from voxelight.models.errors import BadInput
from voxelight.storage.formats.betas import read_betas_mat
from voxelight.storage.formats.findings import Tally, of_alignment, of_betas, of_grid, of_repeats, of_values
from voxelight.storage.formats.found import Finding, Grid, Intake, Kind
from voxelight.storage.formats.images import read_picture
from voxelight.storage.formats.names import find_suffix, safe_name
from voxelight.storage.formats.nifti import opened_series, opened_slabs
from voxelight.storage.formats.nifti_header import SourceGrid, place_grid, read_header
from voxelight.storage.formats.sniff import NAMES, sniff

__all__ = ["Finding", "Grid", "Intake", "inspect", "safe_name"]

_PICKLE = (
    "Pickles can run code when opened, and a plain .npy says nothing of its trials: register betas with their trials "
    "(voxelight datasets add), save them as .mat or as NIfTI with a mask and events, and weights as safetensors."
)


def inspect(path: Path, name: str) -> Intake:
    """Check an uploaded file and say what it is.

    Parameters
    ----------
    path : where it lies, under any name
    name : as the person calls it; its suffix chooses the reader, and the content must agree

    Raises
    ------
    BadInput
        The name is unsafe or its suffix unknown, the file is empty, damaged, too large or of another kind.
    """
    safe_name(name)
    if path.is_file() and not path.stat().st_size:
        raise BadInput(f"{name} with 0 bytes", "a file with content", "Copy or upload it again.")
    kind = sniff(path)
    suffix = find_suffix(name)
    if kind in {"pickle", "npy"} or suffix in _PICKLED:
        raise BadInput(f"{name}, {NAMES[kind]} by its content", f"one of {', '.join(_READERS)}", _PICKLE)
    if suffix not in _READERS:
        raise BadInput(
            f"{name}, {NAMES[kind]} by its content",
            f"one of {', '.join(_READERS)}",
            _REMEDIES.get(suffix, "Convert it to one of these; renaming is not enough."),
        )
    return _READERS[suffix](path, name, suffix)


def _nifti(path: Path, name: str, suffix: str) -> Intake:
    tally = Tally()
    opened = opened_slabs if len(read_header(path, name=name).shape) == 3 else opened_series
    with opened(path, name) as (header, parts):
        for part in parts:
            tally.add(part)
    grid, count = header.grid, (header.shape[3] if len(header.shape) > 3 else 1)
    kind: Kind = "series" if len(header.shape) > 3 else "volume"
    if kind == "volume" or tally.non_finite == tally.voxels:
        refuse_non_finite(name, tally)
    facts: dict[str, int | float | str] = {
        "dtype": header.dtype.name,
        "voxels": tally.voxels // count,
        "minimum": tally.low,
        "maximum": tally.high,
    }
    if kind == "series":
        facts["volumes"] = count
    return Intake(
        kind=kind,
        suffix=suffix,
        media_type="application/gzip" if suffix == ".nii.gz" else "application/octet-stream",
        geometry=_describe(grid),
        facts=facts,
        warnings=(*of_grid(grid, _spacing(grid)), *of_values(name, tally)),
    )


def _dicom(path: Path, name: str, suffix: str) -> Intake:
    # Imported late: pydicom takes a third of a second, and most files need none of it.
    from voxelight.storage.formats.dicom.bundle import describe_series, find_warnings
    from voxelight.storage.formats.dicom.volume import open_stack, read_slices

    stack = open_stack(path, name)
    tally = Tally()
    for _, pixels in read_slices(stack):
        tally.add(pixels)
    grid = place_grid(stack.shape, stack.affine)
    return Intake(
        kind="volume",
        suffix=suffix,
        media_type="application/zip",
        geometry=_describe(grid),
        facts={
            **describe_series(stack.series),
            "slices": len(stack.frames),
            "voxels": tally.voxels,
            "minimum": tally.low,
            "maximum": tally.high,
        },
        warnings=(*find_warnings(stack), *of_grid(grid, _spacing(grid)), *of_values(name, tally)),
    )


def _itk(path: Path, name: str, suffix: str) -> Intake:
    from voxelight.storage.formats.itk import read_itk

    array, grid = read_itk(path, name)
    tally = Tally()
    tally.add(array)
    refuse_non_finite(name, tally)
    return Intake(
        kind="volume",
        suffix=suffix,
        media_type="application/octet-stream",
        geometry=_describe(grid),
        facts={"voxels": tally.voxels, "minimum": tally.low, "maximum": tally.high},
        warnings=(*of_grid(grid, _spacing(grid)), *of_values(name, tally)),
    )


def refuse_non_finite(name: str, tally: Tally) -> None:
    """Refuse NaN and infinity."""
    if tally.non_finite:
        raise BadInput(
            f"{name} with {tally.non_finite} of {tally.voxels} voxels that are NaN or infinite",
            "finite values",
            "Replace them, for example by zero outside the brain, and try again.",
        )


def _describe(grid: SourceGrid) -> Grid:
    return Grid(
        shape=grid.shape,
        spacing_mm=_spacing(grid),
        orientation=grid.orientation,
        affine=tuple(tuple(row) for row in grid.affine.tolist()),
    )


def _spacing(grid: SourceGrid) -> tuple[float, float, float]:
    i, j, k = (round(float(side), 6) for side in np.linalg.norm(grid.affine[:3, :3], axis=0))
    return i, j, k


def _mat(path: Path, name: str, suffix: str) -> Intake:
    betas, stimuli = read_betas_mat(path, name=name)
    return Intake(
        kind="betas",
        suffix=suffix,
        media_type="application/x-matlab-data",
        geometry=None,
        facts={
            "trials": betas.values.shape[0],
            "voxels": betas.values.shape[1],
            "stimuli": len(stimuli.ids),
            "picture_rows": stimuli.images.shape[1],
            "picture_columns": stimuli.images.shape[2],
            "minimum": float(betas.values.min()),
            "maximum": float(betas.values.max()),
        },
        warnings=(*of_alignment(betas), *of_repeats(betas.stimulus_ids), *of_betas(betas)),
    )


def _table(path: Path, name: str, suffix: str) -> Intake:
    from voxelight.storage.formats.fmri.tables_intake import describe_table

    kind, facts, findings = describe_table(path, name)
    return Intake(
        kind=kind, suffix=suffix, media_type="text/tab-separated-values", geometry=None, facts=facts, warnings=findings
    )


def _sidecar(path: Path, name: str, suffix: str) -> Intake:
    from voxelight.storage.formats.fmri.tables_intake import describe_sidecar

    facts = describe_sidecar(path, name)
    return Intake(kind="sidecar", suffix=suffix, media_type="application/json", geometry=None, facts=facts, warnings=())


def _picture(path: Path, name: str, suffix: str) -> Intake:
    media_type = _PICTURES[suffix]
    kind = sniff(path)
    if f"image/{kind}" in _PICTURES.values() and media_type != f"image/{kind}":
        raise BadInput(f"{NAMES[kind]} under the name {name}", f"a name that ends in .{kind}", "Rename it.")
    picture = read_picture(path, name)
    rows, columns, channels = picture.shape
    if max(rows, columns) > _MOST_SIDE:
        raise BadInput(
            f"{name} of {columns} x {rows} pixels", f"at most {_MOST_SIDE} pixels along a side", "Cut it into parts."
        )
    blank = [Finding(found="a picture of one colour", remedy="Check that it is the one you meant.")]
    return Intake(
        kind="picture",
        suffix=suffix,
        media_type=media_type,
        geometry=None,
        facts={"rows": rows, "columns": columns, "channels": channels},
        warnings=tuple(blank if picture.min() == picture.max() else []),
    )


_MOST_SIDE = 32767  # as many as a label map can have
_PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
}
_READERS: dict[str, Callable[[Path, str, str], Intake]] = {
    ".nii": _nifti,
    ".nii.gz": _nifti,
    ".mat": _mat,
    ".tsv": _table,
    ".json": _sidecar,
    ".png": _picture,
    ".jpg": _picture,
    ".jpeg": _picture,
    ".tif": _picture,
    ".tiff": _picture,
    ".nrrd": _itk,
    ".mha": _itk,
    ".dcm.zip": _dicom,
}
_PICKLED = {".npy", ".npz", ".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt"}
_HDF5 = "Register it (voxelight datasets add), or save betas as .mat (version 5 to 7) or NIfTI with a mask and events."
_REMEDIES = {
    ".dcm": "Pack the slices of the series in one ZIP archive named .dcm.zip, or convert it with dcm2niix.",
    ".nhdr": "Save header and voxels as one .nrrd, with 3D Slicer or SimpleITK for example.",
    ".mhd": "Choose it together with its .raw, or save both as one .mha.",
    ".raw": "Choose it together with its .mhd, or save both as one .mha.",
    ".mgz": "Convert it to NIfTI with mri_convert.",
    ".hdr": "Join header and image in one .nii.gz.",
    ".img": "Join header and image in one .nii.gz.",
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".csv": "Save events as tab-separated .tsv.",
    ".zip": "Unpack it and upload the files; an archive of one DICOM series is named .dcm.zip.",
}
