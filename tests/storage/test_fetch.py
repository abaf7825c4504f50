"""Runs in nilearn's layout become betas that can be taken in."""

import nibabel as nib
import numpy as np
import pytest

from voxelight.models.errors import NotFound
from voxelight.storage.fetch import fetch_miyawaki2008, find_betas_files, find_public_data
from voxelight.storage.formats.betas import read_betas_nifti

BLOCKS, LENGTH, REST, LAG = 4, 3, 2, 2


@pytest.fixture
def fetched(tmp_path):
    """Three short runs whose voxels answer to the sum of the picture, two volumes late."""
    rng = np.random.default_rng(0)
    for folder in ("func", "label", "mask"):
        (tmp_path / "runs" / folder).mkdir(parents=True)
    mask = np.zeros((4, 4, 4), dtype=np.uint8)
    mask[1:3, 1:3, 1:3] = 1
    nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "runs/mask/mask.nii.gz")
    pictures = rng.integers(0, 2, (BLOCKS, 16))
    for run, name in enumerate(("figure_run01", "figure_run02", "random_run01")):
        rows = np.full((REST + BLOCKS * (LENGTH + REST), 16), -1)
        for number, picture in enumerate(np.roll(pictures, run, axis=0)):
            start = REST + number * (LENGTH + REST)
            rows[start : start + LENGTH] = picture
        drive = np.where(rows[:, 0] >= 0, rows.sum(1), 0.0)
        late = np.concatenate([np.zeros(LAG), drive[:-LAG]])
        bold = late + rng.normal(scale=0.01, size=(4, 4, 4, len(late)))
        nib.save(nib.Nifti1Image(bold.astype(np.float32), np.eye(4)), tmp_path / f"runs/func/data_{name}.nii.gz")
        np.savetxt(tmp_path / f"runs/label/data_{name}_label.csv", rows, fmt="%d", delimiter=",")
    return tmp_path, pictures


def test_runs_that_are_there_are_not_fetched_again_and_become_betas(fetched):
    folder, pictures = fetched
    files = fetch_miyawaki2008(folder)
    betas = read_betas_nifti(files.betas, files.mask, files.events)
    assert betas.values.shape == (3 * BLOCKS, 8)
    assert len(files.pictures) == len({tuple(picture) for picture in pictures.tolist()})
    assert sorted(set(betas.labels["run"].tolist())) == ["run-01", "run-02", "run-03"]
    assert set(find_betas_files(folder / "betas", "miyawaki2008").paths) == set(files.paths)


def test_what_was_cut_off_does_not_count_as_fetched(fetched):
    folder, _ = fetched
    assert find_betas_files(folder / "betas", "miyawaki2008") is None
    fetch_miyawaki2008(folder).betas.unlink()
    assert find_betas_files(folder / "betas", "miyawaki2008") is None


def test_an_unknown_data_set_is_named():
    with pytest.raises(NotFound, match="miyawaki2008"):
        find_public_data("nsd")
