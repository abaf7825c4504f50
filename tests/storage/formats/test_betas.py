from pathlib import Path

import numpy as np
import pytest
import scipy.io

from voxelight.models.errors import BadInput
from voxelight.models.values import picture_id
from voxelight.storage.formats.betas import read_betas_mat, read_betas_nifti, read_runs

SHAPE = (3, 4, 5)


@pytest.fixture
def real_mat(shared_data: Path) -> Path:
    return next((shared_data / "fmri_miyawaki2008").glob("*.mat"))


@pytest.fixture
def three_files(write_nifti, tmp_path):
    """Betas of four trials, their mask and their events."""
    rng = np.random.default_rng(0)
    series = rng.normal(size=(*SHAPE, 4)).astype(np.float32)
    mask = np.zeros(SHAPE, np.uint8)
    mask[1] = 1
    events = tmp_path / "events.tsv"
    events.write_text(
        "\ufeffonset\tstim_file\ttrial_type\tRun\tSess\n"
        + "".join(f"{n}\timages/{'abab'[n]}.PNG\t{'xyxy'[n]}\t{n // 2}\t1\n" for n in range(4)),
        encoding="utf-8",
    )
    return series, write_nifti("betas.nii.gz", series), write_nifti("lh.V1.nii.gz", mask), events


def test_real_file_gives_every_trial_and_every_picture_once(real_mat):
    betas, stimuli = read_betas_mat(real_mat)
    assert betas.values.shape == (119, 967)
    assert stimuli.images.shape == (20, 28, 28, 1)
    assert set(betas.stimulus_ids) == set(stimuli.ids)
    assert sorted(set(betas.labels["category"])) == ["2", "3", "4", "5"]
    assert (betas.subject, betas.roi, betas.simulated) == ("01", "V1", False)
    raw = scipy.io.loadmat(real_mat)
    assert np.array_equal(betas.values, np.vstack([raw["fmriTrn"], raw["fmriTest"]]).astype(np.float32))
    seen = dict(zip(stimuli.ids, stimuli.images[..., 0], strict=True))
    for stimulus, row in zip(betas.stimulus_ids, np.vstack([raw["stimTrn"], raw["stimTest"]]), strict=True):
        assert np.array_equal(seen[stimulus], row.reshape(28, 28, order="F"))


