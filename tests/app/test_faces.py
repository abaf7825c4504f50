"""Faces go where a data set or a person asks for it, on every way in; what can't be done is held, and says so."""

import io
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydantic import ValidationError

from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.app.schemas_privacy import Decision
from voxelight.models.errors import Conflict, Refused

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "medseg"))
from heads import NOSE, simulate_head, tilt

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
WHO = Decision(author="Ada", reason="to be shared")


@pytest.fixture(scope="module")
def head():
    """A simulated head of 3 mm as NIfTI, its brain, and where its nose is."""
    turned = tilt(5, (4.0, 0.0, 5.0), 1.0)
    volume, brain = simulate_head(turned, 3.0)
    image = nib.Nifti1Image(np.rint(volume.array[0]).astype(np.int16), volume.geometry.affine)
    nose = np.linalg.inv(volume.geometry.affine) @ turned @ np.append(NOSE - [0, 6, 0], 1.0)
    return image.to_bytes(), brain, tuple(np.rint(nose[:3]).astype(int))


def voxels(services, scan):
    content = services.stores.blobs.read(scan.sha256)
    return np.asarray(nib.Nifti1Image.from_bytes(content).dataobj)


def test_a_head_is_stored_without_its_face_and_one_that_keeps_it_is_held(services, head, make_series, tmp_path):
    content, brain, nose = head
    services.datasets.create(DatasetRequest(name="shared", removes_faces=True))
    scan = services.scans.ingest(io.BytesIO(content), ScanRequest(name="t1.nii", dataset="shared"))
    assert (scan.deid_status, scan.held) == ("defaced", "")
    assert scan.facts["face_ml"] > 100
    before, after = np.asarray(nib.Nifti1Image.from_bytes(content).dataobj), voxels(services, scan)
    assert before[nose] > 50 > after[nose]
    np.testing.assert_array_equal(after[brain], before[brain])
    stored = [path.read_bytes() for path in services.settings.home.rglob("*") if path.is_file()]
    assert not [each for each in stored if content[352:] in each], "nothing with a face is kept"

    labels = nib.Nifti1Image(brain.astype(np.uint8), np.eye(4)).to_bytes()
    drawn = services.scans.ingest(io.BytesIO(labels), ScanRequest(name="t1_dseg.nii", dataset="shared"))
    assert drawn.deid_status == "clean"
    for number, slice_ in enumerate(make_series()):
        (tmp_path / f"{number}.dcm").write_bytes(slice_)
    [series], refused = services.scans.ingest_series([tmp_path], ScanRequest(name="x", dataset="shared"))
    assert not refused
    assert series.deid_status == "deface-failed"
    assert "could not be taken out" in series.held
    with pytest.raises(Refused):
        services.jobs.submit(
            JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="shared", scans=[series.id])
        )
    released = services.privacy.release(series.id, WHO)
    assert (released.deid_status, released.held) == ("deface-failed", ""), "which goes on being said"


def test_the_face_of_a_stored_scan_goes_when_a_person_asks(services, head):
    content, _, nose = head
    services.datasets.create(DatasetRequest(name="old"))
    scan = services.scans.ingest(io.BytesIO(content), ScanRequest(name="t1.nii", dataset="old"))
    assert voxels(services, scan)[nose] > 50
    assert services.privacy.preview_face(scan.id)[1:4] == b"PNG"
    assert services.scans.show(scan.id) == scan, "a look changes nothing"
    done = services.privacy.deface(scan.id, WHO)
    assert (done.id, done.deid_status) == (scan.id, "defaced")
    assert done.facts["face_asked_by"] == "Ada"
    assert voxels(services, done)[nose] < 50
    assert not services.stores.blobs.exists(scan.sha256)
    assert not services.stores.blobs.exists(scan.thumbnail_sha256)
    assert done.thumbnail_sha256 != scan.thumbnail_sha256
    with pytest.raises(Conflict, match="before"):
        services.privacy.deface(scan.id, WHO)


def test_what_can_not_be_done_is_said(services, crops):
    services.datasets.create(DatasetRequest(name="old"))
    scan = services.scans.ingest_path(crops[0], ScanRequest(name="crop.nii.gz", dataset="old"))
    done = services.privacy.deface(scan.id, WHO)
    assert (done.deid_status, done.sha256) == ("deface-failed", scan.sha256)
    assert done.held
    services.datasets.create(DatasetRequest(name="clinic", keeps_headers=True))
    kept = services.scans.ingest_path(crops[0], ScanRequest(name="crop.nii.gz", dataset="clinic"))
    with pytest.raises(Refused, match="clinical"):
        services.privacy.deface(kept.id, WHO)
    with pytest.raises(ValidationError, match="clinical"):
        DatasetRequest(name="both", keeps_headers=True, removes_faces=True)
