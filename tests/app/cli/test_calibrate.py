import hashlib
import json

import pytest
from safetensors.torch import save

from voxelight.medseg.recipes import find_recipe
from voxelight.models.weights import load_weights
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
