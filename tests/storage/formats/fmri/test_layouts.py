"""The table of layouts: each is found, indexed before anything is read, read in parts, and decoded."""

import shutil
import tracemalloc

import h5py
import numpy as np
import pytest

from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.neuro.betas import average_repeats
from voxelight.neuro.decode import decode
from voxelight.neuro.recipes import find_recipe
from voxelight.storage.formats.fmri.examples.write import WRITERS, write_example
from voxelight.storage.formats.fmri.layouts import LAYOUTS, find_layout, open_recording
from voxelight.storage.formats.fmri.options import ReadingOptions
from voxelight.storage.formats.fmri.recording import Recording
from voxelight.storage.formats.fmri.registered import read_region, register

WHOLE = [name for name in WRITERS if name not in {"mindeye1", "mindeye2", "brain-diffuser", "haxby"}]
WITH_PICTURES = [name for name in LAYOUTS if name != "haxby"]


def test_every_layout_has_an_example(examples):
    assert set(examples) == set(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_files_tell_the_layout(layout, examples):
    assert find_layout(examples[layout]) == layout
    assert open_recording(examples[layout]).layout == layout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_index_comes_before_any_beta(layout, examples, monkeypatch):
    def refuse(*_):
        raise AssertionError("a beta was read")

    expected = {"haxby": (16, 4), "brain-diffuser": (24, 24), "mindeye1": (71, 24)}.get(layout, (72, 24))
    monkeypatch.setattr(Recording, "stream", refuse)
    index = open_recording(examples[layout]).index
    for row in index.summarise():
        assert (row["trials"], row["stimuli"]) == expected
        assert row["rois"]
    assert index.simulated
    if layout not in {"mindeye1", "brain-diffuser", "haxby", "mat"}:
        assert {row["sessions"] for row in index.summarise()} == {3}
        assert {row["runs"] for row in index.summarise()} == {6}


@pytest.mark.parametrize("layout", WHOLE)
def test_betas_come_back_as_they_were_written(layout, examples, example):
    recording = open_recording(examples[layout])
    for subject in recording.index.subjects:
        betas = recording.read(subject.subject)
        # NSD holds steps of 1/300 of a percent
        np.testing.assert_allclose(betas.values, example.betas.values, atol=0.5 / 300 + 1e-6 if layout == "nsd" else 0)
        assert betas.simulated
        shown = {name: place for place, name in enumerate(dict.fromkeys(betas.stimulus_ids.tolist()))}
        truth = {name: place for place, name in enumerate(dict.fromkeys(example.betas.stimulus_ids.tolist()))}
        assert [shown[name] for name in betas.stimulus_ids] == [truth[name] for name in example.betas.stimulus_ids]
        if "session" in betas.labels:
            np.testing.assert_array_equal(betas.labels["session"], example.betas.labels["session"])
            np.testing.assert_array_equal(betas.labels["run"], example.betas.labels["run"])


def test_mindeye2_is_the_same_betas_scaled_in_each_session(examples, example):
    betas = open_recording(examples["mindeye2"]).read()
    for rows in example.sessions:
        part = example.betas.values[rows]
        np.testing.assert_allclose(betas.values[rows], (part - part.mean(0)) / part.std(0), atol=1e-5)
    assert sorted(set(betas.labels["split"])) == ["test", "train"]
    np.testing.assert_array_equal(betas.labels["split"] == "test", betas.labels["shared"] == "1")


def test_mindeye1_leaves_out_what_fills_missing_repeats(examples, example):
    betas = open_recording(examples["mindeye1"]).read()
    names, counts = np.unique(betas.stimulus_ids, return_counts=True)
    assert sorted(counts)[:2] == [2, 3]  # the tar holds three rows, the third a copy
    last = betas.values[betas.stimulus_ids == names[counts == 2][0]]
    own = example.betas.values[np.flatnonzero(example.shown == 23)[:2]]
    np.testing.assert_array_equal(last, own)


def test_brain_diffuser_holds_the_averages(examples, example):
    betas = open_recording(examples["brain-diffuser"]).read()
    means = average_repeats(example.betas)
    rows = [means.stimulus_ids.tolist().index(name) for name in example.stimuli.ids[[*range(8, 24), *range(8)]]]
    np.testing.assert_allclose(betas.values, means.values[rows], atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_some_trials_are_those_trials_in_any_order(layout, examples):
    recording = open_recording(examples[layout])
    everything = recording.read()
    rows = np.random.default_rng(0).permutation(len(everything.values))[:9]
    some = recording.read(rows=rows)
    np.testing.assert_array_equal(some.values, everything.values[rows])
    np.testing.assert_array_equal(some.stimulus_ids, everything.stimulus_ids[rows])
    for name, column in everything.labels.items():
        np.testing.assert_array_equal(some.labels[name], column[rows])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_stream_gives_every_trial_once(layout, examples):
    recording = open_recording(examples[layout])
    everything = recording.read()
    places = []
    for place, values in recording.stream():
        np.testing.assert_array_equal(values, everything.values[place])
        places += place.tolist()
    assert sorted(places) == list(range(len(everything.values)))


@pytest.mark.parametrize("layout", ["nsd", "mindeye1", "laion-fmri", "haxby", "nifti"])
def test_a_stream_comes_in_parts(layout, examples):
    assert LAYOUTS[layout].reading == "streamed"
    assert sum(1 for _ in open_recording(examples[layout]).stream()) > 1


@pytest.mark.parametrize("layout", WITH_PICTURES)
def test_pictures_are_those_that_were_seen(layout, examples, example):
    recording = open_recording(examples[layout])
    ids = list(dict.fromkeys(recording.index.find().stimulus_ids.tolist()))
    stimuli = recording.read_pictures(ids)
    assert stimuli.ids.tolist() == ids
    small = recording.read_pictures(ids[:2], side=8)
    assert small.images.shape[1:3] == (8, 8)
    if layout in {"mindeye1", "brain-diffuser", "simulated"}:
        return
    first = {name: row for row, name in zip(example.shown, recording.index.find().stimulus_ids, strict=True)}
    truth = example.stimuli.images[[first[name] for name in ids]]
    if layout == "mat":
        truth = truth.mean(-1, keepdims=True)
    step = truth.shape[1] / stimuli.images.shape[1]
    places = (np.arange(stimuli.images.shape[1]) * step).astype(int)
    np.testing.assert_allclose(stimuli.images, truth[:, places][:, :, places], atol=1 / 255 + 1e-3)


@pytest.mark.parametrize("layout", WITH_PICTURES)
def test_every_layout_is_decoded(layout, examples):
    recording = open_recording(examples[layout])
    betas = recording.read()
    stimuli = recording.read_pictures(list(dict.fromkeys(betas.stimulus_ids.tolist())), side=8)
    quick = {"unit": "stimulus", "n_folds": 6, "inner_folds": 4, "permutations": 99, "bootstrap_draws": 200}
    recipe = find_recipe("simulated-ridge").model_copy(update=quick | {"normalisation": "training-rows"})
    metric = decode(betas, stimuli, recipe).report.find("two_way")
    assert metric.low > metric.null_mean + 3 * metric.null_std, metric
    assert metric.p <= 0.01


def test_an_unknown_layout_is_refused_with_those_that_are_known(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(NotFound, match=r"no betas of a known layout.*nsd.*mindeye2"):
        open_recording(tmp_path)
    with pytest.raises(NotFound, match=r"no layout 'spm'"):
        open_recording(tmp_path, "spm")
    with pytest.raises(NotFound, match=r"nothing at"):
        open_recording(tmp_path / "away")


def test_an_example_overwrites_nothing(tmp_path):
    (tmp_path / "mine").write_text("data")
    with pytest.raises(Conflict, match=r"holds something"):
        write_example("npy", tmp_path)
    with pytest.raises(NotFound, match=r"no example"):
        write_example("simulated", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_bdata_in_the_old_spelling_is_the_same(examples, tmp_path):
    shutil.copy(examples["bdata"] / "sub-01.h5", tmp_path / "sub-01.h5")
    with h5py.File(tmp_path / "sub-01.h5", "r+") as file:
        file.move("dataset", "dataSet")
        file.move("metadata", "metaData")
    old, new = open_recording(tmp_path).read(), open_recording(examples["bdata"]).read()
    np.testing.assert_array_equal(old.values, new.values)
    np.testing.assert_array_equal(old.stimulus_ids, new.stimulus_ids)


def test_a_region_is_a_part_of_the_whole(examples):
    bdata = open_recording(examples["bdata"])
    np.testing.assert_array_equal(bdata.read(roi="ROI_V1").values, bdata.read().values[:, :30])
    laion = open_recording(examples["laion-fmri"])
    np.testing.assert_array_equal(laion.read(roi="visual").values, laion.read().values[:, :30])
    with pytest.raises(NotFound, match=r"no region 'V9'.*brain, visual"):
        laion.read(roi="V9")


def test_another_region_of_what_was_registered_counts_its_voxels_alike(examples, tmp_path):
    recording = open_recording(examples["laion-fmri"])
    reference = tmp_path / "subject.json"
    reference.write_text(register(recording, recording.index.subjects[0].subject, None).model_dump_json())
    (visual, places), (whole, every) = (read_region(reference, roi) for roi in ("visual", None))
    columns = [every.tolist().index(place) for place in places.tolist()]
    np.testing.assert_array_equal(whole.values[:, columns], visual.values)
    assert 0 < len(columns) < len(every)
    split = whole.labels["split_random_0"]
    np.testing.assert_array_equal(split, recording.read_split("random_0"))


def test_laion_splits_and_ceilings(examples):
    recording = open_recording(examples["laion-fmri"])
    assert recording.list_splits() == ("random_0",)
    split = recording.read_split("random_0")
    assert dict(zip(*np.unique(split, return_counts=True), strict=True)) == {"test": 18, "train": 54}
    ceiling = recording.read_map("Noiseceiling3rep")
    assert ceiling.shape == (60,)
    assert 0 <= ceiling.min() <= ceiling.max() <= 100
    with pytest.raises(NotFound, match=r"Noiseceiling12rep"):
        recording.read_map("Noiseceiling12rep")


def test_glmsingle_maps_of_python_and_of_matlab_agree(examples):
    recording = open_recording(examples["glmsingle"])
    for subject in ("sub-01", "sub-02"):
        np.testing.assert_array_equal(recording.read_map("R2", subject), np.full(60, 50, dtype=np.float32))


def test_sessions_may_be_chosen(examples):
    for layout in ("nsd", "mindeye2", "laion-fmri"):
        part = open_recording(examples[layout], options=ReadingOptions(sessions=(1, 3)))
        whole = open_recording(examples[layout]).read()
        rows = np.isin(whole.labels["session"], ["ses-01", "ses-03"])
        np.testing.assert_array_equal(part.read().values, whole.values[rows])
        np.testing.assert_array_equal(part.read().stimulus_ids, whole.stimulus_ids[rows])
        with pytest.raises(BadInput, match=r"4|9"):
            open_recording(examples[layout], options=ReadingOptions(sessions=(9,)))


def test_haxby_blocks_are_decoded_by_run(examples):
    betas = open_recording(examples["haxby"]).read()
    assert betas.values.shape == (16, 60)
    right = 0
    for run in np.unique(betas.labels["run"]):
        held = betas.labels["run"] == run
        means = {
            c: betas.values[~held & (betas.labels["category"] == c)].mean(0) for c in np.unique(betas.stimulus_ids)
        }
        for row in np.flatnonzero(held):
            best = max(means, key=lambda c: np.corrcoef(means[c], betas.values[row])[0, 1])
            right += best == betas.stimulus_ids[row]
    assert right == 16  # chance: 4


@pytest.mark.parametrize("layout", ["npy", "hdf5"])
def test_memory_holds_a_part_of_a_stream(layout, tmp_path):
    """Betas of 128 MB, of which a few hundred trials are held at a time."""
    trials, voxels = 8000, 4000
    if layout == "npy":
        np.lib.format.open_memmap(tmp_path / "betas.npy", "w+", np.float32, (trials, voxels))
        (tmp_path / "trials.tsv").write_text("stimulus\n" + "".join(f"s{row % 4000}\n" for row in range(trials)))
    else:
        with h5py.File(tmp_path / "betas.h5", "w") as file:
            file.create_dataset("betas", shape=(trials, voxels), dtype=np.float32, chunks=(100, voxels))
            file["stimulus"] = [f"s{row % 4000}" for row in range(trials)]
    tracemalloc.start()
    recording = open_recording(tmp_path)
    index = tracemalloc.get_traced_memory()[1]
    assert sum(len(values) for _, values in recording.stream()) == trials
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert index < 20e6
    assert peak < 50e6
