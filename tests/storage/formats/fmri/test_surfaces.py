"""Surfaces and maps: read as nibabel reads them, and put back where they came from."""

import nibabel as nib
import numpy as np
import pytest
from nibabel.cifti2 import cifti2_axes

from voxelight.models.errors import BadInput
from voxelight.storage.formats.fmri.examples.example import write_nifti
from voxelight.storage.formats.fmri.layouts import open_recording
from voxelight.storage.formats.fmri.maps_back import write_map
from voxelight.storage.formats.fmri.options import ReadingOptions
from voxelight.storage.formats.fmri.space import read_mask_space
from voxelight.storage.formats.fmri.surfaces import read_cifti_rows, read_gifti_columns, read_mgh_columns, write_surface


def test_nibabel_reads_the_same_mgh_and_gifti(examples, example):
    folder = examples["surface"]
    mgh = nib.load(folder / "lh.sub-01_betas.mgh").get_fdata()
    assert mgh.shape == (30, 1, 1, 72)
    np.testing.assert_allclose(mgh[:, 0, 0].T, example.betas.values[:, :30], atol=0)
    gifti = nib.load(folder / "sub-02_hemi-R_space-fsaverage5_betas.func.gii")
    np.testing.assert_array_equal(np.stack(gifti.agg_data()), example.betas.values[:, 30:])
    recording = open_recording(folder)
    assert recording.find_space("sub-02").name == "fsaverage5"
    assert recording.find_space("sub-01").vertices == (30, 30)


def test_some_trials_of_each_format(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    rows = np.array([4, 0, 4])
    for name, read in (("a.mgh", read_mgh_columns), ("a.mgz", read_mgh_columns), ("a.func.gii", read_gifti_columns)):
        write_surface(tmp_path / name, values)
        np.testing.assert_array_equal(read(tmp_path / name, rows), values[rows])
        with pytest.raises(BadInput, match="5 trials in"):
            read(tmp_path / name, np.array([5]))
    write_surface(tmp_path / "one.mgh", values[0])
    np.testing.assert_array_equal(read_mgh_columns(tmp_path / "one.mgh", np.array([0])), values[:1])


def test_one_gifti_array_of_all_trials(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    array = nib.gifti.GiftiDataArray(np.ascontiguousarray(values.T), datatype="NIFTI_TYPE_FLOAT32")
    nib.save(nib.gifti.GiftiImage(darrays=[array]), tmp_path / "a.func.gii")
    np.testing.assert_array_equal(read_gifti_columns(tmp_path / "a.func.gii", np.array([2])), values[[2]])


def test_cifti_with_voxels_below_the_cortex(tmp_path):
    draw = np.random.default_rng(1)
    left, right = np.arange(12) % 3 != 0, np.arange(12) % 4 != 0  # the medial wall is left out
    below = np.zeros((4, 4, 4), bool)
    below[1, 1:3] = True
    axis = (
        cifti2_axes.BrainModelAxis.from_mask(left, "CortexLeft")
        + cifti2_axes.BrainModelAxis.from_mask(right, "CortexRight")
        + cifti2_axes.BrainModelAxis.from_mask(below, "ThalamusLeft", affine=np.eye(4))
    )
    values = draw.normal(size=(6, len(axis))).astype(np.float32)
    names = cifti2_axes.ScalarAxis([str(trial) for trial in range(6)])
    nib.save(nib.Cifti2Image(values, header=(names, axis)), tmp_path / "sub-9_space-fsLR_betas.dscalar.nii")
    (tmp_path / "sub-9_events.tsv").write_text("stimulus\n" + "".join(f"s{row % 3}\n" for row in range(6)))
    recording = open_recording(tmp_path)
    assert recording.find_space().vertices == (8, 9)
    np.testing.assert_array_equal(recording.read().values, values)
    np.testing.assert_array_equal(recording.read(roi="cortex").values, values[:, :17])
    score = draw.normal(size=17).astype(np.float32)
    like = tmp_path / "sub-9_space-fsLR_betas.dscalar.nii"
    written = write_map(tmp_path / "score.dscalar.nii", score, recording.find_space(roi="cortex"), like)
    back = nib.load(written[0])
    np.testing.assert_array_equal(back.get_fdata()[0], [*score, *np.zeros(8)])
    assert back.header.get_axis(1) == axis
    np.testing.assert_array_equal(read_cifti_rows(written[0], np.array([0]))[0, :17], score)
    with pytest.raises(BadInput, match="a file to take its axis from"):
        write_map(tmp_path / "other.dscalar.nii", score, recording.find_space(roi="cortex"))


def test_maps_go_back_onto_the_volume(examples, example, tmp_path):
    recording = open_recording(examples["nsd"])
    ncsnr = recording.read_map("ncsnr", "subj01", "prf-visualrois:2")
    space = recording.find_space("subj01", "prf-visualrois:2")
    written = write_map(tmp_path / "ncsnr.nii.gz", ncsnr, space)
    source = nib.load(next(examples["nsd"].rglob("subj01/func1pt8mm/*/ncsnr.nii.gz")))
    areas = nib.load(next(examples["nsd"].rglob("subj01/func1pt8mm/roi/prf-visualrois.nii.gz"))).get_fdata()
    back = nib.load(written[0])
    np.testing.assert_array_equal(back.affine, source.affine)
    np.testing.assert_allclose(back.get_fdata(), np.where(areas == 2, source.get_fdata(), 0), atol=1e-7)
    two = write_map(tmp_path / "two.nii.gz", np.stack([ncsnr, -ncsnr]), space)
    assert nib.load(two[0]).shape == (5, 6, 7, 2)


@pytest.mark.parametrize("axes", ["LAS", "PIR", "RSA"])
def test_a_volume_in_any_orientation_comes_back_as_it_lay(axes, tmp_path):
    draw = np.random.default_rng(2)
    volume = draw.normal(size=(3, 4, 5, 6)).astype(np.float32)
    mask = draw.random((3, 4, 5)) < 0.4
    affine = np.diag([2.0, 3, 4, 1])
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes))
    image = nib.Nifti1Image(volume, affine).as_reoriented(turn)
    nib.save(image, tmp_path / "s_betas.nii.gz")
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine).as_reoriented(turn), tmp_path / "s_mask.nii.gz")
    (tmp_path / "s_events.tsv").write_text("stimulus\n" + "".join(f"s{row}\n" for row in range(6)))
    recording = open_recording(tmp_path)
    np.testing.assert_array_equal(recording.read().values, volume[mask].T)  # in the order of the RAS+ volume
    written = write_map(tmp_path / "map.nii.gz", recording.read().values, recording.find_space())
    back = nib.load(written[0])
    np.testing.assert_array_equal(back.affine, image.affine)
    kept = nib.as_closest_canonical(back).get_fdata()
    np.testing.assert_array_equal(kept, np.where(mask[..., None], volume, 0))


