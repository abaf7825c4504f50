"""Reuse of deep features between steps."""

import pytest
import torch
from torch import nn

from voxelight.models.diffusion.samplers import Guided, sample_euler
from voxelight.models.diffusion.schedules import edm_sigmas
from voxelight.models.diffusion.speed import prepare_unet
from voxelight.models.diffusion.step_cache import StepCache
from voxelight.models.diffusion.unet import EpsDenoiser, UNetConfig
from voxelight.models.errors import BadInput

SMALL = {"head_dim": 32, "context_dim": 8, "vector_dim": 16}
CONFIGS = {
    "three levels": UNetConfig(channels=(32, 64, 64), depth=(1, 1, 2), layers=2, **SMALL),
    "two levels": UNetConfig(channels=(32, 64), depth=(1, 1), layers=1, attention=(False, True), **SMALL),
    "a level without attention": UNetConfig(
        channels=(32, 32, 64), depth=(1, 1, 1), layers=1, attention=(False, False, True), **SMALL
    ),
}


def build(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CONFIGS[name].build().eval().requires_grad_(False)


def draw_inputs(batch: int = 2, h: int = 16, w: int = 16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "x": torch.randn(batch, 4, h, w, generator=generator),
        "timesteps": torch.randint(1000, (batch,), generator=generator),
        "encoder_hidden_states": torch.randn(batch, 5, 8, generator=generator),
        "class_labels": torch.randn(batch, 16, generator=generator),
    }


def count_deep(unet: nn.Module) -> list[int]:
    """Return a list that grows by one entry, the batch, whenever the deepest level runs."""
    runs = []
    unet.mid_block.register_forward_hook(lambda module, given, out: runs.append(len(out)))
    return runs


def condition(denoiser: EpsDenoiser, inputs: dict[str, torch.Tensor]) -> Guided:
    """Return the denoiser under the conditions of the inputs, without guidance."""
    context, vector = inputs["encoder_hidden_states"], inputs["class_labels"]
    return Guided(denoiser, context, vector, context, vector, 1.0)


@pytest.mark.parametrize("size", [(16, 16), (18, 13)], ids=["even", "odd"])
@pytest.mark.parametrize("name", CONFIGS)
def test_where_nothing_changed_a_step_gives_what_the_unet_gives(name: str, size: tuple[int, int]):
    unet, inputs = build(name), draw_inputs(2, *size)
    expected = unet(inputs["x"], *list(inputs.values())[1:3], class_labels=inputs["class_labels"]).sample
    cached = StepCache(unet, 2)
    assert torch.equal(cached(**inputs)[0], expected)
    torch.testing.assert_close(cached(**inputs)[0], expected)


def test_a_step_between_reuses_what_is_deep_and_computes_what_is_shallow():
    unet, inputs = build("three levels"), draw_inputs()
    runs = count_deep(unet)
    cached = StepCache(unet, 2)
    (first,) = cached(**inputs)
    (moved,) = cached(**inputs | {"x": inputs["x"] + 0.1})
    assert not torch.equal(moved, first)
    assert len(runs) == 1


@pytest.mark.parametrize(("every", "full"), [(1, 7), (2, 4), (3, 3), (10, 1)])
def test_every_so_many_steps_are_full(every: int, full: int):
    unet = build("two levels")
    runs = count_deep(unet)
    sample_euler(condition(EpsDenoiser(unet, every), draw_inputs(1)), torch.ones(1, 4, 8, 8), edm_sigmas(7))
    assert len(runs) == full


def test_where_guidance_ends_the_step_is_full():
    unet = build("two levels")
    runs = count_deep(unet)
    inputs = draw_inputs(1)
    context, vector = inputs["encoder_hidden_states"], inputs["class_labels"]
    guided = Guided(EpsDenoiser(unet, 4), context, vector, -context, vector, 5.0, (1.0, 20.0))
    sample_euler(guided, inputs["x"], torch.tensor([10.0, 5.0, 2.0, 0.5, 0.2, 0.0]))
    assert runs == [2, 1]


def test_the_smaller_the_steps_the_less_is_lost():
    unet, inputs = build("two levels"), draw_inputs()
    lost = []
    for steps in (6, 36):
        exact, cached = (
            sample_euler(condition(EpsDenoiser(unet, every), inputs), 14.6 * inputs["x"], edm_sigmas(steps))
            for every in (1, 2)
        )
        lost.append(float((cached - exact).norm() / exact.norm()))
    assert 0 < lost[1] < 0.5 * lost[0]


def test_a_unet_whose_finest_level_attends_is_refused():
    config = UNetConfig(channels=(32, 64), depth=(1, 1), layers=1, attention=(True, True), **SMALL)
    with pytest.raises(BadInput, match="finest level attends"):
        EpsDenoiser(config.build(), cache_every=2)


def test_a_prepared_unet_is_reused_alike_whatever_context_it_saw_before():
    exact, inputs = build("three levels"), draw_inputs()
    (expected,) = StepCache(exact, 2)(**inputs)
    prepared = prepare_unet(build("three levels"), graphs=False)
    x, timesteps, context, vector = inputs.values()
    prepared(x, timesteps, encoder_hidden_states=-context, class_labels=vector)
    cached = StepCache(prepared, 2)
    for _ in range(2):
        torch.testing.assert_close(cached(**inputs)[0], expected, atol=1e-5, rtol=1e-5)


def test_a_unet_whose_calls_are_replayed_is_refused():
    unet = build("two levels")
    recorded = unet(*draw_inputs().values())
    unet.forward = lambda *given, **named: (recorded.sample,)
    with pytest.raises(BadInput, match="replayed"):
        StepCache(unet, 2)(**draw_inputs())
