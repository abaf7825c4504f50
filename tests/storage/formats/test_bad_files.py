"""Every file that must be refused: what is said of it, that nothing is left behind, and how little memory it takes."""

import gzip
import json
import pickle
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from voxelight.models.errors import BadInput
from voxelight.storage.formats.intake import inspect

MIB = 2**20
CUBE = np.arange(8**3, dtype=np.int16).reshape(8, 8, 8)
Encode = Callable[..., bytes]


def zeros_gz(first: bytes, mebibytes: int) -> bytes:
    """Gzip `first` and then zeros, made of one packed MiB that is repeated."""
    return gzip.compress(first) + gzip.compress(bytes(MIB)) * mebibytes


def png(size=(8, 8), mode="L") -> bytes:
    file = BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue()


def mat(**variables) -> bytes:
    file = BytesIO()
    scipy.io.savemat(file, variables)
    return file.getvalue()


def mat_of(**changes) -> bytes:
    good = {"fmriTrn": np.ones((6, 4)), "stimTrn": np.zeros((6, 9)), "labelTrn": np.ones((6, 1))}
    return mat(**{name: value for name, value in {**good, **changes}.items() if value is not None})


def singular(encode: Encode) -> bytes:
    return encode(CUBE, sform_code=2, srow_x=[1, 0, 0, 0], srow_y=[1, 0, 0, 0], srow_z=[0, 0, 1, 0])


def claims_terabytes(encode: Encode) -> bytes:
    return encode(CUBE, dim=dims(4, 30000, 30000, 30000, 8))


def dims(*sides: int) -> list[int]:
    return [*sides, *[1] * (8 - len(sides))]


