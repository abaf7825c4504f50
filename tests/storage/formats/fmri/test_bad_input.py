"""What goes wrong with people's data: each is a clear error or a stated handling, and nothing is reordered."""

import json
import re
import shutil

import h5py
import nibabel as nib
import numpy as np
import pytest
import scipy.io

from voxelight.models.errors import BadInput, NotFound
from voxelight.neuro.splits import Leak
from voxelight.storage.formats.betas import read_betas_nifti
from voxelight.storage.formats.fmri.examples.community import write_samples
from voxelight.storage.formats.fmri.examples.example import SHAPE, write_nifti
from voxelight.storage.formats.fmri.layouts import LAYOUTS, open_recording
from voxelight.storage.formats.fmri.options import ReadingOptions
from voxelight.storage.formats.fmri.runs import read_repetition_time
from voxelight.storage.formats.intake import inspect

BETAS = "nsddata_betas/ppdata/{}/func1pt8mm/betas_fithrf/betas_session01.{}"
HDF5 = {
    "nsd": BETAS.format("subj02", "hdf5"),
    "mindeye2": "betas_all_subj01_fp32_renorm.hdf5",
    "glmsingle": "sub-01/TYPED_FITHRF_GLMDENOISE_RR.hdf5",
    "bdata": "sub-01.h5",
    "hdf5": "betas.h5",
}
CUT = {
    "nsd": BETAS.format("subj01", "nii.gz"),
    "mindeye2": "wds/subj01/train/1.tar",
    "mindeye1": "webdataset_avg_split/train/train_subj01_0.tar",
    "brain-diffuser": "nsd_train_fmriavg_nsdgeneral_sub1.npy",
    "laion-fmri": "derivatives/glmsingle-tedana/sub-01/ses-02/func/"
    "sub-01_ses-02_task-images_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz",
    "haxby": "subj1/bold.nii.gz",
    "surface": "lh.sub-01_betas.mgh",
    "nifti": "sub-01_betas.nii.gz",
    "npy": "betas.npy",
    "mat": "betas.mat",
    "simulated": "sub-01/betas.npy",
}


@pytest.fixture
def copied(examples, tmp_path):
    """Copy an example, to be spoilt."""
    return lambda layout: shutil.copytree(examples[layout], tmp_path / layout)


def rewrite(path, change):
    """Change the rows of a table, header first."""
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    path.write_text("".join("\t".join(row) + "\n" for row in change(rows)))


def read_all(folder, options=None):
    recording = open_recording(folder, options=options)
    return [recording.read(each.subject) for each in recording.index.subjects]


@pytest.mark.parametrize("layout", HDF5)
def test_an_hdf5_cut_short(layout, copied):
    path = copied(layout) / HDF5[layout]
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(BadInput, match=rf"{re.escape(path.name)} of {path.stat().st_size} bytes, cut short or damaged"):
        read_all(path.parents[len(HDF5[layout].split("/")) - 1])


@pytest.mark.parametrize("layout", CUT)
def test_another_file_cut_short(layout, copied):
    folder = copied(layout)
    path = folder / CUT[layout]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInput, match=r"cut|damaged|can't be read|claims|one each"):
        read_all(folder)


def test_every_layout_was_cut():
    assert set(HDF5) | set(CUT) == set(LAYOUTS)


@pytest.mark.parametrize("layout", ["nsd", "laion-fmri", "nifti", "haxby"])
def test_a_mask_on_another_grid(layout, copied, example):
    folder = copied(layout)
    pattern = {"nsd": "nsdgeneral.nii.gz", "laion-fmri": "*R2mean*", "nifti": "*_mask*", "haxby": "mask4*"}[layout]
    for path in folder.rglob(pattern):
        affine = nib.load(path).affine.copy()
        affine[:3, 3] += 0.9  # half a voxel
        nib.save(nib.Nifti1Image(example.mask.astype(np.uint8), affine), path)
    with pytest.raises(BadInput, match=r"on the grid 5x6x7 of 1\.8x1\.8x1\.8 mm.*and a mask.*Resample the mask"):
        read_all(folder)


