"""The evaluation of a job that segmented, on the page of its results."""

import json
import re

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.actions import run_action
from voxelight.app.schemas import DatasetRequest, ScanRequest
from voxelight.storage.schema import Run


@pytest.fixture
def job(services, store_label_map, tmp_path):
    """A job with one label map, and its reference."""
    services.datasets.create(DatasetRequest(name="mri", simulated=True))
    labels = np.zeros((8, 7, 6), np.uint8)
    labels[2:6, 2:5, 2:5] = 1
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=labels.shape), np.eye(4)), tmp_path / "brain.nii.gz")
    run = store_label_map(services, tmp_path / "brain.nii.gz", labels, {1: "lesion"}, "mri")
    (tmp_path / "drawn").mkdir()
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "drawn/brain_dseg.nii.gz")
    services.scans.ingest_path(
        tmp_path / "drawn/brain_dseg.nii.gz", ScanRequest(name="brain_dseg.nii.gz", dataset="mri")
    )
    return services.results.show(run).job


def press(app):
    [button] = [button for button in app.button if button.label == "Evaluate"]
    return button.click().run()


def test_label_maps_are_scored_against_uploaded_references(visit, services, job):
    app = press(visit("results", job=str(job)))
    assert not app.exception
    action = services.actions.show(job, "evaluate-maps")
    assert action.options["references"] == "stored"
    run_action(services, action.id)
    app = visit("results", job=str(job))
    assert not app.exception
    [table] = [one.value for one in app.table if "NSD" in one.value.columns]
    assert re.fullmatch(r"1\.000 \[1\.000, 1\.000\]", table.set_index("Label")["Dice"]["lesion"])


def test_a_case_that_can_not_be_scored_is_named_with_its_reason(visit, services, store_label_map, job, tmp_path):
    """A second case of the job, whose reference is a slice too short."""
    (tmp_path / "other").mkdir()
    labels = np.ones((8, 7, 6), np.uint8)
    nib.save(nib.Nifti1Image(labels.astype(np.float32), np.eye(4)), tmp_path / "other/head.nii.gz")
    run = store_label_map(services, tmp_path / "other/head.nii.gz", labels, {1: "lesion"}, "mri")
    with services.stores.sessions.begin() as session:
        row = session.get_one(Run, run)
        row.job_id, row.position = job, 1
    nib.save(nib.Nifti1Image(labels[..., 1:], np.eye(4)), tmp_path / "other/head_dseg.nii.gz")
    place = ScanRequest(name="head_dseg.nii.gz", dataset="mri")
    services.scans.ingest_path(tmp_path / "other/head_dseg.nii.gz", place)
    press(visit("results", job=str(job)))
    run_action(services, services.actions.show(job, "evaluate-maps").id)
    app = visit("results", job=str(job))
    assert not app.exception
    assert any("could not be scored: 1" in warning.value for warning in app.warning)
    told = " ".join(str(block.value) for block in app.markdown)
    assert "head" in told
    assert "one grid" in told
    [table] = [one.value for one in app.table if "NSD" in one.value.columns]
    assert table.set_index("Label")["Dice"]["lesion"].startswith("1.000")


def test_a_data_set_that_is_not_there_is_said_below_the_form(visit, services, job):
    app = visit("results", job=str(job))
    [field] = [field for field in app.text_input if field.label == "Data set of the references"]
    field.set_value("nowhere")
    app = press(app)
    assert "nowhere" in json.dumps([block.value for block in [*app.error, *app.markdown]])
