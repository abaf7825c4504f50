"""Training from the shell: a step on real cases, weights and scores in one go or not at all."""

import json
import shutil

import nibabel as nib
import numpy as np
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
    written = {f"{RECIPE}.safetensors", f"{RECIPE}_scores.json", f"{RECIPE}_curve.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_file()} == written
    scores = json.loads((tmp_path / "out" / f"{RECIPE}_scores.json").read_text())
    assert set(scores["by_case"]) == held_out
    assert (scores["trained_on"], scores["held_out"], scores["recipe"]["training"]["steps"]) == (4, 2, 1)
    assert set(answer["dice"]) <= {"anterior", "posterior"}
    weights = load_file(tmp_path / "out" / f"{RECIPE}.safetensors")
    assert {tensor.dtype for tensor in weights.values()} <= {torch.float16, torch.int64}
    recipe = find_recipe(RECIPE)
    case = read_cases(folder, recipe.labels)[0]
    assert segment(case.volume, build_segmenter(recipe, weights, "cpu")).array.shape == case.volume.geometry.shape


def test_a_training_that_starts_from_weights_that_ship_begins_where_they_are(ask, cases, tmp_path):
    folder, _ = cases
    still = ("--training", "learning_rate=1e-9", "--training", "batch=2", "--steps", 1, "--device", "cpu")
    for name, start in (("fresh", ()), ("tuned", ("--start-from", RECIPE))):
        ask("train", RECIPE, "--data", folder, "--out", tmp_path / name, "--keep", name, *start, *still)
    fresh, tuned = (
        json.loads((tmp_path / name / f"{RECIPE}_scores.json").read_text())["by_case"] for name in ("fresh", "tuned")
    )
    assert all(found["anterior"] > 0.75 for found in tuned.values())
    assert all(found.get("anterior", 0) < 0.3 for found in fresh.values())
    card = ask("recipes", "show", "tuned")["card"]
    assert f"| started from | {RECIPE};" in card


def test_what_can_not_be_trained_leaves_nothing(shell, cases, tmp_path):
    folder, _ = cases
    out = tmp_path / "out"
    shell("train", "absent", "--data", folder, "--out", out, code=3)
    shell("train", "hippocampus-mni", "--data", folder, "--out", out, code=2)
    shell("train", RECIPE, "--data", folder, "--out", out, "--start-from", "absent", code=3)
    told = shell("train", RECIPE, "--data", folder, "--out", out, "--start-from", "lungs-jsrt", "--json", code=3)
    assert Problem.model_validate_json(told.stderr).expected == "a recipe with weights"
    told = shell("train", RECIPE, "--data", folder, "--out", out, "--start-from", "nuclei-msga", "--json", code=2)
    assert (
        Problem.model_validate_json(told.stderr).found
        == "nuclei-msga, weights of msga, to start a training of agunet from"
    )
    (folder / "labels" / next((folder / "labels").iterdir()).name).unlink()
    result = shell("train", RECIPE, "--data", folder, "--out", out, "--everything", "--json", code=2)
    assert "labels only" in Problem.model_validate_json(result.stderr).found
    shell("train", RECIPE, "--data", folder, "--out", out, "--fold", 0, "--everything", code=2)
    assert not out.exists()


@pytest.fixture
def balls(tmp_path):
    """Six simulated cases: a bright ball of two halves each."""
    random = np.random.default_rng(0)
    at = np.stack(np.meshgrid(*[np.arange(20)] * 3, indexing="ij"))
    for number in range(6):
        centre = random.uniform(8, 12, 3)[:, None, None, None]
        labels = (np.square(at - centre).sum(axis=0) < 30) * np.where(at[1] > centre[1], 1, 2)
        image = (labels * 2 + 0.3 * random.standard_normal(labels.shape)).astype(np.float32)
        for place, array in (("images", image), ("labels", labels.astype(np.uint8))):
            (tmp_path / "balls" / place).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "balls" / place / f"ball{number}.nii.gz")
    return tmp_path / "balls"


def test_a_plan_is_edited_trained_in_every_fold_and_kept_as_a_model(ask, shell, balls, tmp_path):
    planned = tmp_path / "halves.toml"
    answer = ask("plan", balls, "--out", planned, "--label", "1=front", "--label", "2=back", "--width", 4, "--steps", 8)
    assert (answer["cases"], answer["window"], answer["spacing_mm"]) == (6, [20, 20, 20], [1.0, 1.0, 1.0])
    text = planned.read_text()
    assert "# the median of each axis" in text
    planned.write_text(text.replace('loss = "dice_ce"', 'loss = "dice_focal"'))
    groups = tmp_path / "groups.csv"
    groups.write_text("case,group\n" + "".join(f"ball{number},person{number // 2}\n" for number in range(6)))
    out = tmp_path / "out"
    words = ("train", planned, "--data", balls, "--out", out, "--all-folds", "--groups", groups, "--device", "cpu")
    answer = ask(*words, "--tensorboard", "--keep", "my-halves")
    table = json.loads((out / "halves_folds.json").read_text())
    assert set(table["folds"]) == {"0", "1", "2"}
    assert set(table["pooled"]) == set(table["spread"]) == set(answer["dice"]) == {"front", "back"}
    held_out = [set(json.loads((out / f"halves_fold-{n}_scores.json").read_text())["by_case"]) for n in range(3)]
    assert sorted(map(len, held_out)) == [2, 2, 2]
    assert all(len({int(name[-1]) // 2 for name in fold}) == 1 for fold in held_out), "a person stays together"
    rows = (out / "halves_fold-0_curve.csv").read_text().splitlines()
    assert (len(rows), rows[-1].split(",")[0]) == (9, "7")
    assert list((out / "work" / "halves_fold-0" / "tensorboard").glob("events*"))
    card = ask("recipes", "show", "my-halves")["card"]
    assert "front" in card
    assert "| data | balls: 4 cases |" in card
    image = next((balls / "images").iterdir())
    done = ask("segment", image, "--recipe", "my-halves", "--out", tmp_path / "segmented")
    assert done["results"][0]["labels"] == {"1": "front", "2": "back"}
    shell("train", planned, "--data", balls, "--out", out, "--keep", "my-halves", code=4)


def test_another_network_and_other_options_on_the_same_recipe(ask, shell, balls, tmp_path):
    planned, out = tmp_path / "halves.toml", tmp_path / "out"
    ask("plan", balls, "--out", planned, "--width", 4, "--steps", 3)
    words = ("--config", "filters=8", "--config", "blocks_down=[1,1]", "--config", "blocks_up=[1]")
    train = ("train", planned, "--data", balls, "--device", "cpu", "--network", "segresnet", *words)
    ask(*train, "--out", out, "--training", "batch=2")
    recipe = json.loads((out / "halves_scores.json").read_text())["recipe"]
    assert (recipe["network"], recipe["config"]["filters"], recipe["training"]["batch"]) == ("segresnet", 8, 2)
    for wrong, code in ((("--training", "bach=2"), 2), (("--network", "unet5"), 3), (("--config", "filter=2"), 2)):
        shell(*train, "--out", tmp_path / "other", *wrong, code=code)
        assert not list((tmp_path / "other").glob("*.safetensors"))