def test_real_masks_on_another_grid(shared_data, tmp_path):
    """BOLD5000 ships masks of 2 mm beside volumes of 2.4 mm."""
    source = shared_data / "bold5000_csi1_vols"
    volume = next((source / "volume_of_interest").glob("*.nii.gz"))
    mask = next((source / "roi_masks_CSI").glob("*LHPPA*"))
    shutil.copy(volume, tmp_path / "sub-CSI1_betas.nii.gz")
    shutil.copy(mask, tmp_path / "sub-CSI1_mask.nii.gz")
    (tmp_path / "sub-CSI1_events.tsv").write_text("stimulus\nrep_homeoffice1\n")
    with pytest.raises(BadInput, match=r"on the grid 88x88x66 of .* and a mask .* on 71x89x72"):
        read_all(tmp_path)


def test_axes_in_another_order(copied):
    folder = copied("nsd")
    path = folder / BETAS.format("subj02", "hdf5")
    with h5py.File(path, "r+") as file:
        values = file["betas"][()]
        del file["betas"]
        file["betas"] = values.transpose(0, 3, 2, 1)  # trial, i, j, k: written from Python without care
    with pytest.raises(BadInput, match=r"7x6x5 voxels a trial and a mask of 5x6x7, the same sides in another order"):
        open_recording(folder).read("subj02")


@pytest.mark.parametrize(
    ("layout", "table"), [("nifti", "sub-01_events.tsv"), ("npy", "trials.tsv"), ("surface", "sub-01_events.tsv")]
)
def test_duplicate_trial_rows(layout, table, copied):
    folder = copied(layout)
    rewrite(folder / table, lambda rows: [[*row, "onset" if not n else str(n % 71)] for n, row in enumerate(rows)])
    rewrite(folder / table, lambda rows: [rows[0], *[[rows[1][0], rows[1][1], *row[2:]] for row in rows[1:]]])
    with pytest.raises(BadInput, match=r"duplicate trial rows.*session, run, onset.*not guessed"):
        open_recording(folder)


def test_duplicate_trials_of_mindeye2(copied):
    folder = copied("mindeye2")
    shutil.copy(folder / "wds/subj01/train/0.tar", folder / "wds/subj01/train/3.tar")
    with pytest.raises(BadInput, match=r"duplicate trial rows in the tars of subj01, global trial"):
        open_recording(folder)


def test_duplicate_rows_of_laion(copied):
    folder = copied("laion-fmri")
    path = next(folder.rglob("*ses-01*trials.tsv"))
    rewrite(path, lambda rows: [*rows[:-1], [*rows[-1][:2], rows[-2][2], rows[-1][3]]])
    with pytest.raises(BadInput, match=r"duplicate trial rows.*beta_index 22"):
        open_recording(folder)


@pytest.mark.parametrize("layout", ["nsd", "laion-fmri"])
def test_sessions_missing(layout, copied):
    folder = copied(layout)
    for path in folder.rglob("*betas_session02*" if layout == "nsd" else "*ses-02*SingletrialBetas_statmap*"):
        path.unlink()
    with pytest.raises(BadInput, match=r"2 sessions in .*, without 2.*name the sessions"):
        open_recording(folder)
    assert set(open_recording(folder, options=ReadingOptions(sessions=(1, 3))).index.find().labels["session"]) == {
        "ses-01",
        "ses-03",
    }


def test_events_past_the_end(copied):
    folder = copied("nifti")
    rewrite(folder / "sub-01_events.tsv", lambda rows: [*rows, rows[-1], rows[-1]])
    with pytest.raises(BadInput, match=r"74 events in sub-01_events.tsv, past the end, for 72 volumes"):
        open_recording(folder)


def test_labels_past_the_end_of_a_run(copied):
    path = copied("haxby") / "subj1" / "labels.txt"
    path.write_text(path.read_text() + "rest 3\n")
    with pytest.raises(BadInput, match=r"177 labels in labels.txt for 176 volumes, past the end of the run"):
        open_recording(path.parents[1])


