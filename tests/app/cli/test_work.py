"""Segment and reconstruct with no server; what is written is what is stored."""

import json
import re
import shutil
import signal
import time

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from voxelight.app.bootstrap import open_services
from voxelight.app.cli import main
from voxelight.app.schemas import ResultQuery
from voxelight.app.settings import Settings

CONSENT = ("--consent", "simulated", "--purpose", "a test")


def test_real_volumes_become_label_maps_with_sidecars(ask, hippocampus, tmp_path):
    out = tmp_path / "labels"
    answer = ask("segment", *hippocampus[:2], "--recipe", "hippocampus-agunet", "--out", out)
    assert answer["job"]["status"] == "done"
    stems = [path.name.removesuffix(".nii.gz") for path in hippocampus[:2]]
    written = {f"{stem}{end}" for stem in stems for end in ("_dseg.nii.gz", "_dseg.json", "_overlay.png")}
    assert {path.name for path in out.iterdir()} == written
    for path, stem in zip(hippocampus[:2], stems, strict=True):
        image, labels = nib.load(path), nib.load(out / f"{stem}_dseg.nii.gz")
        assert labels.shape == image.shape
        np.testing.assert_array_equal(labels.affine, image.affine)
        sidecar = json.loads((out / f"{stem}_dseg.json").read_text())
        counts = np.bincount(np.asarray(labels.dataobj).ravel(), minlength=3)
        voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
        for number, name in sidecar["LabelNames"].items():
            assert sidecar["VolumesMl"][name] == pytest.approx(counts[int(number)] * voxel_ml)
        assert 0.5 < sum(sidecar["VolumesMl"].values()) < 6
        assert len(sidecar["Provenance"]["weights_sha256"]) == 64
        assert sidecar["Notice"] == "Not for clinical use."
        assert Image.open(out / f"{stem}_overlay.png").size > (50, 50)


def test_a_home_may_be_named_from_where_one_stands_and_an_empty_name_is_none(
    home, crops, tmp_path, monkeypatch, one_thread
):
    monkeypatch.chdir(tmp_path)
    words = ["--home", home.name, "segment", str(crops[0]), "--recipe", "hippocampus-agunet", "--out", "out", "--json"]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["job"]["status"] == "done"
    assert len(list((tmp_path / "out").glob("*_dseg.nii.gz"))) == 1
    monkeypatch.setenv("VOXELIGHT_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    assert Settings().home == tmp_path / "person/.voxelight"


def test_the_same_file_is_stored_once_and_gives_the_same_bytes(ask, shell, hippocampus, tmp_path):
    for out in ("first", "second"):
        shell("segment", hippocampus[0], "--recipe", "hippocampus-agunet", "--out", tmp_path / out)
    names = [path.name for path in (tmp_path / "first").glob("*.nii.gz")]
    assert [(tmp_path / "first" / name).read_bytes() for name in names] == [
        (tmp_path / "second" / name).read_bytes() for name in names
    ]
    assert ask("datasets", "show", "shell")["scans"] == 1
    assert len(ask("jobs", "list")["items"]) == 2
    assert [model["name"] for model in ask("models", "list")] == ["hippocampus-agunet"]


def test_two_files_of_one_name_are_refused_before_anything_is_stored(shell, ask, crops, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(crops[0], tmp_path / name / "same.nii.gz")
    result = shell(
        "segment", tmp_path / "one", tmp_path / "two", "--recipe", "hippocampus-agunet", "--out", tmp_path, code=2
    )
    assert "label maps would have one name" in result.stderr
    assert ask("datasets", "list")["items"] == []


def test_what_can_not_be_segmented_is_refused(shell, ask, tmp_path):
    series = tmp_path / "series.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8, 2), dtype=np.float32), np.eye(4)), series)
    result = shell("segment", series, "--recipe", "hippocampus-agunet", "--out", tmp_path / "out", code=2)
    assert "series" in result.stderr
    assert ask("jobs", "list")["items"] == []
    assert not (tmp_path / "out").exists()


def test_an_item_that_fails_is_reported_and_the_others_are_written(shell, hippocampus, tmp_path):
    whole = tmp_path / "whole_head.nii.gz"
    array = np.random.default_rng(0).normal(100, 10, (110, 110, 110)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 2, 2, 1])), whole)
    out = tmp_path / "out"
    result = shell("segment", whole, hippocampus[0], "--recipe", "hippocampus-agunet", "--out", out, code=2)
    assert "1 of 2 items failed" in result.stderr
    assert "whole_head.nii.gz" in result.stderr
    assert len(list(out.glob("*_dseg.nii.gz"))) == 1


