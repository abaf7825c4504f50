import gzip
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from voxelight.medseg.evaluate import dice

RECIPE = ("--recipe", "hippocampus-agunet")


@pytest.fixture(scope="module")
def references(shared_data):
    return shared_data / "msd_task04_hippocampus/labels"


@pytest.fixture
def segmented(ask, hippocampus, tmp_path):
    """Two real crops: the job, and the folder with their label maps."""
    answer = ask("segment", *hippocampus[:2], *RECIPE, "--out", tmp_path / "found", "--confidence")
    return answer["job"]["id"], tmp_path / "found"


def read(path):
    return np.asarray(nib.load(path).dataobj).round().astype(int)


def test_a_job_is_scored_against_references_as_its_files_are(ask, segmented, references, hippocampus, tmp_path):
    job, folder = segmented
    groups = tmp_path / "groups.tsv"
    stems = [path.name.removesuffix(".nii.gz") for path in hippocampus[:2]]
    groups.write_text("case\tperson\n" + "".join(f"{stem}\tthe same\n" for stem in stems))
    reports = {}
    for name, words in {"job": (job,), "folder": ("--found", folder, "--groups", groups)}.items():
        answer = ask("evaluate", *words, "--references", references, "--out", tmp_path / name)
        assert [path.rsplit(".", 1)[1] for path in answer["files"]] == ["html", "json", "csv"]
        reports[name] = json.loads((tmp_path / name / "report.json").read_text())
    assert [case["labels"] for case in reports["job"]["cases"]] == [
        case["labels"] for case in reports["folder"]["cases"]
    ]
    for case, stem in zip(reports["job"]["cases"], stems, strict=True):
        found, reference = read(folder / f"{stem}_dseg.nii.gz"), read(references / f"{stem}.nii.gz")
        for number, label in ((1, "anterior"), (2, "posterior")):
            scores = case["labels"][label]
            assert scores["dice"] == pytest.approx(dice(found, reference, number))
            assert scores["reference_ml"] == pytest.approx((reference == number).sum() / 1000, rel=1e-3)
            assert 0.8 < scores["nsd"] <= 1
        assert 0 < case["ece"] < case["ece_border"] < 0.3
    persons = {name: {label["scores"]["dice"]["persons"] for label in each["labels"]} for name, each in reports.items()}
    assert persons == {"job": {2}, "folder": {1}}
    assert reports["job"]["provenance"]["recipe"] == "hippocampus-agunet"
    assert int(reports["job"]["conditions"]["Without a label map, left out"]) > 100


def test_two_runs_are_compared_and_what_is_missing_can_count(ask, segmented, references, hippocampus, tmp_path):
    _, folder = segmented
    few, worse = tmp_path / "few", tmp_path / "worse"
    few.mkdir()
    for path in hippocampus:
        shutil.copy(references / path.name, few)
    worse.mkdir()
    for path in few.glob("*.nii.gz"):
        image = nib.load(path)
        moved = np.roll(np.asarray(image.dataobj), 2, axis=0)
        nib.save(nib.Nifti1Image(moved, image.affine), worse / path.name)
    names = ("--label", "1=anterior", "--label", "2=posterior", "--region", "whole=anterior,posterior")
    words = ("--found", folder, "--against", worse, "--references", few, "--missing", "empty", *names)
    ask("evaluate", *words, "--out", tmp_path / "report")
    report = json.loads((tmp_path / "report/report.json").read_text())
    [summary] = [each for each in report["labels"] if each["label"] == "anterior"]
    assert summary["presence"] == {"both": 2, "missed": 1, "invented": 0, "neither": 0}
    assert report["conditions"]["Without a label map, counted as missed"] == "1"
    assert [each["label"] for each in report["labels"]] == ["anterior", "posterior", "whole"]
    [test] = report["tests"]["anterior"]["dice"]
    assert (test["test"], test["pairs"]) == ("wilcoxon", 3)
    scores = {case["case"]: case["labels"]["anterior"]["dice"] for case in report["cases"]}
    others = {}
    for path in few.glob("*.nii.gz"):
        others[path.name.removesuffix(".nii.gz")] = dice(read(worse / path.name), read(path), 1)
    assert test["difference"] == pytest.approx(np.mean([scores[case] - others[case] for case in others]))


def test_what_can_not_be_scored_is_refused(shell, segmented, references, tmp_path):
    job, folder = segmented
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, told in (
        (("--found", folder), "no reference"),
        ((job, "--references", references, "--corrections"), "two kinds"),
        (("--references", references), "0 jobs and 0 folders"),
        ((job, "--corrections"), "at least one of one name"),
        ((job, "--references", empty), "no NIfTI, NRRD or MetaImage file"),
        (("--found", references, "--references", references), "no names of labels"),
        ((job,), "a job that decoded"),
    ):
        result = shell("evaluate", *words, "--out", tmp_path / "none", code=2)
        assert told in " ".join(result.stderr.split()), (words, result.stderr)
    assert not (tmp_path / "none").exists()


def test_one_bad_case_is_left_out_with_its_reason_and_the_others_are_scored(shell, segmented, references, tmp_path):
    """Damaged, a label without a name, another grid; each beside a reference that is sound."""
    _, folder = segmented
    [good, bad] = sorted(path.name.removesuffix("_dseg.nii.gz") for path in folder.glob("*_dseg.nii.gz"))
    drawn = nib.load(references / f"{bad}.nii.gz")
    strange, moved = read(references / f"{bad}.nii.gz").astype(np.uint8), drawn.affine.copy()
    strange[0, 0, 0] = 9
    moved[0, 3] += 3
    whole = (references / f"{bad}.nii.gz").read_bytes()
    spoilt = {
        "cut off": (whole[: len(whole) // 2], "cut off"),
        "label": (gzip.compress(nib.Nifti1Image(strange, drawn.affine).to_bytes()), "without a name: [9]"),
        "grid": (gzip.compress(nib.Nifti1Image(strange % 9, moved).to_bytes()), "one grid"),
    }
    for name, (content, reason) in spoilt.items():
        few, out = tmp_path / name, tmp_path / f"{name} report"
        few.mkdir()
        sound = few / f"{good}{'.nrrd' if name == 'grid' else '.nii.gz'}"
        SimpleITK.WriteImage(SimpleITK.ReadImage(references / f"{good}.nii.gz"), sound)
        (few / f"{bad}.nii.gz").write_bytes(content)
        words = ("evaluate", "--found", folder, "--references", few)
        told = shell(*words, "--out", out, code=2)
        assert f"Left out of found: {bad}" in told.stderr
        report = json.loads((out / "report.json").read_text())
        [case] = report["cases"]
        assert case["case"] == good
        expected = dice(read(folder / f"{good}_dseg.nii.gz"), read(references / f"{good}.nii.gz"), 1)
        assert case["labels"]["anterior"]["dice"] == pytest.approx(expected), sound.name
        assert list(report["left_out"]) == [bad]
        assert reason in report["left_out"][bad], report["left_out"]
        page = (out / "report.html").read_text()
        assert "Cases that could not be scored" in page
        assert bad in page
        sound.unlink()
        refused = shell(*words, "--out", tmp_path / "none", code=2)
        assert reason in " ".join(refused.stderr.split()), "where nothing is left, the reason is the answer"
    assert not (tmp_path / "none").exists()
