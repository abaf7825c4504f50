"""What a job computes from is read in a sandbox and is what the readers give, to the bit, or refused as by them."""

import nibabel as nib
import numpy as np
import pytest
import scipy.io
from PIL import Image

from voxelight.models.errors import BadInput
from voxelight.storage.checks_data import BetasFiles, read_betas, read_case
from voxelight.storage.formats import cases
from voxelight.storage.formats.betas import read_betas_mat, read_betas_nifti
from voxelight.storage.formats.images import read_stimuli
from voxelight.storage.sandbox import Limits, Sandbox

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def same_betas(found, expected):
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.stimulus_ids, expected.stimulus_ids)
    assert (found.subject, found.roi, set(found.labels)) == (expected.subject, expected.roi, set(expected.labels))
    for name, column in expected.labels.items():
        np.testing.assert_array_equal(found.labels[name], column)


@pytest.fixture
def mat(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 2, (6, 4)).astype(float)
    shown = np.tile(np.arange(6), 2)
    variables = {"fmriTrn": rng.normal(size=(12, 5)), "stimTrn": pictures[shown], "labelTrn": shown[:, None] + 1.0}
    scipy.io.savemat(tmp_path / "betas.mat", variables)
    return tmp_path / "betas.mat"


@pytest.fixture
def images(tmp_path):
    """A 4-D image with its mask, its events and two pictures."""
    rng = np.random.default_rng(1)
    nib.save(nib.Nifti1Image(rng.normal(size=(3, 4, 2, 4)).astype(np.float32), np.eye(4)), tmp_path / "betas.nii.gz")
    mask = (rng.random((3, 4, 2)) > 0.4).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "V1.nii.gz")
    (tmp_path / "events.tsv").write_text(
        "onset\tduration\tstimulus\trun\n0\t1\ta\t1\n4\t1\tb\t1\n8\t1\ta\t2\n12\t1\tb\t2\n"
    )
    for name in "ab":
        Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    return BetasFiles(*(tmp_path / name for name in ("betas.nii.gz", "V1.nii.gz", "events.tsv")),
                      (tmp_path / "a.png", tmp_path / "b.png"))  # fmt: skip


def test_betas_are_those_of_the_readers(services, mat, images):
    checks = services.stores.checks
    betas, stimuli = read_betas(checks, BetasFiles(mat), "s2")
    expected, seen = read_betas_mat(mat, "s2")
    same_betas(betas, expected)
    np.testing.assert_array_equal(stimuli.images, seen.images)
    np.testing.assert_array_equal(stimuli.ids, seen.ids)

    betas, stimuli = read_betas(checks, images, "01")
    same_betas(betas, read_betas_nifti(images.betas, images.mask, images.events, "01"))
    np.testing.assert_array_equal(stimuli.images, read_stimuli(images.pictures).images)
    assert read_betas(checks, BetasFiles(images.betas, images.mask, images.events), "01")[1] is None


def test_a_case_is_that_of_the_reader(services, tmp_path):
    rng, affine = np.random.default_rng(2), np.diag([-2.0, 1.0, 1.5, 1.0])
    paths = tmp_path / "t1.nii.gz", tmp_path / "t1_dseg.nii.gz"
    nib.save(nib.Nifti1Image(rng.normal(size=(4, 5, 6)).astype(np.float32), affine), paths[0])
    nib.save(nib.Nifti1Image(rng.choice([0, 3, 7], (4, 5, 6)).astype(np.uint8), affine), paths[1])
    for names, values in ((None, {}), ({1: "head", 2: "tail"}, {3: 1, 7: 2})):
        found = read_case(services.stores.checks, "one", paths, names, values)
        expected = cases.read_case("one", paths, names, values)
        np.testing.assert_array_equal(found.volume.array, expected.volume.array)
        np.testing.assert_array_equal(found.volume.geometry.affine, expected.volume.geometry.affine)
        np.testing.assert_array_equal(found.labels.array, expected.labels.array)
        assert found.labels.names == expected.labels.names


def test_a_refusal_is_that_of_the_reader(services, mat, images):
    mat.write_bytes(mat.read_bytes()[:300])
    with pytest.raises(BadInput) as inside:
        read_betas(services.stores.checks, BetasFiles(mat), "01")
    with pytest.raises(BadInput) as outside:
        read_betas_mat(mat)
    assert (inside.value.found, inside.value.remedy) == (outside.value.found, outside.value.remedy)
    images.events.write_text("onset\tduration\tstimulus\n0\t1\ta\n")
    with pytest.raises(BadInput):
        read_betas(services.stores.checks, images, "01")


def test_what_takes_more_memory_than_it_may_is_refused(services, mat, tmp_path, monkeypatch):
    scipy.io.savemat(mat, {"fmriTrn": np.zeros((4000, 4000)), "stimTrn": np.zeros((4000, 4))}, do_compression=True)
    checks = services.stores.checks
    monkeypatch.setattr(checks, "sandbox", Sandbox(Limits(memory_bytes=64 << 20), tmp_path))
    with pytest.raises(BadInput):  # 122 MiB in a file of 130 kB; zlib says in its own words that there is no room
        read_betas(checks, BetasFiles(mat), "01")
