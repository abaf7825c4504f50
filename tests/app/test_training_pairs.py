"""Stored images of every format find the label maps that were drawn on them, and become cases."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its own name for itself
import tifffile
from PIL import Image

from voxelight.app.pipelines.train_data import find_pairs, read_pairs
from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.models.errors import BadInput
from voxelight.storage.queries import find_dataset

NAMES = {1: "lesion"}
DRAWN = np.random.default_rng(0).integers(0, 2, (9, 8, 7)).astype(np.uint8)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def write(folder, name, array):
    """By nibabel, or converted from what it wrote by SimpleITK."""
    nib.save(nib.Nifti1Image(array, AFFINE), folder / "one.nii")
    if name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(array, AFFINE), folder / name)
    else:
        sitk.WriteImage(sitk.ReadImage(folder / "one.nii"), folder / name)
    return folder / name


def test_image_and_label_map_are_paired_whatever_their_formats(services, tmp_path):
    services.datasets.create(DatasetRequest(name="mixed", simulated=True))
    flat = DRAWN[..., 0]
    tifffile.imwrite(tmp_path / "slide.tif", (flat.T * 200).astype(np.uint8))
    Image.fromarray(flat.T).save(tmp_path / "slide_dseg.png")
    files = {
        "a": (write(tmp_path, "head.nrrd", DRAWN * 7.5), write(tmp_path, "head_dseg.nii.gz", DRAWN)),
        "b": (write(tmp_path, "head.mha", DRAWN * 7.5), write(tmp_path, "head_mask.nrrd", DRAWN)),
        "c": (write(tmp_path, "head.nii", DRAWN * 7.5), write(tmp_path, "head_seg.mha", DRAWN)),
        "d": (tmp_path / "slide.tif", tmp_path / "slide_dseg.png"),
    }
    for subject, paths in files.items():
        for path in paths:
            services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="mixed", subject=subject))
    asked = JobRequest(kind="train-segmenter", recipe="train-planned", dataset="mixed")
    with services.stores.sessions() as session:
        pairs, notes = find_pairs(session, find_dataset(session, "mixed"), asked)
    assert notes == ()
    assert [pair.name for pair in pairs] == ["a/01/head", "b/01/head", "c/01/head", "d/01/slide"]
    *volumes, picture = read_pairs(services.stores, pairs, NAMES, {})
    for case in volumes:
        np.testing.assert_array_equal(case.labels.array, DRAWN[::-1, ::-1])
        np.testing.assert_array_equal(case.volume.array[0], case.labels.array * np.float32(7.5))
        assert case.labels.geometry.spacing == pytest.approx((1, 1, 2))
    np.testing.assert_array_equal(picture.labels.array[..., 0], flat)
    with pytest.raises(BadInput, match=r"4 of 4 cases .*a/01/head: head_dseg.nii.gz with label 1.*d/01/slide"):
        read_pairs(services.stores, pairs, {2: "edema"}, {})
