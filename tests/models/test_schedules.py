"""Schedules against those of diffusers, which computes the same curves its own way."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler

from voxelight.models.diffusion.schedules import all_sigmas, cosine_buffers, ddim_time_pairs, edm_sigmas, edm_timesteps
from voxelight.models.errors import BadInput


@pytest.mark.parametrize("timesteps", [10, 100, 1000])
def test_the_cosine_curve_is_that_of_diffusers(timesteps):
    ours = cosine_buffers(timesteps)
    theirs = DDPMScheduler(timesteps, beta_schedule="squaredcos_cap_v2")
    torch.testing.assert_close(ours["betas"], theirs.betas, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ours["alphas_cumprod"], theirs.alphas_cumprod, rtol=1e-4, atol=1e-7)


def test_the_posterior_has_the_variance_of_diffusers():
    theirs = DDPMScheduler(50, beta_schedule="squaredcos_cap_v2")
    expected = torch.stack([theirs._get_variance(t) for t in range(50)])
    found = cosine_buffers(50)["posterior_log_variance_clipped"].exp()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-12)


def test_every_buffer_is_whole_and_fits_the_others():
    buffers = cosine_buffers(100)
    assert len(buffers) == 13
    for name, value in buffers.items():
        assert value.shape == (100,), name
        assert value.dtype == torch.float32, name
        assert torch.isfinite(value).all(), name
    torch.testing.assert_close(buffers["alphas_cumprod_prev"][1:], buffers["alphas_cumprod"][:-1])
    torch.testing.assert_close(buffers["sqrt_alphas_cumprod"].square(), buffers["alphas_cumprod"])


def test_twenty_steps_of_a_hundred_are_nineteen_calls_from_94_to_4():
    pairs = ddim_time_pairs(20, 100)
    assert [now for now, _ in pairs] == list(range(94, 0, -5))
    assert [after for _, after in pairs] == [*range(89, 0, -5), -1]


@pytest.mark.parametrize("steps", [2, 13, 50, 99, 100])
def test_times_fall_and_end_at_minus_one(steps):
    pairs = ddim_time_pairs(steps, 100)
    assert len(pairs) == steps - 1
    assert all(100 > now > after for now, after in pairs)
    assert pairs[-1][1] == -1


@pytest.mark.parametrize("steps", [-1, 0, 1, 101])
def test_a_number_of_prior_steps_out_of_range_is_refused(steps):
    with pytest.raises(BadInput, match="2 to 100"):
        ddim_time_pairs(steps, 100)


def test_a_schedule_of_no_steps_is_refused():
    with pytest.raises(BadInput, match="at least 1"):
        cosine_buffers(0)


@pytest.mark.parametrize("scheduler", [EulerDiscreteScheduler, DDIMScheduler])
def test_sigmas_are_those_of_the_scaled_linear_betas(scheduler):
    theirs = scheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    torch.testing.assert_close(all_sigmas(), ((1 - theirs) / theirs).sqrt(), rtol=1e-4, atol=0)


def test_the_published_number_of_steps_starts_and_ends_where_published():
    times = edm_timesteps(edm_sigmas(38)[:-1]).tolist()
    assert times[:6] == [999, 972, 946, 920, 893, 867]
    assert times[-2:] == [52, 26]


@pytest.mark.parametrize("n", [1, 12, 25, 38, 999, 1000])
def test_sigmas_fall_to_nought_through_times_of_their_own(n):
    sigmas = edm_sigmas(n)
    assert sigmas.shape == (n + 1,)
    assert sigmas[0] == all_sigmas()[-1]
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()
    assert len(set(edm_timesteps(sigmas[:-1]).tolist())) == n


def test_a_time_is_that_of_the_nearest_sigma():
    sigmas = all_sigmas()
    assert edm_timesteps(sigmas).tolist() == list(range(1000))
    between = sigmas[:-1] + 0.49 * sigmas.diff()
    assert edm_timesteps(between).tolist() == list(range(999))
    assert edm_timesteps(between + 0.02 * sigmas.diff()).tolist() == list(range(1, 1000))
    assert edm_timesteps(torch.tensor([[0.0, 1e3]])).tolist() == [[0, 999]]
    assert edm_timesteps(torch.tensor(1.0)).shape == ()


@pytest.mark.parametrize("n", [-1, 0, 1001])
def test_a_number_of_sampler_steps_out_of_range_is_refused(n):
    with pytest.raises(BadInput, match="1 to 1000"):
        edm_sigmas(n)
