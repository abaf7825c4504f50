"""Betas that are written come back as they were, on the road that a person's files take."""

import nibabel as nib
import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas, Stimuli
from voxelight.storage.formats.betas import read_betas_nifti
from voxelight.storage.formats.export import write_betas
from voxelight.storage.formats.images import read_stimuli
from voxelight.storage.formats.intake import inspect


def make(voxels: int = 61, names: tuple[str, ...] = ("a", "b-2", "c_3")) -> tuple[Betas, Stimuli]:
    rng = np.random.default_rng(voxels)
    shown = np.array([*names, *reversed(names)])
    labels = {
        "session": np.array(["1"] * len(names) + ["2"] * len(names)),
        "category": np.array(["x"] * len(shown)),
        "group": np.char.add("g", shown),
    }
    values = rng.normal(size=(len(shown), voxels)).astype(np.float32)
    pictures = rng.integers(0, 256, (len(names), 5, 7, 3)).astype(np.float32) / 255
    return Betas(values, shown, "01", "V1", labels, simulated=True), Stimuli(pictures, np.array(names))


@pytest.mark.parametrize("voxels", [1, 8, 27, 61, 1200])
def test_betas_labels_and_pictures_come_back(tmp_path, voxels):
    betas, stimuli = make(voxels)
    files = write_betas(tmp_path / "new", "sub-01", betas, stimuli)
    found = read_betas_nifti(files.betas, files.mask, files.events)
    np.testing.assert_array_equal(found.values, betas.values)
    np.testing.assert_array_equal(found.stimulus_ids, betas.stimulus_ids)
    assert found.labels.keys() == betas.labels.keys()
    for unit, column in betas.labels.items():
        np.testing.assert_array_equal(found.labels[unit], column)
    pictures = read_stimuli(files.pictures).select(stimuli.ids)
    np.testing.assert_allclose(pictures.images, stimuli.images, atol=1e-6)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {path.name for path in files.paths}


def test_other_readers_agree_on_the_voxels(tmp_path):
    betas, stimuli = make()
    files = write_betas(tmp_path, "s", betas, stimuli)
    inside = np.asarray(nib.load(files.mask).dataobj) > 0
    np.testing.assert_array_equal(np.asarray(nib.load(files.betas).dataobj)[inside].T, betas.values)


def test_the_same_betas_give_the_same_bytes(tmp_path):
    once = write_betas(tmp_path / "1", "s", *make())
    again = write_betas(tmp_path / "2", "s", *make())
    assert [path.read_bytes() for path in once.paths] == [path.read_bytes() for path in again.paths]


def test_every_file_passes_the_intake(tmp_path):
    files = write_betas(tmp_path, "s", *make())
    kinds = {path.name: inspect(path, path.name).kind for path in files.paths}
    assert kinds.pop("s_betas.nii.gz") == "series"
    assert kinds.pop("s_mask.nii.gz") == "volume"
    assert kinds.pop("s_events.tsv") == "events"
    assert set(kinds.values()) == {"picture"}


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "con"])
def test_a_stimulus_that_would_leave_the_folder_is_refused(tmp_path, name):
    with pytest.raises(BadInput):
        write_betas(tmp_path / "new", "s", *make(names=("a", name)))
    assert not (tmp_path / "new").exists()


def test_a_stimulus_without_a_picture_is_refused(tmp_path):
    betas, stimuli = make()
    with pytest.raises(BadInput, match="without a picture"):
        write_betas(tmp_path, "s", betas, Stimuli(stimuli.images[:2], stimuli.ids[:2]))