def test_repetition_time_missing(tmp_path):
    path = tmp_path / "sub-01_bold.nii.gz"
    image = nib.Nifti1Image(np.zeros((*SHAPE, 4), np.float32), np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    for stored in (0.0, float("nan")):
        image.header["pixdim"][4] = stored
        nib.save(image, path)
        with pytest.raises(BadInput, match=r"without a repetition time.*sub-01_bold\.json with RepetitionTime"):
            read_repetition_time(path)
    sidecar = tmp_path / "sub-01_bold.json"
    sidecar.write_text(json.dumps({"RepetitionTime": 1.6}))
    assert read_repetition_time(path) == 1.6
    image.header["pixdim"][4] = 2.0
    nib.save(image, path)
    with pytest.raises(BadInput, match=r"one repetition time"):
        read_repetition_time(path)
    sidecar.unlink()
    assert read_repetition_time(path) == 2.0
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 1600
    nib.save(image, path)
    assert read_repetition_time(path) == pytest.approx(1.6)


def test_a_repetition_time_of_milliseconds_called_seconds(tmp_path):
    path = tmp_path / "bold.nii.gz"
    image = nib.Nifti1Image(np.zeros((*SHAPE, 4), np.float32), np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2000
    nib.save(image, path)
    with pytest.raises(BadInput, match=r"2000 s is none"):
        read_repetition_time(path)


@pytest.mark.parametrize("layout", ["npy", "nifti", "hdf5"])
def test_betas_that_look_unscaled(layout, copied, example):
    folder = copied(layout)
    stored = np.rint(example.betas.values * 300).astype(np.int16)
    for kind in (np.int16, np.float32):
        if layout == "npy":
            np.save(folder / "betas.npy", stored.astype(kind))
        elif layout == "nifti":
            volume = np.zeros((*SHAPE, len(stored)), kind)
            volume[example.mask] = stored.T
            write_nifti(folder / "sub-01_betas.nii.gz", volume)
        else:
            with h5py.File(folder / "betas.h5", "r+") as file:
                del file["betas"]
                file["betas"] = stored.astype(kind)
        with pytest.raises(BadInput, match=r"look unscaled|look like int16 that nobody scaled"):
            read_all(folder)
        if kind is np.int16:
            scaled = read_all(folder, ReadingOptions(scale=300))[0]
            np.testing.assert_allclose(scaled.values, example.betas.values, atol=0.5 / 300 + 1e-6)


def test_ids_off_by_one_in_mindeye2(copied):
    folder = copied("mindeye2")
    shared = np.load(folder / "shared1000.npy")
    np.save(folder / "shared1000.npy", np.roll(shared, 1))
    with pytest.raises(BadInput, match=r"only after adding .1: off by one"):
        open_recording(folder)


def test_ids_off_by_one_in_laion(copied):
    folder = copied("laion-fmri")
    path = next(folder.rglob("*ses-01*trials.tsv"))
    rewrite(path, lambda rows: [rows[0], *[[*row[:2], str(int(row[2]) + 1), row[3]] for row in rows[1:]]])
    with pytest.raises(BadInput, match=r"beta_index runs from 1 to 24, off by one"):
        open_recording(folder)


def test_trials_in_another_order_than_glmsingle_s_design(copied):
    folder = copied("glmsingle")
    rewrite(folder / "sub-01" / "trials.tsv", lambda rows: [rows[0], *rows[2:], rows[1]])
    with pytest.raises(BadInput, match=r"Trials and stimuli seem misaligned"):
        open_recording(folder)


def test_one_stimulus_in_train_and_test(copied):
    folder = copied("laion-fmri")
    path = folder / "splits" / "random_0.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"train": [*told["train"], told["test"][0]]}))
    with pytest.raises(Leak, match=r"1 stimuli of the test part of random_0 that are in training too"):
        open_recording(folder).read_split("random_0")


def test_one_stimulus_in_train_and_test_tars(copied, tmp_path):
    folder = copied("mindeye1")
    test = folder / "webdataset_avg_split" / "test" / "test_subj01_0.tar"
    shutil.copy(test, folder / "webdataset_avg_split" / "train" / "train_subj01_1.tar")
    with pytest.raises(Leak, match=r"8 stimuli of the test part of subj01 that are in training too"):
        open_recording(folder)
    second = copied("mindeye2")
    shutil.copy(second / "wds/subj01/new_test/0.tar", second / "wds/subj01/train/9.tar")
    with pytest.raises(BadInput, match=r"duplicate trial rows"):
        open_recording(second)


def test_pickles_are_never_opened(copied, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("pickle.loads", lambda *_, **__: opened.append(1))
    monkeypatch.setattr("pickle.load", lambda *_, **__: opened.append(1))
    folder = copied("npy")
    np.save(folder / "betas.npy", np.array([{"betasmd": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match=r"objects are pickles, which can run code"):
        open_recording(folder)
    np.save(tmp_path / "TYPED_FITHRF_GLMDENOISE_RR.npy", np.array({"betasmd": 1}, dtype=object), allow_pickle=True)
    with pytest.raises(BadInput, match=r"a pickle: .*wanthdf5"):
        open_recording(tmp_path, "glmsingle")
    bad = copied("mindeye2")
    buffer = tmp_path / "object.npy"
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    write_samples(bad / "wds/subj01/train/0.tar", {"sample000000000": {"behav.npy": buffer.read_bytes()}})
    with pytest.raises(BadInput, match=r"can't be read"):
        open_recording(bad)
    assert not opened


def test_missing_values_are_refused_or_said(copied, example):
    folder = copied("npy")
    values = example.betas.values.copy()
    values[3, 5] = np.nan
    np.save(folder / "betas.npy", values)
    with pytest.raises(BadInput, match=r"1 betas of subject 01 that are NaN or infinite, in 1 of 60 voxels"):
        read_all(folder)
    filled = read_all(folder, ReadingOptions(missing="zero"))[0]
    assert filled.values[3, 5] == 0
    np.testing.assert_array_equal(np.delete(filled.values, 5, 1), np.delete(values, 5, 1))


@pytest.mark.parametrize("layout", ["npy", "hdf5", "glmsingle", "surface"])
def test_another_number_of_trials(layout, copied):
    folder = copied(layout)
    if layout == "hdf5":
        with h5py.File(folder / "betas.h5", "r+") as file:
            betas = file["betas"][:-1]
            del file["betas"]
            file["betas"] = betas
    else:
        rewrite(next(folder.rglob("*trials.tsv" if layout != "surface" else "sub-01_events.tsv")), lambda r: r[:-1])
    with pytest.raises(BadInput, match=r"71|72"):
        open_recording(folder)


def test_a_picture_that_is_missing(copied):
    folder = copied("npy")
    gone = sorted((folder / "pictures").iterdir())[0]
    gone.unlink()
    recording = open_recording(folder)
    with pytest.raises(NotFound, match=rf"1 stimuli without a picture .*{gone.stem} for one"):
        recording.read_pictures(sorted(set(recording.index.find().stimulus_ids.tolist())))


def test_uploaded_betas_are_looked_at_in_the_same_way(examples, example, tmp_path):
    folder = shutil.copytree(examples["nifti"], tmp_path / "nifti")
    files = [folder / f"sub-01_{part}" for part in ("betas.nii.gz", "mask.nii.gz", "events.tsv")]
    assert read_betas_nifti(*files).values.shape == (72, 60)
    events = files[2].read_text()
    rewrite(files[2], lambda rows: [[*row, "onset" if not n else str(n % 71)] for n, row in enumerate(rows)])
    rewrite(files[2], lambda rows: [rows[0], *[[rows[1][0], rows[1][1], *row[2:]] for row in rows[1:]]])
    with pytest.raises(BadInput, match=r"duplicate trial rows in sub-01_events\.tsv"):
        read_betas_nifti(*files)
    files[2].write_text(events)
    volume = np.zeros((*SHAPE, 72), np.int16)
    volume[example.mask] = np.rint(example.betas.values.T * 300)
    write_nifti(files[0], volume)
    with pytest.raises(BadInput, match="look like int16 that nobody scaled"):
        read_betas_nifti(*files)


def test_a_matlab_file_whose_trials_moved_is_taken_in_with_a_warning(examples, tmp_path):
    path = examples["mat"] / "betas.mat"
    assert not any("misaligned" in each.found for each in inspect(path, path.name).warnings)
    matrices = {name: each for name, each in scipy.io.loadmat(path).items() if not name.startswith("__")}
    for part in ("Trn", "Test"):
        matrices[f"stim{part}"] = np.roll(matrices[f"stim{part}"], 1, axis=0)
    scipy.io.savemat(tmp_path / "moved.mat", matrices)
    told = [each.found for each in inspect(tmp_path / "moved.mat", "moved.mat").warnings]
    assert any("Trials and stimuli seem misaligned" in each for each in told)
