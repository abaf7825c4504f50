"""Any T1-weighted head, contrasts of a visit and surfaces, from the shell."""

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from voxelight.storage.formats.template import find_template


def tilt(degrees, shift):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    affine[:3, 3] = shift
    return affine


@pytest.fixture(scope="module")
def head():
    """The template of nilearn, in another orientation and position, as 16 bits."""
    image = nib.load(find_template())
    array = image.get_fdata().astype(np.int16)
    turned = nib.Nifti1Image(array, tilt((14, -9, 11), (20, 5, -12)) @ image.affine)
    order = nib.orientations.axcodes2ornt("PIL")
    return turned.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(turned.affine), order))


def test_a_tilted_head_is_segmented_on_its_own_grid_with_surfaces(ask, tmp_path, head):
    nib.save(head, tmp_path / "head.nii.gz")
    out = tmp_path / "out"
    options = ("--recipe", "hippocampus-t1", "--out", out, "--format", "surfaces", "--format", "colours")
    answer = ask("segment", tmp_path / "head.nii.gz", *options)
    [result] = answer["results"]
    volumes = result["volumes_ml"]
    for part, usual in (("anterior", 2.49), ("posterior", 2.13)):  # of the same head where it needs no alignment
        for side in ("left", "right"):
            assert volumes[f"{side} {part}"] == pytest.approx(usual, rel=0.06)
    aligned = result["provenance"]["options"]["aligned"]
    assert np.allclose(np.array(aligned["to_mni152"]) @ tilt((14, -9, 11), (20, 5, -12)), np.eye(4), atol=0.3)
    labels = nib.load(out / "head_dseg.nii.gz")
    assert nib.aff2axcodes(labels.affine) == nib.aff2axcodes(head.affine)
    assert labels.shape == head.shape
    assert np.allclose(labels.affine, head.affine, atol=1e-4)
    left = np.argwhere(np.asarray(labels.dataobj) == 1).mean(axis=0)
    right = np.argwhere(np.asarray(labels.dataobj) == 3).mean(axis=0)
    assert (labels.affine[0] @ [*left, 1]) < (labels.affine[0] @ [*right, 1])
    assert len(list(out.rglob("*.stl"))) == 4
    assert [path.name for path in out.rglob("*.ctbl")] == ["hippocampus-t1.ctbl"]


def test_contrasts_of_a_visit_come_onto_one_grid(ask, tmp_path):
    image = nib.load(find_template())
    array = image.get_fdata()[::3, ::3, ::3].astype(np.float32)
    affine = image.affine @ np.diag([3, 3, 3, 1])
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "t1.nii.gz")
    other = np.where(array > 0, 260 - array, 0).astype(np.float32)
    away = tilt((4, -3, 5), (6, -4, 3))
    nib.save(nib.Nifti1Image(other, away @ affine), tmp_path / "t2.nii.gz")
    answer = ask("align", tmp_path, "--reference", tmp_path / "t1.nii.gz", "--out", tmp_path / "out", "--no-even")
    assert [each["turn_degrees"] for each in answer] == [0.0, pytest.approx(7.1, abs=0.3)]
    moved = nib.load(tmp_path / "out" / "t2_aligned.nii.gz")
    assert np.allclose(moved.affine, affine)
    before, after = (np.corrcoef(array.ravel(), each.ravel())[0, 1] for each in (other, moved.get_fdata()))
    assert after == pytest.approx(before, abs=0.03), "as alike as where both lay in one place"
