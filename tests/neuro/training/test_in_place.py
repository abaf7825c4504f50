"""The widest layer stepped in place; `tests/models/test_wide.py` has the kernel, in whose place torch computes here."""

from types import SimpleNamespace

import pytest
import torch

from voxelight.models.decoders import wide
from voxelight.models.decoders.mindeye2 import MindEye2Config
from voxelight.models.decoders.wide import WideLinear
from voxelight.models.training import processes
from voxelight.models.training.loop import Hooks
from voxelight.neuro.train import DecoderTrainee, fit_decoder
from voxelight.neuro.training import in_place
from voxelight.neuro.training.recipe import Losses, find_training_recipe
from voxelight.neuro.training.samples import Dealer
from voxelight.storage.checkpoints import CheckpointFolder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def steps(monkeypatch):
    """The numbers of the steps that were taken in place."""
    kernels = pytest.importorskip("voxelight.models.decoders.wide_kernels", exc_type=ImportError)
    taken = []

    def step_plainly(weights, slope, x, step, rates):
        weight, mean, square, half = weights
        grad = slope.T.float() @ x.float()
        mean.lerp_(grad, 1 - rates.beta1)
        square.lerp_(grad**2, 1 - rates.beta2)
        weight *= 1 - rates.lr * rates.weight_decay
        root = (square / (1 - rates.beta2**step)).sqrt() + rates.eps
        weight -= rates.lr * mean / (1 - rates.beta1**step) / root
        half.copy_(weight)
        taken.append(int(step))

    monkeypatch.setattr(kernels, "adamw_", step_plainly)
    return taken


@pytest.fixture
def on_a_gpu(monkeypatch):
    """The way of a GPU under autocast, in a type that a CPU multiplies exactly, while it is switched on."""
    switch, plainly = SimpleNamespace(on=False), wide.find_half
    monkeypatch.setattr(wide, "find_half", lambda x, weight: torch.float32 if switch.on else plainly(x, weight))
    return switch


@pytest.fixture
def train(small, make_data, make_network, on_a_gpu, tmp_path):
    def run(name, wanted, stop_at=None, **changes):
        # Without the low-level branch, where Adam makes steps of the rounding of slopes that are 0 but for it.
        least = {"config": {**small.config, "low_level": False}, "losses": Losses(low_level=0), "epochs": 4}
        data, recipe = make_data(), small.make_recipe(**least | changes)
        calls = iter(range(100))
        hooks = Hooks(CheckpointFolder(tmp_path / name), pause=lambda: next(calls) == stop_at)
        on_a_gpu.on = wanted
        return fit_decoder(make_network(data, recipe), data, recipe, "cpu", hooks, step_in_place=wanted)

    return run


@pytest.mark.parametrize("parts", [1, 2])
def test_a_training_stepped_in_place_is_the_same_and_either_goes_on_with_the_other(train, steps, parts):
    plain = train("plain", False)
    assert plain.steps == 8
    assert not steps
    for first, last in ((True, False), (False, True)):
        assert not train(str(first), first, stop_at=3, micro_batches=parts).finished
        assert steps == ([1, 2, 3] if first else [])
        steps.clear()
        resumed = train(str(first), last, micro_batches=parts)
        assert resumed.finished
        assert steps == ([4, 5, 6, 7, 8] if last else [])
        for name, value in resumed.weights.items():
            torch.testing.assert_close(value, plain.weights[name], rtol=1e-4, atol=1e-6, msg=name)


def test_what_wrote_a_gradient_all_the_same_is_stepped_with_the_rest(steps, on_a_gpu):
    torch.manual_seed(0)
    layer, plain, x = WideLinear(6, 9), WideLinear(6, 9), torch.randn(4, 6)
    plain.load_state_dict(layer.state_dict())
    optimisers = [torch.optim.AdamW(one.parameters(), fused=True) for one in (layer, plain)]
    network = SimpleNamespace(backbone=SimpleNamespace(backbone_linear=layer))
    with in_place.stepped_in_place(network, optimisers[0], True):
        for ways in ((True,), (True, False), (False,), (True,)):
            for on_a_gpu.on in ways:
                (layer(x) ** 2).sum().backward()
            on_a_gpu.on = False
            (len(ways) * plain(x) ** 2).sum().backward()
            layer.keep(layer.weight.detach().to(torch.float16))
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad()
            torch.testing.assert_close(layer.weight, plain.weight)
            assert torch.equal(layer.halve(torch.float16), layer.weight.to(torch.float16))
    assert steps == [1, 4]


def test_outside_the_block_a_gradient_is_written(steps, on_a_gpu):
    layer = WideLinear(6, 9)
    network = SimpleNamespace(backbone=SimpleNamespace(backbone_linear=layer))
    optimiser = torch.optim.AdamW(layer.parameters())
    with in_place.stepped_in_place(network, optimiser, True):
        assert layer.factors is not None
    assert layer.factors is None
    layer(torch.randn(4, 6)).sum().backward()
    optimiser.step()
    assert layer.weight.grad is not None
    assert not steps


@pytest.fixture
def network():
    with torch.device("meta"):
        return MindEye2Config(prior=None).build()


def test_what_is_long_and_wide_and_on_a_gpu_is_stepped_in_place(network, monkeypatch):
    monkeypatch.setattr(in_place, "can_compile", lambda: True)
    recipe, gpu = find_training_recipe("mindeye2-finetune"), torch.device("cuda")
    assert in_place.pays(network, recipe, 4650, gpu)
    assert not in_place.pays(network, recipe, 500, gpu)
    assert not in_place.pays(network, recipe, 4650, torch.device("cpu"))
    with torch.device("meta"):
        narrow = MindEye2Config(hidden=64, prior=None).build()
    assert not in_place.pays(narrow, recipe, 4650, gpu)
    monkeypatch.setattr(in_place, "can_compile", lambda: False)
    assert not in_place.pays(network, recipe, 4650, gpu)


def test_a_gradient_that_is_needed_is_written(network, monkeypatch):
    monkeypatch.setattr(in_place, "can_compile", lambda: True)
    recipe, gpu = find_training_recipe("mindeye2-finetune"), torch.device("cuda")
    for precision in ("fp16", "fp32"):
        assert not in_place.pays(network, recipe.model_copy(update={"precision": precision}), 4650, gpu)
    network.backbone.requires_grad_(False)
    assert not in_place.pays(network, recipe, 4650, gpu)
    network.backbone.requires_grad_(True)
    monkeypatch.setattr(processes, "count", lambda: 2)
    assert not in_place.pays(network, recipe, 4650, gpu)


@pytest.mark.parametrize(("precision", "count"), [("bf16", 1), ("fp16", 1), ("bf16", 2)])
def test_a_gradient_that_is_needed_is_written_whatever_is_wished(
    small, make_data, make_network, monkeypatch, precision, count
):
    recipe, data, asked = small.make_recipe(precision=precision), make_data(), []
    dealer = Dealer(data, recipe, small.find_config(recipe, [20]))
    trainee = DecoderTrainee(make_network(data, recipe), dealer, recipe, torch.device("cpu"))
    monkeypatch.setattr(processes, "count", lambda: count)
    monkeypatch.setattr(in_place, "stepped_in_place", lambda network, optimiser, wanted: asked.append(wanted))
    trainee.stepping(True)
    assert asked == [(precision, count) == ("bf16", 1)]
