"""Samplers and guidance, against diffusers' schedulers and equations that are solved in closed form."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler
from diffusers.schedulers import AysSchedules
from pydantic import ValidationError

from voxelight.models.diffusion.presets import PRESETS, REFINEMENT_PRESETS, SamplingPreset
from voxelight.models.diffusion.samplers import SAMPLERS, Guided, img2img_start, sample_euler, start_latent
from voxelight.models.diffusion.schedules import edm_sigmas, edm_timesteps
from voxelight.models.diffusion.spacing import SPACINGS
from voxelight.models.diffusion.unet import EpsDenoiser, UNetConfig
from voxelight.models.errors import BadInput

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "epsilon"}
CONFIG = UNetConfig(
    channels=(32, 64), depth=(1, 1), layers=1, head_dim=32, context_dim=8, vector_dim=16, attention=(False, True)
)
ALL_PRESETS = {
    f"{kind} {name}": preset
    for kind, table in (("unclip", PRESETS), ("refinement", REFINEMENT_PRESETS))
    for name, preset in table.items()
}
MEAN, SPREAD = 0.5, 0.8


@pytest.fixture(scope="module")
def denoiser() -> EpsDenoiser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return EpsDenoiser(CONFIG.build().eval().requires_grad_(False))


@pytest.fixture(scope="module")
def conditions() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(2, *shape, generator=generator) for shape in [(5, 8), (16,), (5, 8), (16,)])


@pytest.fixture
def x() -> torch.Tensor:
    return 14.6 * torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))


def denoise_gaussian(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Return the mean of N(MEAN, SPREAD^2) data given x, which is the perfect denoiser of such data."""
    return MEAN + (x - MEAN) * SPREAD**2 / (SPREAD**2 + sigma**2)


def follow_gaussian(x: torch.Tensor, start: float, end: float) -> torch.Tensor:
    """Return where the equation takes x from sigma = start to end, exactly, for such data."""
    return MEAN + (x - MEAN) * np.sqrt((SPREAD**2 + end**2) / (SPREAD**2 + start**2))


def count_calls(preset: SamplingPreset, conditions) -> list[int]:
    """Sample by a preset and return how many latents each call of the denoiser saw."""
    sizes = []

    def denoise(x, sigma, context, vector):
        sizes.append(len(x))
        return denoise_gaussian(x, sigma)

    guided = Guided(denoise, *conditions, preset.guidance, preset.interval)
    SAMPLERS[preset.sampler](guided, torch.zeros(2, 4, 8, 8), preset.sigmas(), None)
    return sizes


def test_euler_is_the_scheduler_of_diffusers(denoiser: EpsDenoiser, conditions, x: torch.Tensor):
    context, vector = conditions[:2]
    sigmas = edm_sigmas(7)
    scheduler = EulerDiscreteScheduler(**BETAS)
    scheduler.set_timesteps(sigmas=sigmas.tolist())
    expected = x
    for sigma, timestep in zip(sigmas[:-1], scheduler.timesteps, strict=True):
        eps = (expected - denoiser(expected, sigma, context, vector)) / sigma
        expected = scheduler.step(eps, timestep, expected).prev_sample
    found = sample_euler(lambda x, sigma: denoiser(x, sigma, context, vector), x, sigmas)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_dpmpp_2m_is_the_scheduler_of_diffusers(denoiser: EpsDenoiser, conditions, x: torch.Tensor, spacing: str):
    """Theirs keeps x / sqrt(1 + sigma^2), ours x."""
    context, vector = conditions[:2]
    sigmas = SPACINGS[spacing](8)
    scheduler = DPMSolverMultistepScheduler(**BETAS, algorithm_type="dpmsolver++", solver_order=2)
    scheduler.set_timesteps(timesteps=edm_timesteps(sigmas[:-1]).tolist())
    torch.testing.assert_close(scheduler.sigmas, sigmas)
    scaled = x / (1 + sigmas[0] ** 2).sqrt()
    for sigma, timestep in zip(sigmas[:-1], scheduler.timesteps, strict=True):
        latent = scaled * (1 + sigma**2).sqrt()
        eps = (latent - denoiser(latent, sigma, context, vector)) / sigma
        scaled = scheduler.step(eps, timestep, scaled).prev_sample
    found = SAMPLERS["dpmpp_2m"](lambda x, sigma: denoiser(x, sigma, context, vector), x, sigmas, None)
    torch.testing.assert_close(found, scaled, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("dpmpp_2m", 2)])
