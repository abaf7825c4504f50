"""Training from the shell: a step on real cases, weights and scores in one go or not at all."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from voxelight.app.schemas import Problem
from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.segment import build_segmenter, segment
from voxelight.medseg.splits import find_split
from voxelight.storage.formats.cases import read_cases

RECIPE = "hippocampus-agunet"


@pytest.fixture
def cases(shared_data, tmp_path):
    """Six real cases, two of them held out by the recorded split."""
    source = shared_data / "msd_task04_hippocampus"
    names = sorted(path.name.removesuffix(".nii.gz") for path in (source / "images").glob("*.nii.gz"))
    split = find_split(RECIPE, names)
    for name in (*split.folds[0][:2], *split.rest(0)[:4]):
        for place in ("images", "labels"):
            (tmp_path / "cases" / place).mkdir(parents=True, exist_ok=True)
            shutil.copy(source / place / f"{name}.nii.gz", tmp_path / "cases" / place)
    return tmp_path / "cases", set(split.folds[0][:2])


def test_a_step_gives_weights_that_segment_and_scores_of_what_was_held_out(ask, cases, tmp_path):
    folder, held_out = cases
    answer = ask(
        "train", RECIPE, "--data", folder, "--out", tmp_path / "out", "--steps", 1, "--seed", 7, "--device", "cpu"
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{RECIPE}.safetensors", f"{RECIPE}_scores.json"}
    scores = json.loads((tmp_path / "out" / f"{RECIPE}_scores.json").read_text())
    assert set(scores["by_case"]) == held_out
    assert (scores["trained_on"], scores["held_out"], scores["recipe"]["training"]["steps"]) == (4, 2, 1)
    assert set(answer["dice"]) <= {"anterior", "posterior"}
    weights = load_file(tmp_path / "out" / f"{RECIPE}.safetensors")
    assert {tensor.dtype for tensor in weights.values()} <= {torch.float16, torch.int64}
    recipe = find_recipe(RECIPE)
    case = read_cases(folder, recipe.labels)[0]
    assert segment(case.volume, build_segmenter(recipe, weights, "cpu")).array.shape == case.volume.geometry.shape


def test_what_can_not_be_trained_leaves_nothing(shell, cases, tmp_path):
    folder, _ = cases
    out = tmp_path / "out"
    shell("train", "absent", "--data", folder, "--out", out, code=3)
    shell("train", "hippocampus-mni", "--data", folder, "--out", out, code=2)
    (folder / "labels" / next((folder / "labels").iterdir()).name).unlink()
    result = shell("train", RECIPE, "--data", folder, "--out", out, "--everything", "--json", code=2)
    assert "labels only" in Problem.model_validate_json(result.stderr).found
    assert not out.exists()
