"""A folder of images and labels becomes cases, or says what is missing."""

import nibabel as nib
import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.storage.formats.cases import read_cases

NAMES = {1: "anterior", 2: "posterior"}


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("b", "a")):
        labels = np.random.default_rng(number).integers(0, 3, (5, 6, 7)).astype(np.uint8)
        for place, array in (("images", labels.astype(np.float32) * 10), ("labels", labels)):
            (tmp_path / place).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([-1, 1, 1, 1])), tmp_path / place / f"{name}.nii.gz")
    (tmp_path / "images/notes.txt").write_text("not an image")
    return tmp_path


def test_cases_come_in_order_with_image_and_labels_on_one_grid(folder):
    cases = read_cases(folder, NAMES)
    assert [case.name for case in cases] == ["a", "b"]
    for case in cases:
        np.testing.assert_array_equal(case.volume.array[0], case.labels.array * np.float32(10))
        stored = np.asarray(nib.load(folder / f"labels/{case.name}.nii.gz").dataobj)
        np.testing.assert_array_equal(case.labels.array, stored[::-1])  # stored left to right, read as RAS+


def test_every_real_case_is_read(shared_data):
    folder = shared_data / "msd_task04_hippocampus"
    cases = read_cases(folder, NAMES)
    assert len(cases) == len(list((folder / "images").glob("*.nii.gz")))
    assert all(set(np.unique(case.labels.array)) == {0, 1, 2} for case in cases)


@pytest.mark.parametrize("place", ["images", "labels"])
def test_a_case_that_is_not_whole_is_named(folder, place):
    (folder / place / "a.nii.gz").unlink()
    with pytest.raises(BadInput, match="1 cases with an image or with labels only: a"):
        read_cases(folder, NAMES)


def test_no_case_one_name_twice_and_another_grid_are_refused(folder, tmp_path):
    with pytest.raises(BadInput, match="no image in"):
        read_cases(tmp_path / "absent", NAMES)
    labels = nib.load(folder / "labels/a.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(labels.dataobj), np.eye(4)), folder / "labels/a.nii.gz")
    with pytest.raises(BadInput, match="grid"):
        read_cases(folder, NAMES)
    nib.save(labels, folder / "labels/a.nii")
    with pytest.raises(BadInput, match="one name with several suffixes"):
        read_cases(folder, NAMES)