def test_ctrl_c_cancels_the_job_and_retry_is_named(start, home, crops, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        shutil.copy(crops[number % 3], folder / f"crop{number:02d}.nii.gz")
    process = start("segment", folder, "--recipe", "hippocampus-agunet", "--out", tmp_path / "out")
    services = open_services(Settings(home=home))
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        jobs = services.jobs.list().items
        if jobs and jobs[0].done:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    job = services.jobs.list().items[0]
    services.close()
    assert process.returncode == 130
    assert f"voxelight jobs retry {job.id}" in said
    assert "Traceback" not in said
    assert job.status == "cancelled"
    assert 0 < job.done < job.total


def test_a_recording_becomes_pictures_scores_and_provenance(ask, recording, tmp_path):
    out = tmp_path / "out"
    words = ("reconstruct", recording, "--recipe", "miyawaki-ridge", "--out", out, "--permutations", 19, "--seed", 5)
    answer = ask(*words, *CONSENT)
    assert answer["job"]["simulated"]
    assert answer["job"]["seed"] == 5
    assert len(list((out / "pictures").glob("*_stimulus.png"))) == 8
    assert len(list((out / "pictures").glob("*_reconstruction.png"))) == 8
    assert (out / "contact_sheet.png").is_file()
    scores = json.loads((out / "scores.json").read_text())
    assert scores["simulated"] is True
    assert scores["permutations"] == 19
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["simulated"] is True
    assert len(provenance["runs"]) == 8
    assert {len(run["weights_sha256"]) for run in provenance["runs"].values()} == {64}
    two_way = next(metric for metric in answer["job"]["metrics"] if metric["name"] == "two_way")
    assert two_way["value"] == next(row["value"] for row in scores["scores"] if row["name"] == "two_way")


def test_a_person_sees_scores_with_their_null_and_that_they_are_simulated(shell, recording, tmp_path):
    words = ("reconstruct", recording, "--recipe", "miyawaki-ridge", "--out", tmp_path / "out", "--permutations", 19)
    said = shell(*words, *CONSENT).stdout
    assert "SIMULATED" in said
    assert "normalisation: training-rows" in said
    assert "not a photograph of thought" in said
    header = next(line for line in said.splitlines() if "score" in line)
    assert re.split(r" {2,}", header.strip()) == ["score", "value", "interval", "null mean", "p"]


def test_decoding_asks_on_what_ground_and_what_for(shell, ask, recording, tmp_path):
    words = ("reconstruct", recording, "--recipe", "miyawaki-ridge", "--out", tmp_path / "out")
    shell(*words, code=5)
    shell(*words, "--consent", "public", code=5)
    shell(*words, "--consent", "none", "--purpose", "x", code=5)
    assert ask("datasets", "list")["items"] == []
    shell("datasets", "create", "d")
    shell("reconstruct", "d", *words[2:], *CONSENT, code=2)


def test_a_stored_data_set_is_decoded_by_name(shell, ask, recording, tmp_path):
    shell("ingest", recording, "--dataset", "d", "--create", "--consent", "given", "--purpose", "a test")
    answer = ask("reconstruct", "d", "--recipe", "miyawaki-ridge", "--out", tmp_path / "out", "--permutations", 0)
    assert (answer["job"]["status"], answer["job"]["simulated"]) == ("done", False)


def test_the_shell_shows_what_the_services_store(ask, home, recording, tmp_path):
    words = ("reconstruct", recording, "--recipe", "miyawaki-ridge", "--out", tmp_path / "out", "--permutations", 0)
    job = ask(*words, *CONSENT)["job"]
    services = open_services(Settings(home=home))
    stored = [result.model_dump(mode="json") for result in services.results.walk(ResultQuery())]
    services.close()
    assert ask("results", "list")["items"] == stored
    assert ask("jobs", "show", job["id"])["metrics"] == job["metrics"]


def test_how_a_recipe_is_applied_is_chosen_and_recorded(ask, hippocampus, tmp_path):
    ask("segment", hippocampus[0], "--recipe", "hippocampus-agunet", "--out", tmp_path / "plain", "--confidence")
    wishes = ("--no-mirror", "--temperature", 2, "--smallest-ml", 1.4, "--fill-holes", "--confidence")
    ask("segment", hippocampus[0], "--recipe", "hippocampus-agunet", "--out", tmp_path / "other", *wishes)
    stem = hippocampus[0].name.removesuffix(".nii.gz")
    facts, sure, labels = {}, {}, {}
    for name in ("plain", "other"):
        facts[name] = json.loads((tmp_path / name / f"{stem}_dseg.json").read_text())
        image = nib.load(tmp_path / name / f"{stem}_confidence.nii.gz")
        np.testing.assert_allclose(image.affine, nib.load(hippocampus[0]).affine, atol=1e-5)
        sure[name] = image.get_fdata()
        labels[name] = np.asarray(nib.load(tmp_path / name / f"{stem}_dseg.nii.gz").dataobj)
    done = {name: each["Provenance"]["options"] for name, each in facts.items()}
    assert (
        done["plain"] | {"mirror_axes": [], "temperature": 2.0, "smallest_ml": 1.4, "fill_holes": True} == done["other"]
    )
    assert done["plain"]["mirror_axes"] == [0]
    assert done["plain"]["folds"] == 1
    assert (sure["plain"].min(), sure["plain"].max()) == (pytest.approx(0.5, abs=0.17), pytest.approx(1, abs=0.002))
    assert sure["other"].mean() < sure["plain"].mean()
    small = [name for name, volume in facts["plain"]["VolumesMl"].items() if volume < 1.3]
    assert small  # the anterior part of this one has 1.299 ml
    assert {name: facts["other"]["Cleaned"][name]["removed_ml"] > 1 for name in small} == {"anterior": True}
    assert set(np.unique(labels["other"])) == {0, 2}


def test_what_a_recipe_can_not_do_is_refused(shell, hippocampus, tmp_path):
    for wish, words in ((("--folds", 2), "2 folds"), (("--half",), "half precision")):
        result = shell("segment", hippocampus[0], "--recipe", "hippocampus-agunet", "--out", tmp_path, *wish, code=2)
        assert words in result.stderr