def test_the_error_falls_by_the_order_of_the_solver(sampler: str, order: int):
    x = torch.tensor([-9.0, 3.0, 12.0]).reshape(3, 1, 1, 1)
    exact = follow_gaussian(x, 10.0, 0.1)
    errors = []
    for steps in (16, 32, 64):
        sigmas = torch.logspace(1, -1, steps + 1)
        errors.append((SAMPLERS[sampler](denoise_gaussian, x, sigmas, None) - exact).abs().max())
    orders = [float(torch.log2(a / b)) for a, b in pairwise(errors)]
    assert orders == pytest.approx([order, order], abs=0.35)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_noise_becomes_data(sampler: str):
    x = MEAN + np.sqrt(SPREAD**2 + 14.6146**2) * torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    found = SAMPLERS[sampler](denoise_gaussian, x, edm_sigmas(100), None)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(found.std()) == pytest.approx(SPREAD, abs=0.03)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_is_sampled_the_same_alone_and_among_others(sampler: str, denoiser, conditions, x: torch.Tensor):
    sigmas = edm_sigmas(5)
    together = SAMPLERS[sampler](Guided(denoiser, *conditions, 5.0), x, sigmas, None)
    for k in range(2):
        guided = Guided(denoiser, *(condition[k : k + 1] for condition in conditions), 5.0)
        alone = SAMPLERS[sampler](guided, x[k : k + 1], sigmas, None)
        torch.testing.assert_close(alone, together[k : k + 1], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_on_step_raises_stops_before_the_next_call(sampler: str):
    seen, calls = [], []

    def denoise(x, sigma):
        calls.append(float(sigma))
        return denoise_gaussian(x, sigma)

    def stop_at_third(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SAMPLERS[sampler](denoise, torch.zeros(1, 4, 8, 8), edm_sigmas(10), stop_at_third)
    assert seen == [(0, 10), (1, 10), (2, 10)]
    assert len(calls) == 2


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_state_stays_float32_around_a_network_of_less(sampler: str):
    seen = []

    def denoise(x, sigma):
        seen.append(x.dtype)
        return denoise_gaussian(x, sigma).bfloat16()

    found = SAMPLERS[sampler](denoise, torch.ones(1, 4, 8, 8, dtype=torch.bfloat16), edm_sigmas(4), None)
    assert {found.dtype, *seen} == {torch.float32}


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 1.0, 0.0], [1.0, 2.0], [1.0, -0.5]], ids=str)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sigmas_that_do_not_fall_are_refused(sampler: str, sigmas: list[float]):
    with pytest.raises(BadInput, match="falling"):
        SAMPLERS[sampler](denoise_gaussian, torch.zeros(1, 4, 8, 8), torch.tensor(sigmas), None)


def test_guidance_goes_beyond_the_conditional_and_puts_the_unconditional_first(denoiser, conditions, x: torch.Tensor):
    context, vector, uncond_context, uncond_vector = conditions
    sigma = edm_sigmas(4)[1]
    cond = denoiser(x, sigma, context, vector)
    uncond = denoiser(x, sigma, uncond_context, uncond_vector)
    torch.testing.assert_close(
        Guided(denoiser, *conditions, 5.0)(x, sigma), uncond + 5 * (cond - uncond), atol=1e-3, rtol=1e-4
    )
    torch.testing.assert_close(Guided(denoiser, *conditions, 1.0)(x, sigma), cond, atol=1e-5, rtol=1e-5)
    seen = []
    Guided(lambda x, sigma, context, vector: seen.append((context, vector)) or x, *conditions, 5.0)(x, sigma)
    assert torch.equal(seen[0][0], torch.cat([uncond_context, context]))
    assert torch.equal(seen[0][1], torch.cat([uncond_vector, vector]))


def test_one_vector_serves_every_image(denoiser, conditions, x: torch.Tensor):
    context, vector, uncond_context, _ = conditions
    one = vector[:1]
    every = one.expand(2, -1)
    sigma = edm_sigmas(4)[0]
    found = Guided(denoiser, context, one, uncond_context, one, 5.0)(x, sigma)
    assert torch.equal(found, Guided(denoiser, context, every, uncond_context, every, 5.0)(x, sigma))


