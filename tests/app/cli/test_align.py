"""Contrasts of a visit from the shell: brightness evened out, and one bad file keeps none of the others back."""

import json

import nibabel as nib
import numpy as np
import pytest

from voxelight.storage.formats.template import find_template


def test_brightness_is_evened_out_and_a_damaged_contrast_stops_no_other(shell, tmp_path):
    image = nib.load(find_template())
    array = image.get_fdata()[::4, ::4, ::4].astype(np.float32)
    affine = image.affine @ np.diag([4, 4, 4, 1])
    slope = np.exp(np.linspace(-0.5, 0.5, len(array)))[:, None, None].astype(np.float32)
    other = np.where(array > 0, 260 - array, 0).astype(np.float32)
    moved = affine.copy()
    moved[:3, 3] += (6, -4, 3)
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(array * slope, affine), tmp_path / "in/t1.nii.gz")
    nib.save(nib.Nifti1Image(other, moved), tmp_path / "in/t2.nii.gz")
    whole = (tmp_path / "in/t2.nii.gz").read_bytes()
    (tmp_path / "in/broken.nii.gz").write_bytes(whole[: len(whole) // 2])
    words = ("align", tmp_path / "in", "--reference", tmp_path / "in/t1.nii.gz", "--out", tmp_path / "out", "--json")
    told = shell(*words, code=2)
    answer = json.loads(told.stdout)
    assert [each["source"].rsplit("/")[-1] for each in answer] == ["t1.nii.gz", "t2.nii.gz"]
    assert answer[1]["shift_mm"] == pytest.approx(np.linalg.norm((6, -4, 3)), abs=1.0)
    problem = json.loads(told.stderr[told.stderr.index("{") :])
    assert problem["found"].startswith("broken.nii.gz")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"t1_aligned.nii.gz", "t2_aligned.nii.gz"}
    half, white = len(array) // 2, array > np.percentile(array[array > 0], 80)

    def unevenness(values):
        left, right = (np.median(values[part][white[part]]) for part in (slice(None, half), slice(half, None)))
        return abs(np.log(left / right))

    even = nib.load(tmp_path / "out/t1_aligned.nii.gz")
    assert np.allclose(even.affine, affine)
    assert unevenness(even.get_fdata()) < 0.4 * unevenness(array * slope)