def test_real_letters_stand_upright(real_mat):
    """An n is closed above and open below, a u the other way; lying letters would be neither."""
    images = read_betas_mat(real_mat)[1].images[..., 0]
    closed_above = closed_below = 0
    for image in images:
        rows, columns = np.nonzero(image > 0.5)
        letter = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] > 0.5
        legs = letter[:, 0].all() and letter[:, -1].all()
        middle = letter[:, letter.shape[1] // 2]
        if legs and middle[0] and not middle[len(middle) // 2 :].any():
            closed_above += 1
        if legs and middle[-1] and not middle[: len(middle) // 2].any():
            closed_below += 1
    assert (closed_above, closed_below) == (3, 3), "n and u, each in three sizes"


def test_one_picture_has_one_name_and_two_have_two():
    one, other = np.zeros((4, 4, 1), np.float32), np.full((4, 4, 1), 1e-6, np.float32)
    assert picture_id(one) == picture_id(one.copy(order="F")) != picture_id(other)
    assert picture_id(one) != picture_id(one.reshape(2, 8, 1))
    assert len(picture_id(one)) == 12


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, np.int32, bool])
def test_black_and_white_pictures_read_alike_in_every_type(dtype, tmp_path):
    rows = (np.arange(18) % 2).reshape(2, 9)
    scipy.io.savemat(tmp_path / "a.mat", {"fmriTrn": np.ones((2, 3)), "stimTrn": rows.astype(dtype)})
    betas, stimuli = read_betas_mat(tmp_path / "a.mat", subject="07", roi="V2")
    assert np.array_equal(stimuli.images[0, ..., 0], rows[0].reshape(3, 3).T)
    assert (betas.subject, betas.roi, betas.labels) == ("07", "V2", {})


def test_grey_bytes_are_scaled_and_a_file_of_one_part_is_enough(tmp_path):
    rows = np.array([[0, 51, 102, 255]], np.uint8)
    scipy.io.savemat(tmp_path / "a.mat", {"fmriTest": np.ones((1, 3)), "stimTest": rows}, do_compression=True)
    _, stimuli = read_betas_mat(tmp_path / "a.mat")
    assert stimuli.images[0, ..., 0] == pytest.approx(np.array([[0, 0.4], [0.2, 1]]))


def test_other_variables_of_the_file_stay_unread(tmp_path):
    good = {"fmriTrn": np.ones((2, 3)), "stimTrn": np.eye(4)[:2]}
    scipy.io.savemat(tmp_path / "a.mat", {**good, "metadata": {"who": "x"}, "cells": np.array([[{}, 1]], object)})
    assert read_betas_mat(tmp_path / "a.mat")[0].values.shape == (2, 3)


def test_nifti_betas_follow_their_events(three_files):
    series, betas_path, mask_path, events = three_files
    betas = read_betas_nifti(betas_path, mask_path, events, subject="03")
    assert np.array_equal(betas.values, series[1].reshape(-1, 4).T)
    assert betas.stimulus_ids.tolist() == ["a", "b", "a", "b"]
    assert {unit: column.tolist() for unit, column in betas.labels.items()} == {
        "category": ["x", "y", "x", "y"],
        "run": ["0", "0", "1", "1"],
        "session": ["1"] * 4,
    }
    assert (betas.subject, betas.roi) == ("03", "lh")
    assert read_betas_nifti(betas_path, mask_path, events, roi="early").roi == "early"


@pytest.mark.parametrize(("rows", "words"), [(3, "3 events .* 4 volumes"), (5, "5 events .* 4 volumes")])
def test_events_and_volumes_must_be_as_many(rows, words, three_files):
    _, betas, mask, events = three_files
    events.write_text("stimulus\n" + "a\n" * rows)
    with pytest.raises(BadInput, match=words):
        read_betas_nifti(betas, mask, events)


def test_a_mask_on_another_grid_is_refused(three_files, write_nifti):
    _, betas, _, events = three_files
    far = np.eye(4)
    far[0, 3] = 5
    mask = write_nifti("far.nii.gz", np.ones(SHAPE, np.uint8), far)
    with pytest.raises(BadInput, match=r"from \(0.0, 0.0, 0.0\) .* from \(5.0, 0.0, 0.0\)"):
        read_betas_nifti(betas, mask, events)


def test_real_volumes_and_their_region_do_not_fit(shared_data: Path, tmp_path):
    folder = shared_data / "bold5000_csi1_vols"
    events = tmp_path / "events.tsv"
    events.write_text("stimulus\na\n")
    with pytest.raises(BadInput, match=r"88x88x66 .* 71x89x72"):
        read_betas_nifti(
            next((folder / "volume_of_interest").glob("*volume1.nii.gz")),
            next((folder / "roi_masks_CSI").glob("*RHPPA*")),
            events,
        )


def test_runs_come_with_the_pictures_of_every_volume(write_nifti, tmp_path):
    rng = np.random.default_rng(1)
    runs = [rng.normal(size=(*SHAPE, length)).astype(np.float32) for length in (6, 8)]
    bolds = [write_nifti(f"run{number}.nii.gz", run) for number, run in enumerate(runs)]
    labels = []
    for number, run in enumerate(runs):
        labels.append(tmp_path / f"run{number}.csv")
        np.savetxt(labels[-1], np.full((run.shape[3], 100), number - 1), fmt="%d", delimiter=",")
    mask = write_nifti("mask.nii.gz", np.ones(SHAPE, np.uint8))
    read = read_runs(bolds, mask, labels)
    assert [values.shape for values, _ in read] == [(6, 60), (8, 60)]
    assert [rows.shape for _, rows in read] == [(6, 100), (8, 100)]
    assert read[0][1].min() == -1
    with pytest.raises(BadInput, match=r"8 rows of labels in run1\.csv for 6 volumes in run0"):
        read_runs(bolds, mask, labels[::-1])
    with pytest.raises(BadInput, match="2 BOLD runs and 1 tables"):
        read_runs(bolds, mask, labels[:1])
    labels[0].write_text("1,x\n")
    with pytest.raises(BadInput, match="no number"):
        read_runs(bolds, mask, labels)
