"""NSD's own layout: both kinds of files, both ways of counting, both numbers of sessions."""

import csv

import h5py
import nibabel as nib
import numpy as np
import pytest
import scipy.io

from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.formats.fmri.examples.nsd import N_PICTURES, number_pictures
from voxelight.storage.formats.fmri.examples.write import write_example
from voxelight.storage.formats.fmri.layouts import open_recording
from voxelight.storage.formats.fmri.nsd_design import DESIGN, STIMULI, read_design
from voxelight.storage.formats.fmri.options import ReadingOptions

BETAS = "nsddata_betas/ppdata/{}/func1pt8mm/betas_fithrf"


@pytest.fixture
def nsd(tmp_path):
    write_example("nsd", tmp_path)
    return tmp_path


def rewrite_design(root, **changes):
    path = root / DESIGN
    matrices = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    scipy.io.savemat(path, matrices | {name: change(matrices[name]) for name, change in changes.items()})


def rewrite_info(root, change):
    path = root / STIMULI
    rows = list(csv.reader(path.open()))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *change(rows[1:])])


def test_nibabel_reads_the_same_from_the_nifti(nsd, example):
    betas = open_recording(nsd).read("subj01")
    mask = nib.load(nsd / "nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz").get_fdata() > 0
    image = nib.load(nsd / BETAS.format("subj01") / "betas_session02.nii.gz")
    assert image.get_data_dtype() == np.int16
    truth = image.get_fdata()[mask].T / 300  # the order that released decoders use
    np.testing.assert_allclose(betas.values[24:48], truth, atol=1e-6)


def test_both_files_of_a_session_give_the_same_betas(nsd):
    recording = open_recording(nsd)
    np.testing.assert_array_equal(recording.read("subj01").values, recording.read("subj02").values)
    with h5py.File(nsd / BETAS.format("subj02") / "betas_session01.hdf5") as file:
        assert file["betas"].shape == (24, 7, 6, 5)  # MATLAB's (i, j, k, trial), shown from behind
        assert file["betas"].chunks == (24, 1, 1, 1)


