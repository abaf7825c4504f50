"""Makers of small files, good and bad."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest


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
