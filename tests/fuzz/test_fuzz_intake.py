"""Changed and contrived files at the doors of the intake: accepted or refused in words, and nothing else.

The long form: python tests/fuzz/run_long.py --inputs 100000
"""

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sqlalchemy import select

from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import DatasetRequest
from voxelight.app.schemas_uploads import Place
from voxelight.app.settings import Settings
from voxelight.app.verbs.drops import Dropped
from voxelight.models.errors import BadInput
from voxelight.storage.formats.fmri.layouts import open_recording
from voxelight.storage.formats.intake import inspect
from voxelight.storage.schema import Blob, Scan

HERE = Path(__file__).parent


def test_changed_files_crash_and_surprise_nothing(tmp_path):
    out = tmp_path / "counts.json"
    command = [sys.executable, str(HERE / "run_long.py"), "--inputs", "1400", "--seed", "21", "--at-once", "2"]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, env={**os.environ})
    told = json.loads(out.read_text())
    assert not told["written_elsewhere"]
    assert told["inputs"] == 1400
    for kind, counts in told["formats"].items():
        assert not counts["unforeseen"], kind
        assert not counts["ended"], kind
        assert counts["outcomes"]["accepted"] > 0, kind  # else the seeds are no sound files any more
        assert counts["largest_mb"] < 600, kind
    assert done.returncode == 0


def image(**fields):
    found = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    content = bytearray(found.to_bytes())
    for offset, (form, *values) in fields.values():
        struct.pack_into(form, content, offset, *values)
    return bytes(content)


def looped_tiff():
    file = io.BytesIO()
    Image.new("L", (6, 5), 3).save(file, "TIFF")
    content = bytearray(file.getvalue())
    first = struct.unpack_from("<I", content, 4)[0]
    struct.pack_into("<I", content, first + 2 + 12 * struct.unpack_from("<H", content, first)[0], first)
    return bytes(content)


def stripless_tiff():
    """A compressed TIFF whose strips have no rows."""
    file = io.BytesIO()
    Image.new("L", (6, 5), 3).save(file, "TIFF", compression="tiff_adobe_deflate")
    content = bytearray(file.getvalue())
    first = struct.unpack_from("<I", content, 4)[0]
    for place in range(struct.unpack_from("<H", content, first)[0]):
        entry = first + 2 + 12 * place
        if struct.unpack_from("<H", content, entry)[0] == 278:  # RowsPerStrip
            struct.pack_into("<I", content, entry + 8, 0)
    return bytes(content)


def metaimage(axes):
    fields = f"NDims = {axes}\nDimSize = 6 5 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    return f"ObjectType = Image\n{fields}".encode() + bytes(240)


def jpeg_with_junk():
    file = io.BytesIO()
    Image.new("RGB", (6, 5), 3).save(file, "JPEG")
    return file.getvalue()[:2] + b"junk" + file.getvalue()[2:]


# What fuzzing brought up, as small as it got.
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("unit.nii", image(unit=(123, ("<B", 7)))),
        ("flat.nii", image(forms=(252, ("<2h", 0, 2)), rows=(280, ("<12f", 1, 1.7e38, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)))),
        ("loop.tif", looped_tiff()),
        ("stripless.tif", stripless_tiff()),
        ("axes.mha", metaimage(axes="9" * 100)),
        ("axes_twice.mha", metaimage(axes="3\nNDims = 99999")),
        ("short.mat", b"MATLAB 5.0 MAT-file"),
        ("deep_bold.json", b'{"RepetitionTime": 2, "a": ' + b"[" * 90_000 + b"]" * 90_000 + b"}"),
        ("digits_bold.json", b'{"RepetitionTime": ' + b"9" * 5000 + b"}"),
        ("list_bold.json", b'{"RepetitionTime": [2]}'),
        ("nan_bold.json", b'{"RepetitionTime": NaN}'),
    ],
)
def test_what_surprised_a_reader_once_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput):
        inspect(path, name)


