"""The UNet that draws from tokens and the converter of captions are trained by the same loop."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from voxelight.models.captioning.converter import ConverterConfig
from voxelight.models.diffusion.schedules import all_sigmas
from voxelight.models.diffusion.unet import EpsDenoiser, UNetConfig, size_vector
from voxelight.models.errors import BadInput, Conflict
from voxelight.models.training.loop import Hooks, LoopOptions
from voxelight.neuro.training.converter import ConverterDescent, fit_converter
from voxelight.neuro.training.plain import Descent
from voxelight.neuro.training.targets import CachedTargets
from voxelight.neuro.training.unclip import UnclipData, UnclipDescent, _Task, fit_unclip, one_bucket, start_unclip
from voxelight.storage.checkpoints import CheckpointFolder
from voxelight.storage.targets import TargetStore
from voxelight.storage.training_log import TrainingLog

UNET = {"channels": (32, 64), "depth": (1, 1), "layers": 1, "head_dim": 16, "attention": (False, True)}
PICTURES = 8


@pytest.fixture
def unclip_data(tmp_path, small):
    keys = tuple(small.key(number) for number in range(PICTURES))
    rng = np.random.default_rng(0)
    store = TargetStore(tmp_path / "targets")
    tables = {"tokens": store.table("tokens", "w"), "picture_latent": store.table("picture_latent", "w")}
    tables["tokens"].write(keys, rng.normal(size=(PICTURES, 5, 24)).astype(np.float16))
    tables["picture_latent"].write(keys, rng.normal(size=(PICTURES, 4, 8, 8)).astype(np.float16))
    sizes = np.tile(np.float32([768, 512, 0, 16]), (PICTURES, 1))
    return UnclipData(keys, sizes, one_bucket(keys), CachedTargets(tables))


def build_unet(seed=0, **changes):
    torch.manual_seed(seed)
    return UNetConfig(**UNET | {"context_dim": 24, "vector_dim": 1024} | changes).build()


def descent(**changes):
    return UnclipDescent(**{"steps": 6, "batch": 4, "precision": "fp32", "learning_rate": 1e-3, "warm_up": 0} | changes)


def test_the_released_configuration_is_the_default():
    options = UnclipDescent()
    assert (options.steps, options.batch, options.learning_rate) == (110_000, 16, 1e-5)
    assert options.offset == 0.04
    assert [options.rate(step) for step in (0, 499, 1000, 90_000)] == pytest.approx([1e-8, 5e-6, 1e-5, 1e-5], rel=2e-2)
    assert torch.optim.AdamW([torch.zeros(1)]).defaults["weight_decay"] == options.weight_decay


def test_the_loss_is_that_of_the_denoiser_weighted_by_sigma(unclip_data):
    r"""A second way to the same number: :math:`\| D(x) - z \|^2 / \sigma^2`, by the denoiser that samplers use."""
    unet, options = build_unet().eval(), descent(uncond=0.0)
    task = _Task(unclip_data, options, torch.device("cpu"))
    with torch.no_grad():
        loss = task(unet, 3, 0)
        sample = task._draw(3, 0)
        sigma = all_sigmas()[sample.timesteps]
        x = sample.latent + sigma[:, None, None, None] * sample.noise
        denoised = EpsDenoiser(unet)(x, sigma, sample.tokens, sample.vector)
        offset = x - sample.latent - sigma[:, None, None, None] * sample.noise
        assert offset.abs().max() < 1e-5
        expected = ((denoised - sample.latent) ** 2 / sigma[:, None, None, None] ** 2).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)


def test_what_is_drawn_has_the_stated_statistics(unclip_data):
    task = _Task(unclip_data, descent(offset=2.0, uncond=0.5), torch.device("cpu"))
    parts = [task._draw(number, 0) for number in range(100)]
    noise = torch.cat([part.noise for part in parts])
    means = noise.mean(dim=(1, 2, 3))
    assert means.std().item() == pytest.approx(2.0, rel=0.15), "one number for a whole picture"
    assert (noise - means[:, None, None, None]).std().item() == pytest.approx(1.0, rel=0.05)
    times = torch.cat([part.timesteps for part in parts]).float()
    assert (times.min() < 30, times.max() > 970, abs(times.mean() - 500) < 50) == (True, True, True)
    known = unclip_data.targets.read("tokens", unclip_data.keys, 0).float()
    drawn = torch.cat([part.tokens for part in parts])
    kept = (drawn[:, None] == known[None]).flatten(2).all(dim=2).any(dim=1).float().mean()
    assert kept.item() == pytest.approx(0.5, abs=0.1)
    assert torch.equal(parts[0].vector[:1], size_vector(768, 512, 0, 16))


def test_a_training_of_the_unet_goes_on_and_learns(unclip_data, tmp_path):
    curves, weights = [], []
    for name, pauses in (("whole", []), ("paused", [False] * 3 + [True])):
        unet = build_unet()
        log = TrainingLog(tmp_path / f"{name}.jsonl")
        calls = iter(pauses)
        checkpoints = CheckpointFolder(tmp_path / name)
        hooks = Hooks(checkpoints, log, pause=lambda calls=calls: next(calls, False))
        finished = fit_unclip(unet, unclip_data, descent(), "cpu", hooks, LoopOptions(log_steps=1))
        assert finished == (not pauses)
        if pauses:
            unet = build_unet(seed=9)
            assert fit_unclip(unet, unclip_data, descent(), "cpu", Hooks(checkpoints, log), LoopOptions())
        curves.append(log.rows())
        weights.append(unet.state_dict())
    assert curves[0] == curves[1]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    with pytest.raises(Conflict, match="descent"):
        fit_unclip(build_unet(), unclip_data, descent(seed=1), "cpu", hooks, LoopOptions())


def test_parts_of_a_batch_give_the_gradient_of_the_whole(unclip_data, tmp_path):
    found = []
    for parts in (1, 2):
        log = TrainingLog(tmp_path / f"{parts}.jsonl")
        options = descent(micro_batches=parts)
        fit_unclip(build_unet(), unclip_data, options, "cpu", Hooks(log=log), LoopOptions(log_steps=1))
        found.append([row["loss"] for row in log.rows()])
    assert found[1] == pytest.approx(found[0], rel=1e-3)


def test_sdxl_gives_all_but_the_keys_and_values_of_its_cross_attention(unclip_data):
    sdxl = build_unet(seed=1, context_dim=40, vector_dim=2816).state_dict()
    unet = build_unet(seed=2)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    start_unclip(unet, sdxl)
    fresh = 0
    for name, value in unet.state_dict().items():
        if name.endswith((".attn2.to_k.weight", ".attn2.to_v.weight")):
            assert torch.equal(value, before[name])
            fresh += 1
        elif name == "class_embedding.linear_1.weight":
            assert torch.equal(value, sdxl[name][:, :1024])
        else:
            assert torch.equal(value, sdxl[name])
    assert fresh > 0
    with pytest.raises(BadInput, match="1 missing"):
        start_unclip(unet, {name: value for name, value in sdxl.items() if name != "conv_in.bias"})


def test_a_bucket_smaller_than_a_batch_is_refused(unclip_data):
    with pytest.raises(BadInput, match="at least 9"):
        fit_unclip(build_unet(), unclip_data, descent(batch=9), "cpu", Hooks(), LoopOptions())


def test_the_converter_learns_a_linear_map(tmp_path, small):
    """The tokens of one encoder are a linear map of the other's, which is found from nearby.

    From far off, a product of two maps may descend into a valley with no way out.
    """
    torch.manual_seed(0)
    config = ConverterConfig(tokens_in=4, dim_in=6, tokens_out=5, dim_out=3)
    truth, converter = config.build(), config.build()
    with torch.no_grad():
        for value, true in zip(converter.parameters(), truth.parameters(), strict=True):
            value.lerp_(true, 0.5)
    given = torch.randn(64, 4, 6)
    keys = tuple(small.key(number) for number in range(64))
    store = TargetStore(tmp_path)
    tables = {kind: store.table(kind, "w") for kind in ("tokens", "caption_tokens")}
    tables["tokens"].write(keys, given.numpy())
    with torch.no_grad():
        tables["caption_tokens"].write(keys, truth(given).numpy())
    options = ConverterDescent(steps=300, batch=16, learning_rate=1e-2, warm_up=10, weight_decay=0, precision="fp32")
    log = TrainingLog(tmp_path / "log.jsonl")
    assert fit_converter(converter, keys, CachedTargets(tables), options, "cpu", Hooks(log=log))
    with torch.no_grad():
        fresh = torch.randn(20, 4, 6)
        error = F.mse_loss(converter(fresh), truth(fresh)) / truth(fresh).var()
    assert error < 0.02
    assert log.rows()[-1]["loss"] < 0.05 * log.rows()[0]["loss"]
    with pytest.raises(BadInput, match="64 pictures"):
        fit_converter(converter, keys, CachedTargets(tables), options.model_copy(update={"batch": 65}), "cpu", Hooks())


def test_the_rate_rises_and_stays():
    options = Descent(steps=10, batch=2, learning_rate=0.5, warm_up=4)
    assert [options.rate(step) for step in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])
