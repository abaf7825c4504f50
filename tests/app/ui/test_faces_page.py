"""The part of the page Viewer that takes a face out: the picture first, then a decision with a name."""

import io
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.schemas import DatasetRequest, ScanRequest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "medseg"))
from heads import simulate_head, tilt


@pytest.fixture
def head(services):
    """A simulated head of 4 mm, stored with its face."""
    volume, _ = simulate_head(tilt(5, (4.0, 0.0, 5.0), 1.0), 4.0)
    image = nib.Nifti1Image(np.rint(volume.array[0]).astype(np.int16), volume.geometry.affine)
    services.datasets.create(DatasetRequest(name="heads", simulated=True))
    return services.scans.ingest(io.BytesIO(image.to_bytes()), ScanRequest(name="t1.nii", dataset="heads"))


def one(elements, label):
    return next(element for element in elements if element.label == label)


def test_a_face_is_shown_before_and_after_and_goes_once_a_person_says_so(visit, services, head):
    app = one(visit("viewer").button, "Show before and after").click().run(timeout=120)
    assert not app.exception
    assert not app.error
    assert len(app.get("image")) == 1
    assert services.scans.show(head.id).deid_status != "defaced"
    app = one(app.button, "Take it out for good").click().run(timeout=120)
    assert app.error, "nobody signed"
    one(app.text_input, "Your name").set_value("Ada")
    one(app.text_input, "Why").set_value("to be shared")
    app = one(app.button, "Take it out for good").click().run(timeout=120)
    assert not app.exception
    after = services.scans.show(head.id)
    assert (after.deid_status, after.facts["face_asked_by"]) == ("defaced", "Ada")
    assert after.sha256 != head.sha256
    assert any("Its face was taken out" in each.value for each in app.caption)
    assert not [button for button in app.button if button.label == "Show before and after"]


def test_what_is_no_head_says_so_and_stays(visit, services):
    services.datasets.create(DatasetRequest(name="blobs", simulated=True))
    noise = np.random.default_rng(0).normal(100, 10, (20, 20, 20)).astype(np.float32)
    content = io.BytesIO(nib.Nifti1Image(noise, np.eye(4)).to_bytes())
    scan = services.scans.ingest(content, ScanRequest(name="noise.nii", dataset="blobs"))
    app = one(visit("viewer").button, "Show before and after").click().run(timeout=120)
    assert not app.exception
    assert app.error
    assert services.scans.show(scan.id).sha256 == scan.sha256
