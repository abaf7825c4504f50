"""Runs of BOLD in BIDS and fMRIPrep derivatives: what belongs together, when volumes were taken, what is refused."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.formats.fmri.bold import find_run_key, index_bold
from voxelight.storage.formats.fmri.bold_run import map_bold, read_confounds, read_events, read_timing
from voxelight.storage.formats.fmri.space import read_mask_space

AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])
SHAPE = (5, 4, 3)
VOLUMES = 12


def write_image(path: Path, array, repetition=1.6, unit="sec", affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm", unit)
    if array.ndim == 4:
        image.header["pixdim"][4] = repetition
    nib.save(image, path)
    return path


def write_table(path: Path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join(["\t".join(columns), *("\t".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.fixture
def dataset(tmp_path):
    """Two runs, raw and as fMRIPrep derivatives in two spaces; everything is made up."""
    random = np.random.default_rng(0)
    root, derivatives = tmp_path / "bids", tmp_path / "bids" / "derivatives" / "fmriprep"
    (root / "sub-01").mkdir(parents=True)
    (root / "task-scenes_bold.json").write_text(json.dumps({"RepetitionTime": 1.6, "TaskName": "scenes"}))
    for run in (1, 2):
        stem = f"sub-01_ses-02_task-scenes_run-{run}"
        raw, made = root / "sub-01/ses-02/func", derivatives / "sub-01/ses-02/func"
        bold = random.integers(50, 150, (*SHAPE, VOLUMES)).astype(np.int16)
        write_image(raw / f"{stem}_bold.nii.gz", bold)
        events = {"onset": [9.3, 1.25, 5.0], "duration": [3, 3, 0.5], "stim_file": ["b/y.png", "x.png", "n/a"]}
        write_table(raw / f"{stem}_events.tsv", events)
        for space in ("T1w", "MNI152NLin2009cAsym"):
            name = f"{stem}_space-{space}"
            write_image(made / f"{name}_desc-preproc_bold.nii.gz", bold.astype(np.float32))
            write_image(made / f"{name}_desc-brain_mask.nii.gz", np.ones(SHAPE, np.uint8))
            side = {"StartTime": 0.75, "SliceTimingCorrected": True, "RepetitionTime": 1.6}
            (made / f"{name}_desc-preproc_bold.json").write_text(json.dumps(side))
        confounds = {
            **{f"{kind}_{axis}": random.normal(size=VOLUMES) for kind in ("trans", "rot") for axis in "xyz"},
            "trans_x_derivative1": ["n/a", *random.normal(size=VOLUMES - 1)],
            "framewise_displacement": ["n/a", *[0.1] * (VOLUMES - 1)],
            "non_steady_state_outlier00": [1] + [0] * (VOLUMES - 1),
            "non_steady_state_outlier01": [0, 1] + [0] * (VOLUMES - 2),
        }
        write_table(made / f"{stem}_desc-confounds_timeseries.tsv", confounds)
    return root


def test_derivatives_are_listed_with_the_events_of_the_raw_data(dataset):
    with pytest.raises(BadInput, match="several spaces: MNI152NLin2009cAsym, T1w"):
        index_bold(dataset)
    runs = index_bold(dataset, space="T1w")
    assert [run.name for run in runs] == ["ses-02_task-scenes_run-1", "ses-02_task-scenes_run-2"]
    first = runs[0]
    assert first.subject == "01"
    assert first.bold.name == "sub-01_ses-02_task-scenes_run-1_space-T1w_desc-preproc_bold.nii.gz"
    assert first.events.name == "sub-01_ses-02_task-scenes_run-1_events.tsv"
    assert first.confounds.name == "sub-01_ses-02_task-scenes_run-1_desc-confounds_timeseries.tsv"
    assert first.mask.name == "sub-01_ses-02_task-scenes_run-1_space-T1w_desc-brain_mask.nii.gz"
    assert first.read_sidecar()["StartTime"] == 0.75


def test_raw_images_are_taken_where_there_are_no_derivatives_and_inherit_their_sidecar(dataset):
    (dataset / "derivatives").rename(dataset.parent / "elsewhere")
    runs = index_bold(dataset, task="scenes")
    assert runs[0].confounds is None
    assert runs[0].mask is None
    assert runs[0].read_sidecar() == {"RepetitionTime": 1.6, "TaskName": "scenes"}
    assert index_bold(dataset, dataset.parent / "elsewhere", space="T1w")[1].events == runs[1].events
    with pytest.raises(NotFound, match="'words'"):
        index_bold(dataset, task="words")
    with pytest.raises(NotFound, match="no folder"):
        index_bold(dataset / "nowhere")


def test_names_of_one_run_have_one_key():
    names = ("sub-01_task-x_run-2_bold.nii.gz", "sub-01_task-x_run-2_space-T1w_desc-preproc_bold.nii.gz",
             "sub-01_task-x_run-2_events.tsv", "sub-01_task-x_run-2_desc-confounds_timeseries.tsv")  # fmt: skip
    assert len({find_run_key(name) for name in names}) == 1
    assert find_run_key(names[0]) != find_run_key("sub-01_task-x_run-3_events.tsv")


@pytest.mark.parametrize(
    ("sidecar", "start", "noted"),
    [
        ({}, 0.0, 0),
        ({"StartTime": 0.75, "SliceTimingCorrected": True}, 0.75, 0),
        ({"SliceTimingCorrected": True}, 0.8, 1),
        ({"SliceTimingCorrected": False}, 0.0, 0),
    ],
)
def test_volumes_stand_where_the_sidecar_says(tmp_path, sidecar, start, noted):
    path = write_image(tmp_path / "x_bold.nii.gz", np.ones((*SHAPE, VOLUMES), np.float32))
    timing, notes = read_timing(path, sidecar)
    assert (timing.repetition_s, timing.volumes) == (pytest.approx(1.6), VOLUMES)
    assert timing.times[0] == pytest.approx(start)
    assert len(notes) == noted


@pytest.mark.parametrize(
    ("repetition", "unit", "sidecar", "said"),
    [
        (0.0, "sec", {}, "without a repetition time"),
        (1.0, "unknown", {}, "without a repetition time"),
        (1.6, "sec", {"RepetitionTime": 2.0}, "2 s in .*1.6 s in"),
        (1.6, "sec", {"StartTime": 1.9}, "StartTime of 1.9 s"),
        (1.6, "sec", {"VolumeTiming": [0, 3, 9]}, "VolumeTiming"),
    ],
)
def test_times_that_contradict_or_are_missing_are_refused(tmp_path, repetition, unit, sidecar, said):
    path = write_image(tmp_path / "x_bold.nii.gz", np.ones((*SHAPE, VOLUMES), np.float32), repetition, unit)
    with pytest.raises(BadInput, match=said):
        read_timing(path, sidecar)


def test_a_header_in_milliseconds_agrees_with_its_sidecar(tmp_path):
    path = write_image(tmp_path / "x_bold.nii.gz", np.ones((*SHAPE, VOLUMES), np.float32), 1600, "msec")
    assert read_timing(path, {"RepetitionTime": 1.6})[0].repetition_s == 1.6


def test_events_are_put_in_order_with_what_was_shown(dataset):
    path = index_bold(dataset, space="T1w")[0].events
    events, labels, notes = read_events(path)
    assert events.onsets.tolist() == [1.25, 9.3]
    assert events.durations.tolist() == [3.0, 3.0]
    assert events.stimulus_ids.tolist() == ["x", "y"]
    assert labels == {}
    assert "1 rows left out" in notes[0]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"onset": [1], "stim_file": ["x"]}, "duration"),
        ({"onset": [1], "duration": [1]}, "stim_file"),
        ({"onset": ["early"], "duration": [1], "stim_file": ["x"]}, "'early'"),
        ({"onset": [1], "duration": [1], "stim_file": ["n/a"]}, "is empty"),
        ({"onset": [-2], "duration": [1], "stim_file": ["x"]}, "negative"),
        ({"onset": [2, 9, 2], "duration": [1, 1, 1], "stim_file": ["x", "x", "x"]}, "x"),
    ],
)
def test_events_that_are_none_are_refused(tmp_path, columns, said):
    with pytest.raises(BadInput, match=said):
        read_events(write_table(tmp_path / "e_events.tsv", columns))


def test_confounds_are_chosen_standardised_and_tell_what_is_not_steady(dataset):
    path = index_bold(dataset, space="T1w")[0].confounds
    found = read_confounds(path)
    assert found.names == ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
    assert found.non_steady == 2
    np.testing.assert_allclose(found.values.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(found.values.std(0), 1)
    hollow = read_confounds(path, ("trans_x_derivative1", "framewise_displacement"))
    assert np.isfinite(hollow.values).all()
    assert not hollow.values[:, 1].any()  # it does not vary
    with pytest.raises(NotFound, match="a_comp_cor"):
        read_confounds(path, ("a_comp_cor_*",))


def test_voxels_are_mapped_in_the_order_of_the_mask(tmp_path):
    random = np.random.default_rng(1)
    bold = random.normal(size=(*SHAPE, VOLUMES)).astype(np.float32)
    inside = random.random(SHAPE) > 0.5
    path = write_image(tmp_path / "x_bold.nii.gz", bold)
    space = read_mask_space(write_image(tmp_path / "m.nii.gz", inside.astype(np.uint8)), "", "brain")
    table = map_bold(path, space, tmp_path / "x.npy")
    turned = nib.as_closest_canonical(nib.load(path)).get_fdata()
    mask = nib.as_closest_canonical(nib.load(tmp_path / "m.nii.gz")).get_fdata() > 0
    np.testing.assert_allclose(table, turned[mask].T, rtol=1e-6)
    assert isinstance(table, np.memmap)
    before = (tmp_path / "x.npy").stat().st_mtime_ns
    map_bold(path, space, tmp_path / "x.npy")
    assert (tmp_path / "x.npy").stat().st_mtime_ns == before  # what was written whole is taken as it is
    assert not list(tmp_path.glob("*.part"))


def test_a_run_that_is_cut_short_or_holds_nan_leaves_nothing(tmp_path):
    bold = np.random.default_rng(1).normal(size=(*SHAPE, VOLUMES)).astype(np.float32)
    space = read_mask_space(write_image(tmp_path / "m.nii.gz", np.ones(SHAPE, np.uint8)), "", "brain")
    path = write_image(tmp_path / "x_bold.nii.gz", bold)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInput):
        map_bold(path, space, tmp_path / "x.npy")
    bold[0, 0, 0, 7] = np.nan
    with pytest.raises(BadInput, match="volume 8"):
        map_bold(write_image(tmp_path / "y_bold.nii.gz", bold), space, tmp_path / "y.npy")
    assert not list(tmp_path.glob("*.npy"))
    assert not list(tmp_path.glob("*.part"))


@pytest.fixture
def bold5000(shared_data, tmp_path):
    """Six real volumes of BOLD5000 as one run, beside the sidecar and the events of the run they come from."""
    folder = shared_data / "bold5000_csi1_vols"
    volumes = [nib.load(path) for path in sorted((folder / "volume_of_interest").glob("*.nii.gz"))]
    array = np.stack([np.asarray(image.dataobj, dtype=np.float32) for image in volumes], axis=3)
    func = tmp_path / "bids" / "sub-CSI1" / "ses-01" / "func"
    stem = "sub-CSI1_ses-01_task-5000scenes_run-01"
    write_image(func / f"{stem}_bold.nii.gz", array, 2.0, affine=volumes[0].affine)
    text = folder / "ds001499_text" / "sub-CSI1" / "ses-01" / "func"
    for ending in ("bold.json", "events.tsv"):
        (func / f"{stem}_{ending}").write_bytes((text / f"{stem}_{ending}").read_bytes())
    masks = sorted((folder / "roi_masks_CSI").glob("*.nii.gz"))
    return index_bold(tmp_path / "bids"), masks


def test_real_volumes_are_read_and_a_mask_on_another_grid_is_refused(bold5000, tmp_path):
    [run], masks = bold5000
    timing, _ = read_timing(run.bold, run.read_sidecar())
    assert (timing.repetition_s, timing.volumes) == (2.0, 6)
    events, _, _ = read_events(run.events)
    assert events.stimulus_ids[0] == "n01930112_19568"
    assert events.onsets[0] == 6.0367
    with pytest.raises(BadInput, match="events past the end of run-01"):
        events.check_end(timing, "run-01")
    foreign = read_mask_space(masks[0], "", "LHEarlyVis")
    with pytest.raises(BadInput, match=r"88x88x66 of .* mask for LHEarlyVis on 71x89x72"):
        map_bold(run.bold, foreign, tmp_path / "x.npy")
    first = nib.load(run.bold).slicer[..., 0]
    inside = (np.asarray(first.dataobj) > np.percentile(np.asarray(first.dataobj), 97)).astype(np.uint8)
    own = read_mask_space(write_image(tmp_path / "own.nii.gz", inside, affine=first.affine), "", "bright")
    assert map_bold(run.bold, own, tmp_path / "x.npy").shape == (6, int(inside.sum()))