# name of the upload, its bytes, words of the refusal
NIFTI: dict[str, tuple[str, Callable[[Encode], bytes], tuple[str, ...]]] = {
    "empty upload": ("a.nii.gz", lambda _: b"", ("0 bytes", "upload it again")),
    "wrong suffix": ("a.txt", lambda e: e(CUBE), ("a.txt, a NIfTI file by its content", "one of .nii, .nii.gz")),
    "another kind": ("a.nii", lambda _: png(), ("a PNG picture under the name a.nii", "Convert")),
    "gzip called plain": ("a.nii", lambda e: gzip.compress(e(CUBE)), ("a gzip file", "ends in .nii.gz", "Rename")),
    "plain called gzip": ("a.nii.gz", lambda e: e(CUBE), ("a NIfTI file", "ends in .nii.", "Rename")),
    "gzip of text": ("a.nii.gz", lambda _: gzip.compress(b"x" * 999), ("without a NIfTI header",)),
    "header only half": ("a.nii.gz", lambda e: gzip.compress(e(CUBE)[:200]), ("first 200 bytes",)),
    "pair": ("a.nii", lambda e: e(CUBE, magic=b"ni1"), ("one half of a NIfTI pair", "single-file")),
    "truncated": ("a.nii", lambda e: e(CUBE)[:700], ("700 bytes", "1.344 KiB", "copy it again")),
    "truncated gzip": ("a.nii.gz", lambda e: gzip.compress(e(CUBE))[:-40], ("cut off", "Copy it again")),
    "gzip of a truncated file": ("a.nii.gz", lambda e: gzip.compress(e(CUBE)[:-9]), ("1.335 KiB of the 1.344 KiB",)),
    "damaged gzip": (
        "a.nii.gz",
        lambda e: gzip.compress(e(CUBE))[:-8] + b"\1\2\3\4" + (1376).to_bytes(4, "little"),
        ("damaged gzip stream", "CRC"),
    ),
    "claims terabytes": (
        "a.nii",
        lambda e: e(CUBE, dim=dims(4, 30000, 30000, 30000, 8))[:452],
        ("TiB", "452 bytes long"),
    ),
    "claims terabytes packed": (
        "a.nii.gz",
        lambda e: gzip.compress(claims_terabytes(e)),
        ("TiB", "at most 4 GiB"),
    ),
    "claims more than gzip can hold": (
        "a.nii.gz",
        lambda e: gzip.compress(e(CUBE, dim=dims(3, 1000, 1000, 1000))),
        ("header claims 1.863 GiB", "holds what its header claims"),
    ),
    "bomb behind a small header": (
        "a.nii.gz",
        lambda e: zeros_gz(e(CUBE), 1024),
        ("beyond the 1.344 KiB", "exhaust memory"),
    ),
    "bomb with a fitting header": (
        "a.nii.gz",
        lambda e: zeros_gz(e(CUBE, dim=dims(3, 1024, 1024, 512)), 1024),
        ("would expand", "1 GiB", "at most 200 times"),
    ),
    "NaN affine": ("a.nii", lambda e: e(CUBE, srow_y=[0, np.nan, 0, np.inf]), ("sform holds 2 non-finite", "Repair")),
    "NaN qform": ("a.nii", lambda e: e(CUBE, qform_code=1, quatern_b=np.nan), ("qform holds 1 non-finite",)),
    "NaN spacing": ("a.nii", lambda e: e(CUBE, pixdim=[1, np.nan, 1, 1, 1, 1, 1, 1]), ("pixdim holds 1 non-finite",)),
    "impossible quaternion": (
        "a.nii",
        lambda e: e(CUBE, sform_code=0, qform_code=1, quatern_b=2, quatern_c=2),
        ("affine can't be read",),
    ),
    "singular affine": ("a.nii", singular, ("folds space flat", "invertible")),
    "NaN voxels": ("a.nii.gz", lambda e: gzip.compress(e(np.full((2, 3, 4), np.nan, "f4"))), ("24 of 24 voxels",)),
    "side of zero": ("a.nii", lambda e: e(CUBE, dim=dims(3, 8, 0, 8)), ("sides (8, 0, 8", "positive sides")),
    "negative side": ("a.nii", lambda e: e(CUBE, dim=dims(3, 8, -8, 8)), ("sides (8, -8, 8",)),
    "nine dimensions": ("a.nii", lambda e: e(CUBE, dim=[9, *dims(8, 8, 8)[:7]]), ("of 9 dimensions", "1 to 7")),
    "no dimension": ("a.nii", lambda e: e(CUBE, dim=dims(0)), ("of 0 dimensions",)),
    "two dimensions": ("a.nii", lambda e: e(CUBE[..., 0]), ("2-D", "third axis")),
    "five dimensions": ("a.nii", lambda e: e(CUBE.reshape(2, 2, 2, 8, 8)), ("5-D of shape (2, 2, 2, 8, 8)",)),
    "complex voxels": ("a.nii", lambda e: e(CUBE.astype(np.complex64)), ("complex64 voxels",)),
    "colour voxels": (
        "a.nii",
        lambda e: e(np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        ("colour voxels", "one integer or real number"),
    ),
    "unknown type": ("a.nii", lambda e: e(CUBE, datatype=999), ("data type 999",)),
    "voxels before the header ends": ("a.nii", lambda e: e(CUBE, vox_offset=8), ("begin at byte 8",)),
    "voxels past the moon": ("a.nii", lambda e: e(CUBE, vox_offset=1e30), ("begin at byte 1e+30",)),
    "scaling without sense": ("a.nii", lambda e: e(CUBE, scl_slope=2, scl_inter=np.inf), ("invalid intercept inf",)),
}

OTHERS: dict[str, tuple[str, Callable[[], bytes], tuple[str, ...]]] = {
    "npy": ("a.npy", lambda: npy(np.ones(3)), ("a NumPy array", "a plain .npy says nothing of its trials", ".mat")),
    "npy of objects": ("a.npy", lambda: npy(np.array([{}], object)), ("a NumPy array", "run code")),
    "npz": ("a.npz", lambda: b"PK\3\4" + bytes(60), ("a ZIP archive", "run code")),
    "pickle": ("a.pkl", lambda: pickle.dumps([1]), ("a Python pickle", "safetensors")),
    "torch weights": ("a.pt", lambda: b"PK\3\4" + bytes(60), ("a.pt", "safetensors")),
    **{
        f"pickle of protocol {protocol} called NIfTI": (
            "a.nii",
            lambda protocol=protocol: pickle.dumps({"a": [1, 2]}, protocol),
            ("a.nii, a Python pickle", "run code"),
        )
        for protocol in range(6)
    },
    "pickle that calls": ("a.tsv", lambda: b"cos\nsystem\n(S'true'\ntR.", ("a Python pickle",)),
    "npy called MATLAB": ("a.mat", lambda: npy(np.ones(3)), ("a NumPy array",)),
    "unknown suffix": (
        "a.xyz",
        lambda: b"\0\1\2",
        ("a file of no known kind", ".nii, .nii.gz, .mat, .tsv, .json, .png"),
    ),
    "no suffix": ("a", lambda: b"hello", ("plain text", "renaming is not enough")),
    "DICOM": ("a.dcm", lambda: bytes(128) + b"DICM", ("a DICOM file", "dcm2niix")),
    "MATLAB 7.3": ("a.mat", lambda: b"MATLAB 7.3 MAT-file, Platform".ljust(512), ("MATLAB 7.3", "-v7")),
    "text called MATLAB": ("a.mat", lambda: b"hello", ("plain text under the name a.mat", "savemat")),
    "MATLAB cut off": ("a.mat", lambda: mat_of()[:400], ("cut off or damaged",)),
    "MATLAB packed and damaged": ("a.mat", lambda: damaged_mat(), ("cut off or damaged",)),
    "MATLAB of claims": ("a.mat", lambda: boasting_mat(), ("claims", "file of its size")),
    "MATLAB without betas": ("a.mat", lambda: mat(x=np.ones(3)), ("without betas", "fmriTrn and stimTrn")),
    "MATLAB without pictures": ("a.mat", lambda: mat_of(stimTrn=None), ("6 rows of fmriTrn", "one row a trial")),
    "MATLAB of fewer pictures": ("a.mat", lambda: mat_of(stimTrn=np.zeros((5, 9))), ("5 rows of stimTrn",)),
    "MATLAB of fewer labels": ("a.mat", lambda: mat_of(labelTrn=np.ones((7, 1))), ("7 rows of labelTrn",)),
    "MATLAB of long pictures": (
        "a.mat",
        lambda: mat_of(stimTrn=np.zeros((6, 10))),
        ("of 10 pixels", "square"),
    ),
    "MATLAB of bright pictures": ("a.mat", lambda: mat_of(stimTrn=np.full((6, 9), 7.0)), ("from 7.0 to 7.0", "0 to 1")),
    "MATLAB of NaN": ("a.mat", lambda: mat_of(fmriTrn=np.full((6, 4), np.nan)), ("24 betas that are NaN",)),
    "MATLAB of a struct": ("a.mat", lambda: mat_of(fmriTrn={"x": 1}), ("fmriTrn is a struct", "plain matrices")),
    "MATLAB of cells": ("a.mat", lambda: mat_of(stimTrn=np.array([[1, "a"]], object)), ("stimTrn is a cell",)),
    "MATLAB of other voxels": (
        "a.mat",
        lambda: mat_of(fmriTest=np.ones((2, 3)), stimTest=np.zeros((2, 9))),
        ("4 and 3 columns in fmriTrn and fmriTest",),
    ),
    "events without stimuli": ("a.tsv", lambda: b"onset\tduration\n1\t2\n", ("columns onset, duration", "stim_file")),
    "events with a gap": ("a.tsv", lambda: b"onset\tstim_file\n1\ta.png\n2\tn/a\n", ("1 rows without a stimulus",)),
    "events ragged": ("a.tsv", lambda: b"onset\tstim_file\n1\n", ("1 cells in row 2 and 2",)),
    "events empty": ("a.tsv", lambda: b"onset\tstim_file\n", ("no row below it",)),
    "events of blanks": ("a.tsv", lambda: b"\n\n", ("without a row",)),
    "events of two names": ("a.tsv", lambda: b"stimulus\tstimulus\na\tb\n", ("none twice",)),
    "events in Latin-1": ("a.tsv", lambda: "stimulus\nMün\n".encode("latin-1"), ("can't be read as a table", "UTF-8")),
    "events of one name in two folders": ("a.tsv", lambda: b"stim_file\nx/a.png\ny/a.png\n", ("2 files but 1 names",)),
    "text called picture": ("a.png", lambda: b"hello", ("plain text under the name a.png", "PNG, JPEG or TIFF")),
    "PNG called JPEG": ("a.jpg", png, ("a PNG picture under the name a.jpg", ".png")),
    "PNG cut off": ("a.png", lambda: png((300, 300), "RGB")[:200], ("can't be decoded", "Copy it again")),
    "PNG bomb": ("a.png", lambda: huge_png(), ("900000000 pixels", "at most 64 million", "Scale it down")),
    "PNG with a hole": ("a.png", lambda: png(mode="RGBA"), ("transparent pixels", "Flatten")),
    "path trick": ("../a.nii", lambda: b"x", ("leads to another folder",)),
}


def npy(array: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def damaged_mat() -> bytes:
    file = BytesIO()
    scipy.io.savemat(file, {"fmriTrn": np.arange(600.0).reshape(6, 100)}, do_compression=True)
    payload = bytearray(file.getvalue())
    payload[200:240] = bytes(40)
    return bytes(payload)


def boasting_mat() -> bytes:
    payload = mat(fmriTrn=np.ones((6, 4)), stimTrn=np.zeros((6, 9)))
    place = payload.index(np.array([6, 4], "<i4").tobytes())
    return payload[:place] + np.array([20_000, 20_000], "<i4").tobytes() + payload[place + 8 :]


def huge_png() -> bytes:
    """A PNG of 900 million pixels in its header and a few in its stream."""
    payload = bytearray(png())
    payload[16:24] = (30_000).to_bytes(4, "big") * 2
    payload[29:33] = zlib.crc32(payload[12:29]).to_bytes(4, "big")
    return bytes(payload)


def refusal(path: Path, name: str) -> BadInput:
    before = sorted(path.parent.iterdir())
    with pytest.raises(BadInput) as caught:
        inspect(path, name)
    assert sorted(path.parent.iterdir()) == before, "a refused file leaves nothing beside it"
    error = caught.value
    assert error.found
    assert error.expected
    assert error.remedy.endswith(".")
    return error


@pytest.mark.parametrize("what", NIFTI)
def test_bad_image_is_refused_in_words(what, tmp_path, nifti_bytes):
    name, make, words = NIFTI[what]
    (tmp_path / "blob").write_bytes(make(nifti_bytes))
    text = str(refusal(tmp_path / "blob", name))
    for word in words:
        assert word in text
    assert "blob" not in text, "a person knows the name they gave, not the one on disk"


@pytest.mark.parametrize("what", OTHERS)
def test_bad_file_is_refused_in_words(what, tmp_path):
    name, make, words = OTHERS[what]
    (tmp_path / "blob").write_bytes(make())
    text = str(refusal(tmp_path / "blob", name))
    for word in words:
        assert word in text


@pytest.mark.parametrize("what", OTHERS)
def test_nothing_is_unpickled(what, tmp_path, monkeypatch):
    name, make, _ = OTHERS[what]
    (tmp_path / "blob").write_bytes(make())

    def forbidden(*_, **__):
        raise AssertionError("unpickled")

    for opener in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, opener, forbidden)
    refusal(tmp_path / "blob", name)


_IN_LITTLE_MEMORY = """
import json, resource, sys
from pathlib import Path
from voxelight.models.errors import BadInput
from voxelight.storage.formats.intake import inspect
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]),) * 2)
said = []
for upload in sys.argv[2:]:
    try:
        inspect(Path(upload), Path(upload).name)
    except BadInput as error:
        said.append(error.found)
print(json.dumps(said))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited and measured the Linux way")
def test_bombs_and_boasts_are_refused_within_64_mib(tmp_path, nifti_bytes):
    uploads = []
    for number, what in enumerate(
        ["claims terabytes", "claims terabytes packed", "bomb behind a small header", "bomb with a fitting header"]
    ):
        name, make, _ = NIFTI[what]
        uploads.append(tmp_path / f"{number}{name}")
        uploads[-1].write_bytes(make(nifti_bytes))
    for what in ("MATLAB of claims", "PNG bomb"):
        name, make, _ = OTHERS[what]
        uploads.append(tmp_path / f"other{name}")
        uploads[-1].write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", _IN_LITTLE_MEMORY, str(64 * MIB), *map(str, uploads)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == len(uploads)
