from functools import partial

import pytest
import torch

from voxelight.models.diffusion.prior_network import move_on
from voxelight.models.training.loop import Hooks, LoopOptions
from voxelight.neuro.train import fit_decoder
from voxelight.neuro.training import compiled as module
from voxelight.neuro.training.recipe import Losses, find_training_recipe
from voxelight.neuro.training.samples import TrainingData


class Curve:
    def __init__(self):
        self.rows = []

    def write(self, rows):
        self.rows += rows

    def rewind(self, step):
        assert step == 0


def test_a_compiled_training_is_the_same_training(small, make_network, tmp_path, monkeypatch):
    """By the tracer alone: what it hands to the compiler is run as it is."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(torch._dynamo.config, "error_on_recompile", True)
    subject, recipe = small.make_subject("s"), small.make_recipe(epochs=2)
    curves = []
    for wanted in (False, True):
        data = TrainingData((subject,), small.make_targets(tmp_path / str(wanted), [subject]), frozenset())
        network, curve = make_network(data, recipe), Curve()
        fit_decoder(network, data, recipe, "cpu", Hooks(log=curve), LoopOptions(), compile_layers=wanted)
        assert network.diffusion_prior.net.causal_transformer.move_on is move_on
        curves.append([row["loss"] for row in curve.rows])
    assert len(curves[0]) > 3
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)


def test_what_is_long_and_on_a_gpu_is_compiled(monkeypatch):
    monkeypatch.setattr(module, "can_compile", lambda: True)
    recipe, gpu = find_training_recipe("mindeye2-finetune"), torch.device("cuda")
    assert module.pays(recipe, 4650, gpu)
    assert not module.pays(recipe, 500, gpu)
    assert not module.pays(recipe, 4650, torch.device("cpu"))
    assert not module.pays(recipe.model_copy(update={"precision": "fp32"}), 4650, gpu)
    assert not module.pays(recipe.model_copy(update={"losses": Losses(prior=0)}), 4650, gpu)
    monkeypatch.setattr(module, "can_compile", lambda: False)
    assert not module.pays(recipe, 4650, gpu)
