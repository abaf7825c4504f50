"""Makers of small files, good and bad."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence


def nifti_bytes(array: np.ndarray, affine: np.ndarray | None = None, version: int = 1, **fields) -> bytes:
    """Encode by nibabel, then set raw header fields, true or not."""
    kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    payload = kind(array, np.eye(4) if affine is None else affine, dtype=array.dtype).to_bytes()
    length = kind.header_class.template_dtype.itemsize
    header = kind.header_class(payload[:length], check=False)
    for field, value in fields.items():
        header[field] = value
    return header.binaryblock + payload[length:]


@pytest.fixture
def write_nifti(tmp_path: Path) -> Callable[..., Path]:
    """Write `nifti_bytes` under a name, through gzip where it ends in .gz."""

    def write(name: str, array: np.ndarray, affine: np.ndarray | None = None, **fields) -> Path:
        payload = nifti_bytes(array, affine, **fields)
        path = tmp_path / name
        path.write_bytes(gzip.compress(payload) if name.endswith(".gz") else payload)
        return path

    return write


@pytest.fixture(name="nifti_bytes")
def nifti_bytes_fixture() -> Callable[..., bytes]:
    return nifti_bytes


def _make_enhanced(paths: list[Path], target: Path) -> Path:
    """Join slices to one enhanced MR file, frames in a mixed order."""
    headers = [dcmread(path) for path in paths]
    order = [3, 0, 5, 1, 4, 2]
    joined = dcmread(paths[0])
    joined.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    joined.NumberOfFrames = len(headers)
    joined.PixelData = b"".join(headers[place].PixelData for place in order)
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = joined.PixelSpacing, joined.SliceThickness
    plane.ImageOrientationPatient = joined.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    joined.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for place in order:
        frame, position, values = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = headers[place].ImagePositionPatient
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = "2", "-5", "US"
        frame.PlanePositionSequence = Sequence([position])
        frame.PixelValueTransformationSequence = Sequence([values])
        frames.append(frame)
    joined.PerFrameFunctionalGroupsSequence = Sequence(frames)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(joined, keyword)
    joined.save_as(target)
    return target


@pytest.fixture
def make_enhanced() -> Callable[[list[Path], Path], Path]:
    """Join classic slices to one enhanced multi-frame file."""
    return _make_enhanced