def test_a_network_that_keeps_its_context_sees_one_tensor_all_along(conditions, x: torch.Tensor):
    seen = []
    guided = Guided(lambda x, sigma, context, vector: seen.append(context) or x, *conditions, 5.0)
    sample_euler(guided, x, edm_sigmas(4))
    assert all(context is seen[0] for context in seen)


@pytest.mark.parametrize(("sigma", "calls"), [(0.3, 1), (0.31, 2), (5.0, 2), (5.1, 1)])
def test_outside_the_interval_only_the_condition_is_evaluated(conditions, x: torch.Tensor, sigma: float, calls: int):
    sizes = []
    guided = Guided(lambda x, *_: sizes.append(len(x)) or x, *conditions, 5.0, (0.3, 5.0))
    guided(x, torch.tensor(sigma, dtype=torch.float64))
    assert sizes == [2 * calls]


@pytest.mark.parametrize("name", ALL_PRESETS)
def test_a_preset_costs_what_it_says(conditions, name: str):
    preset = ALL_PRESETS[name]
    assert sum(count_calls(preset, conditions)) == 2 * preset.evaluations()


def test_the_presets_cost_what_was_published_and_a_quarter_of_it(conditions):
    assert count_calls(PRESETS["published"], conditions) == [4] * 38
    assert count_calls(REFINEMENT_PRESETS["published"], conditions) == [4] * 12
    assert PRESETS["fast"].evaluations() <= 18
    assert REFINEMENT_PRESETS["fast"].evaluations() <= 8


def test_fast_refinement_keeps_as_much_of_the_picture_as_the_published():
    start = [float(preset.sigmas()[0]) for preset in REFINEMENT_PRESETS.values()]
    assert start[1] == pytest.approx(start[0], rel=0.01)
    assert torch.equal(REFINEMENT_PRESETS["published"].sigmas(), edm_sigmas(25)[13:])


@pytest.mark.parametrize("name", ALL_PRESETS)
def test_every_preset_ends_near_the_exact_solution_of_gaussian_data(name: str):
    preset = ALL_PRESETS[name]
    sigmas = preset.sigmas()
    start = float(sigmas[0])
    x = torch.tensor([MEAN - start, MEAN, MEAN + 2 * start]).reshape(3, 1, 1, 1)
    found = SAMPLERS[preset.sampler](denoise_gaussian, x, sigmas, None)
    assert (found - follow_gaussian(x, start, 0.0)).abs().max() < 0.15 * SPREAD


def test_aligned_sigmas_are_those_published_for_sdxl():
    found = SPACINGS["align"](10)
    assert edm_timesteps(found[:-1]).tolist() == AysSchedules["StableDiffusionXLTimesteps"]
    np.testing.assert_allclose(found.numpy(), AysSchedules["StableDiffusionXLSigmas"], atol=4e-3)


@pytest.mark.parametrize("steps", [1, 7, 20, 40])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_spacing_falls_over_sigmas_that_were_trained(spacing: str, steps: int):
    sigmas = SPACINGS[spacing](steps)
    assert sigmas.shape == (steps + 1,)
    assert (sigmas.diff() < 0).all()
    trained = edm_sigmas(1000)
    assert torch.isin(sigmas, trained).all()


@pytest.mark.parametrize("steps", [0, 41])
def test_aligned_sigmas_are_refused_beyond_their_range(steps: int):
    with pytest.raises(BadInput, match="1 to 40"):
        SPACINGS["align"](steps)


def test_sampling_starts_at_normal_noise_with_an_offset_for_each_image():
    z, noise = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    sigma = edm_sigmas(38)[0]
    expected = z + 14.6146 * (noise + 0.04 * torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1))
    found = start_latent(z, noise, torch.tensor([1.0, -2.0]), sigma)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(img2img_start(z, noise, sigma), z + sigma * noise)
    assert img2img_start(z.bfloat16(), noise.bfloat16(), sigma).dtype == torch.float32


def test_a_preset_that_leaves_no_step_is_refused():
    with pytest.raises(ValidationError, match="leave none"):
        SamplingPreset(steps=5, skip=5)
