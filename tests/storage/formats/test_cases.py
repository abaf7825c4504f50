"""A folder of images and labels becomes cases, or says what is missing."""

import shutil
from itertools import islice

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its own name for itself

from voxelight.models.errors import BadInput
from voxelight.storage.formats.cases import read_cases, walk_cases

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


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_images_and_labels_may_come_in_the_formats_of_itk(suffix, folder):
    expected = read_cases(folder, NAMES)
    for place in ("images", "labels"):
        for path in (folder / place).glob("*.nii.gz"):
            sitk.WriteImage(sitk.ReadImage(path), path.with_name(path.name.replace(".nii.gz", suffix)))
            path.unlink()
    for found, before in zip(read_cases(folder, NAMES), expected, strict=True):
        assert found.name == before.name
        np.testing.assert_array_equal(found.volume.array, before.volume.array)
        np.testing.assert_array_equal(found.labels.array, before.labels.array)
        assert found.labels.geometry.matches(before.labels.geometry)
    labels = sitk.ReadImage(folder / f"labels/a{suffix}")
    sitk.WriteImage(sitk.Cast(labels, sitk.sitkFloat32) * 0.5, folder / f"labels/a{suffix}")
    with pytest.raises(BadInput, match="no label number"):
        read_cases(folder, NAMES)


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


def test_all_bad_cases_are_named_at_once_and_the_sound_ones_are_not(folder):
    for place in ("images", "labels"):
        shutil.copy(folder / place / "a.nii.gz", folder / place / "c.nii.gz")
    whole = (folder / "images/a.nii.gz").read_bytes()
    (folder / "images/a.nii.gz").write_bytes(whole[: len(whole) // 2])
    strange = np.full((5, 6, 7), 9, np.uint8)
    nib.save(nib.Nifti1Image(strange, np.diag([-1, 1, 1, 1])), folder / "labels/c.nii.gz")
    with pytest.raises(BadInput, match=r"2 of 3 cases that can't be used: a: .*cut off.*; c: c\.nii\.gz with label 9;"):
        read_cases(folder, NAMES)
    assert [case.name for _, _, case in islice(walk_cases(folder, NAMES), 1)] == ["b"]


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