def test_maps_go_back_onto_two_hemispheres(examples, tmp_path):
    recording = open_recording(examples["surface"])
    values = recording.read("sub-01").values[:2]
    left, right = write_map(tmp_path / "score.mgh", values, recording.find_space("sub-01"))
    assert (left.name, right.name) == ("lh.score.mgh", "rh.score.mgh")
    np.testing.assert_array_equal(read_mgh_columns(right, np.arange(2)), values[:, 30:])
    left, _ = write_map(tmp_path / "score.func.gii", values, recording.find_space("sub-02"))
    assert left.name == "score_hemi-L.func.gii"
    np.testing.assert_array_equal(read_gifti_columns(left), values[:, :30])


def test_a_table_has_no_map(examples, tmp_path):
    space = open_recording(examples["npy"]).find_space()
    with pytest.raises(BadInput, match="lie nowhere in the brain"):
        write_map(tmp_path / "map.nii.gz", np.zeros(60), space)
    volume = open_recording(examples["nifti"]).find_space()
    with pytest.raises(BadInput, match="59 values for 60 voxels"):
        write_map(tmp_path / "map.nii.gz", np.zeros(59), volume)
    with pytest.raises(BadInput, match=r"ends in \.nii\.gz"):
        write_map(tmp_path / "map.mgh", np.zeros(60), volume)
    assert not list(tmp_path.iterdir())


def test_masks_without_a_voxel(tmp_path, example):
    write_nifti(tmp_path / "none.nii.gz", np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(BadInput, match="without a voxel above 0"):
        read_mask_space(tmp_path / "none.nii.gz", "", "none")
    write_nifti(tmp_path / "areas.nii.gz", np.full((3, 4, 5), 2, np.uint8))
    with pytest.raises(BadInput, match="without a voxel of 7"):
        read_mask_space(tmp_path / "areas.nii.gz", "", "areas", values=(7,))


def test_an_upper_bound_of_memory_while_a_session_is_streamed(examples, example):
    """A part of a stream is a volume or a session, never the whole recording."""
    recording = open_recording(examples["nsd"], options=ReadingOptions())
    assert max(len(values) for _, values in recording.stream("subj01")) == 24
    assert max(len(values) for _, values in open_recording(examples["laion-fmri"]).stream()) == 1
