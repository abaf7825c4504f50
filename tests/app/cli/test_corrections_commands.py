"""Corrections in the shell."""

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.bootstrap import open_services
from voxelight.app.schemas import DatasetRequest
from voxelight.app.settings import Settings


@pytest.fixture
def segmented(home, tmp_path, store_label_map):
    """Id of a result with a label map of one label, and the voxels of that map."""
    services = open_services(Settings(home=home))
    services.datasets.create(DatasetRequest(name="mri"))
    path = tmp_path / "brain.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32), np.eye(4)), path)
    labels = np.zeros((9, 8, 7), np.uint8)
    labels[2:5, 2:5, 2:5] = 1
    run = store_label_map(services, path, labels, {1: "lesion"}, "mri")
    services.close()
    return run, labels


def test_a_correction_is_added_and_listed(ask, shell, segmented, tmp_path):
    run, labels = segmented
    labels[5, 2:5, 2:5] = 1
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "mine.nii.gz")
    added = ask("corrections", "add", run, tmp_path / "mine.nii.gz", "--author", "Reader A", "--note", "too small")
    assert added["changes"]["lesion"]["added"] == 9
    listed = ask("corrections", "list", run)
    assert [version["author"] for version in listed] == ["", "Reader A"]
    assert listed[1]["artifact"] == added["artifact"]
    assert "Reader A" in shell("corrections", "list", run).stdout
    further = ["--author", "Reader B", "--base", added["artifact"]]
    shell("corrections", "add", run, tmp_path / "mine.nii.gz", *further, code=2)  # equal to its base
    assert ask("results", "show", run)["volumes_ml"] == {"lesion": pytest.approx(0.027)}


def test_what_does_not_fit_is_refused(shell, segmented, tmp_path):
    run, labels = segmented
    nib.save(nib.Nifti1Image(labels[1:], np.eye(4)), tmp_path / "cropped.nii.gz")
    said = shell("corrections", "add", run, tmp_path / "cropped.nii.gz", "--author", "A", code=2).stderr
    assert "Expected" in said
    shell("corrections", "add", run, tmp_path / "nowhere.nii.gz", "--author", "A", code=2)
    shell("corrections", "add", run, tmp_path / "cropped.nii.gz", "--author", " ", code=2)
