"""From a folder of BOLD to betas in one command, and from there to pictures."""

import shutil

import nibabel as nib
import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from voxelight.storage.formats.fmri.bold import index_bold
from voxelight.storage.formats.fmri.examples.bold import OPTIONS, write_bold_example
from voxelight.storage.formats.fmri.layouts import open_recording

SMALL = OPTIONS.model_copy(update={"voxels": 60, "runs": 2, "trials": 12, "stimuli": 12})


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bold") / "session"
    write_bold_example(folder, 0, SMALL)
    return folder


def test_a_folder_of_bold_becomes_betas_and_a_page(ask, shell, bids, tmp_path):
    grounds = ("--consent", "simulated", "--purpose", "tests")
    answer = ask("glm", bids, "--out", tmp_path / "out", "--recipe", "glm-lss", *grounds, "--name", "found",
                 "--hold-out", "01/01/run-2_task-pictures", "--option", "drift_degree=1")  # fmt: skip
    assert answer["job"]["status"] == "done"
    assert answer["job"]["simulated"] is True
    assert len(answer["results"]) == SMALL.runs
    recording = open_recording(tmp_path / "out", "nifti")
    betas = recording.read()
    assert betas.values.shape == (SMALL.runs * SMALL.trials, SMALL.voxels)
    assert "SIMULATED" in (tmp_path / "out" / "betas.html").read_text()
    assert {row["name"] for row in ask("datasets", "list")["items"]} == {"session", "found"}
    again = shell("glm", bids, "--out", tmp_path / "out", code=2)
    assert "holds" in again.stderr
    told = answer["results"][0]["provenance"]["options"]
    assert told["model"]["drift_degree"] == 1
    assert told["held_out"] == ["01/01/run-2_task-pictures"]


def test_what_has_no_use_is_refused(shell, bids, tmp_path):
    assert "--task" in shell("glm", "nothing", "--task", "x", "--out", tmp_path, code=2).stderr
    assert "'nothing'" in shell("glm", "nothing", "--out", tmp_path, code=3).stderr
    shell("glm", bids, "--dataset", "one", "--out", tmp_path, "--hold-out", "nobody", code=3)
    assert "fractions" in shell("glm", "one", "--out", tmp_path, "--option", "fractions=[2]", code=2).stderr


def test_an_example_can_be_written_to_see_the_format(ask, tmp_path):
    files = ask("datasets", "example", "bold", tmp_path / "example")["files"]
    assert sum(name.endswith("_events.tsv") for name in files) == OPTIONS.runs
    assert (tmp_path / "example" / "SIMULATED").is_file()
    assert len(index_bold(tmp_path / "example")) == OPTIONS.runs


def test_raw_runs_of_a_real_recording_become_block_betas(ask, shared_data, tmp_path):
    source = shared_data / "pymvpa_haxby" / "haxby2001" / "sub001" / "BOLD"
    func = tmp_path / "haxby" / "sub-01" / "func"
    func.mkdir(parents=True)
    for number in range(1, 7):
        stem = f"sub-01_task-objects_run-{number:02d}"
        shutil.copyfile(source / f"task001_run{number:03d}" / "bold_1slice.nii.gz", func / f"{stem}_bold.nii.gz")
        shutil.copyfile(source / f"task001_run{number:03d}" / "bold_events.tsv", func / f"{stem}_events.tsv")
    first = nib.load(func / "sub-01_task-objects_run-01_bold.nii.gz")
    mean = np.asarray(first.dataobj, dtype=np.float32).mean(3)
    inside = (mean > 0.3 * np.percentile(mean, 98)).astype(np.uint8)
    nib.save(nib.Nifti1Image(inside, first.affine), tmp_path / "brain.nii.gz")
    ask(
        "glm", tmp_path / "haxby", "--mask", tmp_path / "brain.nii.gz", "--out", tmp_path / "out", "--recipe", "glm-lss"
    )
    betas = open_recording(tmp_path / "out", "nifti").read()
    assert betas.values.shape == (48, int(inside.sum()))
    runs, categories = betas.labels["run"], betas.stimulus_ids
    right = []
    for held in np.unique(runs):
        model = make_pipeline(StandardScaler(), RidgeClassifier(100.0))
        model.fit(betas.values[runs != held], categories[runs != held])
        right.append((model.predict(betas.values[runs == held]) == categories[runs == held]).mean())
    assert np.mean(right) > 0.35  # chance is 0.125
