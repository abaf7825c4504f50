"""Real crops, the MNI template and loaded recipes, read once."""

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import load_mni152_template

from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.segment import load_segmenter
from voxelight.models.values import Geometry, Volume
from voxelight.storage.formats.cases import read_cases


@pytest.fixture(scope="session")
def few_cases(shared_data, tmp_path_factory):
    """Every fiftieth case of the hippocampus set."""
    source, folder = shared_data / "msd_task04_hippocampus", tmp_path_factory.mktemp("cases")
    for part in ("images", "labels"):
        (folder / part).mkdir()
        for path in sorted((source / part).glob("*.nii.gz"))[::50]:
            (folder / part / path.name).symlink_to(path)
    return read_cases(folder, find_recipe("hippocampus-agunet").labels)


@pytest.fixture(scope="session")
def template():
    """The T1 template that nilearn ships, 1 mm."""
    image = load_mni152_template(resolution=1)
    array = image.get_fdata(dtype=np.float32)
    return Volume(array[np.newaxis], Geometry(array.shape, image.affine))


@pytest.fixture(scope="session")
def for_crops():
    return load_segmenter(find_recipe("hippocampus-agunet"), "cpu")


@pytest.fixture(scope="session")
def for_heads():
    return load_segmenter(find_recipe("hippocampus-mni"), "cpu")


@pytest.fixture(scope="session")
def as_volume():
    """Turn an array with any affine into a RAS+ volume, by nibabel."""

    def turn(array, affine):
        image = nib.as_closest_canonical(nib.Nifti1Image(array, affine))
        turned = image.get_fdata(dtype=np.float32)
        return Volume(turned[np.newaxis], Geometry(turned.shape, image.affine))

    return turn
