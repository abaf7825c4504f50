"""Models of an installation: written whole, read back verified, and listed beside those that ship."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import save

from voxelight.app.pipelines.segmenters import find_known, list_known
from voxelight.medseg.recipes import find_recipe
from voxelight.models.errors import BadInput, Conflict, NotFound, Unavailable
from voxelight.storage.trained import TrainedModel, TrainedModels

CONTENTS = [save({"weight": torch.full((2, 2), float(number))}) for number in range(2)]


def make(name="mine", contents=CONTENTS, **more):
    recipe = find_recipe("hippocampus-agunet").model_copy(update={"name": name})
    hashes = tuple(hashlib.sha256(content).hexdigest() for content in contents)
    facts = {"licence": "CC0-1.0", "source": "simulated", "card": "# Mine", "provenance": {"seed": 3}}
    return TrainedModel(recipe, hashes, **facts | more)


def test_what_was_written_is_read_back(tmp_path):
    models = TrainedModels(tmp_path)
    assert models.list() == []
    models.write(make(), CONTENTS)
    assert TrainedModels(tmp_path).list() == [make()]
    assert [float(state["weight"][0, 0]) for state in models.load("mine")] == [0, 1]
    models.remove("mine")
    assert not models.has("mine")
    with pytest.raises(NotFound, match="none yet"):
        models.load("mine")


def test_a_model_stands_beside_the_recipes_that_ship(tmp_path):
    TrainedModels(tmp_path).write(make(contents=CONTENTS[:1]), CONTENTS[:1])
    names = [known.recipe.name for known in list_known(tmp_path)]
    assert "hippocampus-agunet" in names
    assert names[-1] == "mine"
    known = find_known(tmp_path, "mine")
    assert known.sha256 == hashlib.sha256(CONTENTS[0]).hexdigest()
    assert known.licence == "CC0-1.0"
    assert torch.equal(known.load()[0]["weight"], torch.zeros(2, 2))


def test_the_hash_of_an_ensemble_names_every_fold():
    assert make().sha256 != make(contents=CONTENTS[::-1]).sha256
    assert make(contents=CONTENTS[:1]).sha256 == hashlib.sha256(CONTENTS[0]).hexdigest()


def test_names_that_no_model_can_have(tmp_path):
    models = TrainedModels(tmp_path)
    with pytest.raises(BadInput, match="letters"):
        models.write(make("../elsewhere"), CONTENTS)
    with pytest.raises(Conflict, match="packaged"):
        models.write(make("hippocampus-agunet"), CONTENTS)
    models.write(make(), CONTENTS)
    with pytest.raises(Conflict, match="already"):
        models.write(make(), CONTENTS)
    models.write(make(licence="MIT"), CONTENTS, replace=True)
    assert models.find("mine").licence == "MIT"
    assert not models.has("../mine")


def test_a_failed_write_leaves_the_model_before(tmp_path):
    models = TrainedModels(tmp_path)
    models.write(make(), CONTENTS)
    with pytest.raises(TypeError):
        models.write(make(provenance={"not": object()}), CONTENTS, replace=True)
    assert models.list() == [make()]
    assert [path.name for path in (tmp_path / "segmentation").iterdir()] == ["mine"]


def test_damage_is_told_and_hides_no_other_model(tmp_path):
    models = TrainedModels(tmp_path)
    models.write(make("changed"), CONTENTS)
    models.write(make("cut"), CONTENTS)
    models.write(make("whole"), CONTENTS)
    (tmp_path / "segmentation" / "changed" / "weights-1.safetensors").write_bytes(CONTENTS[0])
    (tmp_path / "segmentation" / "cut" / "model.json").write_text(json.dumps({"format": 1}))
    (tmp_path / "segmentation" / "whole" / "weights-1.safetensors").unlink()
    assert [model.name for model in models.list()] == ["changed", "whole"]
    with pytest.raises(Conflict, match="sha256"):
        models.load("changed")
    with pytest.raises(Unavailable, match="weights-1"):
        models.load("whole")
    with pytest.raises(BadInput, match="can't be read"):
        models.find("cut")