def test_a_jpeg_that_the_cleaner_cannot_take_apart_is_not_stored_without_its_picture(tmp_path):
    from voxelight.storage.formats.clean_files import clean_jpeg

    (tmp_path / "a.jpg").write_bytes(jpeg_with_junk())
    with pytest.raises(BadInput, match="segments"):
        clean_jpeg(tmp_path / "a.jpg", tmp_path / "cleaned", "a.jpg")
    assert not (tmp_path / "cleaned").exists()


@pytest.mark.parametrize("change", ["external", "loop", "virtual"])
def test_links_of_hdf5_lead_nowhere(tmp_path, change):
    import h5py

    path = tmp_path / "betas.h5"
    with h5py.File(path, "w") as out:
        if change == "virtual":
            layout = h5py.VirtualLayout((4, 1 << 36), "f4")
            layout[:, :4] = h5py.VirtualSource("/etc/hostname", "x", (4, 4))
            out.create_virtual_dataset("betas", layout)
        else:
            out["betas"] = h5py.SoftLink("/betas") if change == "loop" else h5py.ExternalLink("/etc/hostname", "/")
        out["stimulus"] = ["a", "b", "a", "b"]
    with pytest.raises(BadInput):
        open_recording(path, "hdf5").read(None, None)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SIDECARS = st.dictionaries(st.sampled_from(["RepetitionTime", "SliceTiming", "TaskName", "StartTime", "x"]), JSONS)
HEADERS = st.lists(st.tuples(st.integers(0, 347), st.binary(min_size=1, max_size=8)), max_size=6)
NAMES = st.sampled_from(
    ["a.nii", "b/c.nii", "../d.nii", "/e.nii", "f.png", "g.dcm", "h", ".i.nii", "j:k.nii"]
) | st.text(min_size=1, max_size=9)


@st.composite
def files(draw):
    """A name and a content that has the form of what it claims to be, nearly."""
    kind = draw(st.sampled_from(["json", "nifti", "zip"]))
    if kind == "json":
        return "sub-01_bold.json", json.dumps(draw(SIDECARS)).encode()
    content = bytearray(image())
    for offset, put in draw(HEADERS):
        content[offset : offset + len(put)] = put
    if kind == "nifti":
        return ("a.nii.gz", gzip.compress(bytes(content))) if draw(st.booleans()) else ("a.nii", bytes(content))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in draw(st.lists(NAMES, max_size=4, unique=True)):
            archive.writestr(name, bytes(content) if draw(st.booleans()) else draw(st.binary(max_size=200)))
    return "a.zip", packed.getvalue()


def test_every_drop_leaves_whole_rows_and_blobs_or_nothing(tmp_path):
    home = tmp_path / "home"
    with closing(open_services(Settings(home=home))) as services:
        services.datasets.create(DatasetRequest(name="odd", consent="public", purpose="test"))
        seen = {"files": 0, "accepted": 0, "refused": 0}

        @settings(
            max_examples=40, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
        )
        @given(files())
        def drop(file):
            name, content = file
            path = tmp_path / "dropped"
            path.write_bytes(content)
            seen["files"] += 1
            found = services.drops.take_in([Dropped(path, name)], Place(dataset="odd", session=str(seen["files"])))
            assert found.scans or found.problems
            assert not [part for part in found.problems if "broke down" in part.problem.found]
            seen["accepted"] += len(found.scans)
            seen["refused"] += len(found.problems)

        drop()
        with services.stores.sessions() as session:
            scans = session.scalars(select(Scan)).all()
            named = {scan.blob_sha256 for scan in scans} | {scan.thumbnail_sha256 for scan in scans} - {None}
            assert len(scans) == seen["accepted"] > 0
            assert seen["refused"] > 0
            assert named == set(session.scalars(select(Blob.sha256)))
            for scan in scans:
                with services.stores.blobs.local_file(scan.blob_sha256, scan.name) as path:
                    assert inspect(path, scan.name).kind == scan.kind
        stored = {path.name for path in (home / "blobs").rglob("*") if path.is_file()} - {"sweep.lock"}
        assert stored == named
        assert not list((home / "spool").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"home", "dropped"}