def test_ids_count_from_zero_and_name_the_rows_of_the_pictures(nsd, example):
    recording = open_recording(nsd)
    numbers = number_pictures(example)
    for row, subject in enumerate(("subj01", "subj02")):
        ids = recording.index.find(subject).stimulus_ids
        assert ids.tolist() == [f"nsd-{number:05d}" for number in numbers[row][example.shown]]
    matrices = scipy.io.loadmat(nsd / DESIGN)
    first = matrices["subjectim"][1, int(matrices["masterordering"][0, 0]) - 1]
    assert recording.index.find("subj02").stimulus_ids[0] == f"nsd-{int(first) - 1:05d}"
    picture = recording.read_pictures([f"nsd-{int(first) - 1:05d}"]).images[0]
    with h5py.File(nsd / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        np.testing.assert_allclose(picture, file["imgBrick"][int(first) - 1] / 255, atol=1e-6)


def test_shared_pictures_are_the_same_for_all_subjects(nsd):
    index = open_recording(nsd).index
    shared = [set(each.stimulus_ids[each.labels["shared"] == "1"].tolist()) for each in index.subjects]
    assert len(shared[0]) == 8
    assert shared[0] == shared[1]
    others = [set(each.stimulus_ids.tolist()) - shared[0] for each in index.subjects]
    assert not others[0] & others[1]


def test_runs_and_repeats_are_counted(nsd):
    one = open_recording(nsd).index.find("subj01")
    assert one.labels["run"][[0, 11, 12, 24]].tolist() == [
        "ses-01-run-01", "ses-01-run-01", "ses-01-run-02", "ses-02-run-01",
    ]  # fmt: skip
    for name in np.unique(one.stimulus_ids):
        assert one.labels["repeat"][one.stimulus_ids == name].tolist() == ["1", "2", "3"]


def test_fewer_sessions_are_a_part_of_all(nsd):
    part = open_recording(nsd, options=ReadingOptions(sessions=(1, 2))).index.find("subj01")
    whole = open_recording(nsd).index.find("subj01")
    np.testing.assert_array_equal(part.stimulus_ids, whole.stimulus_ids[:48])
    for path in nsd.rglob("betas_session03.*"):
        if "func1pt8mm" in path.parts:
            path.unlink()
    there = open_recording(nsd)
    np.testing.assert_array_equal(there.index.find("subj01").stimulus_ids, whole.stimulus_ids[:48])
    assert any("2 sessions" in note for note in there.index.notes)


def test_a_gap_between_sessions_is_refused_unless_sessions_are_named(nsd):
    (nsd / BETAS.format("subj01") / "betas_session02.nii.gz").unlink()
    with pytest.raises(BadInput, match=r"2 sessions in .*, without 2.*all sessions from 1 to 3"):
        open_recording(nsd)
    for path in nsd.rglob("subj02/func1pt8mm/*/betas_session02.hdf5"):
        path.unlink()
    named = open_recording(nsd, options=ReadingOptions(sessions=(1, 3))).index.find("subj01")
    assert sorted(set(named.labels["session"])) == ["ses-01", "ses-03"]


def test_regions_and_areas(nsd, example):
    recording = open_recording(nsd)
    assert recording.index.find().rois == ("nsdgeneral", "prf-visualrois")
    areas = [recording.find_space("subj01", f"prf-visualrois:{number}") for number in range(1, 8)]
    assert sum(map(len, areas)) == len(recording.find_space()) == 60
    two = recording.read("subj01", roi="prf-visualrois:1,2")
    assert two.values.shape[1] == len(areas[0]) + len(areas[1])
    with pytest.raises(NotFound, match=r"no region 'floc-faces'.*nsdgeneral"):
        recording.read(roi="floc-faces")


def test_ncsnr_is_read_on_the_voxels_of_a_region(nsd, example):
    recording = open_recording(nsd)
    image = nib.load(nsd / BETAS.format("subj01") / "ncsnr.nii.gz").get_fdata()
    np.testing.assert_allclose(recording.read_map("ncsnr", "subj01"), image[example.mask], atol=1e-6)


def test_the_surface_of_nsd_is_not_divided(nsd, example):
    recording = open_recording(nsd.parent / nsd.name, options=ReadingOptions(space="func1pt8mm"))
    assert recording.index.find("subj01").rois[0] == "nsdgeneral"
    for path in (nsd / "nsddata_betas/ppdata/subj02").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(NotFound, match=r"space 'fsaverage'.*func1pt8mm"):
        open_recording(nsd, options=ReadingOptions(space="fsaverage"))
    import shutil

    shutil.rmtree(nsd / "nsddata_betas/ppdata/subj02")
    surface = open_recording(nsd, options=ReadingOptions(space="fsaverage"))
    np.testing.assert_array_equal(surface.read().values, example.betas.values)
    assert surface.find_space().vertices == (30, 30)


def test_a_version_is_named_where_there_are_several(nsd):
    folder = nsd / BETAS.format("subj01")
    folder.rename(folder.with_name("betas_assumehrf"))
    folder.mkdir()
    (folder / "betas_session01.nii.gz").write_bytes(
        (folder.with_name("betas_assumehrf") / "betas_session01.nii.gz").read_bytes()
    )
    with pytest.raises(NotFound, match=r"2 of version"):
        open_recording(nsd)


def test_a_design_that_counts_from_zero_is_refused(nsd):
    rewrite_design(nsd, masterordering=lambda values: values - 1)
    with pytest.raises(BadInput, match=r"masterordering.*begins at 0, off by one"):
        read_design(nsd)


def test_pictures_that_count_from_zero_are_refused(nsd):
    rewrite_design(nsd, subjectim=lambda v: v - 1, sharedix=lambda v: v - 1)
    with pytest.raises(BadInput, match=r"off by one"):
        read_design(nsd)


def test_pictures_shifted_by_one_are_told_from_the_shared_ones(nsd):
    """The range alone shows nothing where no subject saw the first or the last picture."""
    numbers = scipy.io.loadmat(nsd / DESIGN)["subjectim"]
    step = 1 if numbers.max() < N_PICTURES else -1
    rewrite_design(nsd, subjectim=lambda v: v + step, sharedix=lambda v: v + step)
    with pytest.raises(BadInput, match=r"off by one"):
        read_design(nsd)


def test_a_list_of_pictures_that_counts_from_one_is_refused(nsd):
    rewrite_info(nsd, lambda rows: [[r[0], r[1], r[2], str(int(r[3]) + 1), r[4]] for r in rows])
    with pytest.raises(BadInput, match=r"nsdId runs from 1 to 73, off by one"):
        read_design(nsd)


def test_shared_flags_of_other_pictures_are_refused(nsd):
    rewrite_info(nsd, lambda rows: [[*r[:4], str(int(r[0]) % 9 == 4)] for r in rows])
    with pytest.raises(BadInput, match=r"don't fit the 8 shared pictures"):
        read_design(nsd)


def test_more_sessions_than_the_design_knows_are_refused(nsd):
    for extra in (4, 5):
        for subject, suffix in (("subj01", "nii.gz"), ("subj02", "hdf5")):
            folder = nsd / BETAS.format(subject)
            (folder / f"betas_session{extra:02d}.{suffix}").write_bytes(
                (folder / f"betas_session01.{suffix}").read_bytes()
            )
    with pytest.raises(BadInput, match=r"past the 72"):
        open_recording(nsd)


def test_missing_tables_are_named(nsd):
    (nsd / STIMULI).unlink()
    with pytest.raises(NotFound, match=r"no nsd_stim_info_merged\.csv"):
        open_recording(nsd)
