import hashlib
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import save

from voxelight.medseg.audit import audit_segmenter
from voxelight.medseg.predict import build_segmenter
from voxelight.medseg.recipes import find_recipe
from voxelight.models.segmentation.cdal import CDALConfig
from voxelight.models.weights import load_weights
from voxelight.storage.formats.cases import read_cases
from voxelight.storage.trained import TrainedModel, TrainedModels


@pytest.fixture
def cases(hippocampus, tmp_path):
    """Two real crops with their labels: in-sample for the weights that ship, which does for a test of the command."""
    for part in ("images", "labels"):
        (tmp_path / "data" / part).mkdir(parents=True)
        for path in hippocampus[:2]:
            (tmp_path / "data" / part / path.name).symlink_to(path.parents[1] / part / path.name)
    return tmp_path / "data"


@pytest.fixture
def own_model(home):
    """A model of the installation with the weights that ship, given twice: an ensemble of two."""
    content = save({name: value.contiguous() for name, value in load_weights("hippocampus-agunet").items()})
    recipe = find_recipe("hippocampus-agunet").model_copy(update={"name": "mine"})
    sha256s = (hashlib.sha256(content).hexdigest(),) * 2
    TrainedModels(home / "weights").write(TrainedModel(recipe, sha256s, "CC-BY-SA-4.0", "a test"), [content, content])
    return "mine"


def test_a_model_keeps_its_temperature_and_jobs_use_it(ask, shell, own_model, cases, hippocampus, home, tmp_path):
    answer = ask("calibrate", own_model, "--data", cases, "--keep", "--out", tmp_path / "fit.json")
    assert answer["kept"]
    assert answer["nll_after"] <= answer["nll_before"]
    assert json.loads((tmp_path / "fit.json").read_text())["temperature"] == answer["temperature"]
    stored = TrainedModels(home / "weights").find(own_model)
    assert stored.recipe.temperature == answer["temperature"]
    assert stored.provenance["calibration"]["cases"] == 2
    ask("segment", hippocampus[0], "--recipe", own_model, "--out", tmp_path / "out")
    [sidecar] = (tmp_path / "out").glob("*.json")
    done = json.loads(sidecar.read_text())["Provenance"]
    assert done["options"]["temperature"] == answer["temperature"]
    assert done["options"]["folds"] == 2
    assert done["weights_sha256"] == stored.sha256
    shell("calibrate", "hippocampus-agunet", "--data", cases, "--keep", code=3)


def test_the_card_says_what_is_shown_as_uncertainty_and_by_which_curves(
    ask, own_model, cases, hippocampus, home, tmp_path
):
    for path in (cases / "images").iterdir():  # one is enough here
        if path.name != hippocampus[0].name:
            path.unlink()
            (cases / "labels" / path.name).unlink()
    answer = ask("calibrate", own_model, "--data", cases, "--uncertainty", "--keep")
    assert set(answer["areas"]) == {"entropy", "folds"}  # an ensemble of one network twice has no spread
    assert answer["uncertainty"] == "entropy"
    stored = TrainedModels(home / "weights").find(own_model)
    assert "Shown: entropy." in stored.card
    assert f"folds {answer['areas']['folds']:.4f}" in stored.card
    assert stored.provenance["uncertainty"]["cases"] == 1
    ask("segment", hippocampus[0], "--recipe", own_model, "--out", tmp_path / "out", "--uncertainty")
    [found] = (tmp_path / "out").glob("*_uncertainty.nii.gz")
    image, source = nib.load(found), nib.load(hippocampus[0])
    assert image.shape == source.shape
    np.testing.assert_allclose(image.affine, source.affine)
    values = image.get_fdata()
    assert 0 <= values.min() < values.max() <= 1
    labels = nib.load(next((tmp_path / "out").glob("*_dseg.nii.gz"))).get_fdata()
    assert values[labels > 0].mean() > values[labels == 0].mean()


def test_what_diffusion_adds_is_said_of_every_labelled_slice(ask, shell, own_model, cases, hippocampus, home, tmp_path):
    for path in (cases / "images").iterdir():
        if path.name != hippocampus[0].name:
            path.unlink()
            (cases / "labels" / path.name).unlink()
    torch.manual_seed(0)
    config = {"classes": 3, "width": 8, "multipliers": (1, 2), "encoder_blocks": 1, "latent": 4, "embedding": 8,
              "mapping_layers": 1, "steps": 2, "votes": 2}  # fmt: skip
    weights = CDALConfig(**config).build().state_dict()
    content = save({name: value.contiguous() for name, value in weights.items()})
    recipe = find_recipe("hippocampus-cdal").model_copy(update={"name": "little", "config": config})
    sha256 = hashlib.sha256(content).hexdigest()
    TrainedModels(home / "weights").write(TrainedModel(recipe, (sha256,), "CC-BY-SA-4.0", "a test"), [content])
    answer = ask("calibrate", "little", "--data", cases, "--diffusion", "--out", tmp_path / "audit.json")
    read = read_cases(cases, recipe.labels)
    expected = audit_segmenter(read, build_segmenter(recipe, weights, "cpu"))
    assert answer["images"] == int(read[0].labels.array.any(axis=(0, 1)).sum())
    assert set(answer["dice"]) == {"full", "random-yt", "shuffle-yt", "core-no-diff"}
    for condition, mean in expected.means.items():
        assert answer["dice"][condition]["mean"] == pytest.approx(mean.estimate)
    for condition, loss in expected.gains.items():
        assert answer["loss"][condition]["mean"] == pytest.approx(loss.estimate)
    told = json.loads((tmp_path / "audit.json").read_text())
    assert (told["dice"], told["weights_sha256"]) == (answer["dice"], sha256)
    assert "core-no-diff" in shell("calibrate", "little", "--data", cases, "--diffusion").stdout
    shell("calibrate", own_model, "--data", cases, "--diffusion", code=2)
    shell("calibrate", "little", "--data", cases, "--diffusion", "--keep", code=2)
