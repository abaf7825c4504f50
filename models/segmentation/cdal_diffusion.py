"""Diffusion of a label in few large steps (Xiao et al. 2022, DDGAN), as cDAL has it (Hejrati et al. 2024)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_FIRST_BETA = 1e-8
_SMALLEST_VARIANCE = 1e-20


@dataclass(frozen=True, eq=False)
class Schedule:
    """Noise of each step; step 0 is almost clean.

    Parameters
    ----------
    times : tensor (T + 1,), float64
    a_s, sigmas : of one step, x_{t+1} = a_{t+1} x_t + sigma_{t+1} eps; tensor (T + 1,)
    a_s_cum, sigmas_cum : of all steps up to one; tensor (T + 1,)
    betas, alphas_cumprod, alphas_cumprod_prev : of the posterior; tensor (T,)
    mean_x0, mean_xt : what the posterior mean takes of the clean label and of x_{t+1}; tensor (T,)
    variance, log_variance : of the posterior; tensor (T,)
    """

    times: Tensor
    a_s: Tensor
    sigmas: Tensor
    a_s_cum: Tensor
    sigmas_cum: Tensor
    betas: Tensor
    alphas_cumprod: Tensor
    alphas_cumprod_prev: Tensor
    mean_x0: Tensor
    mean_xt: Tensor
    variance: Tensor
    log_variance: Tensor

    @property
    def steps(self) -> int:
        """T."""
        return len(self.betas)


def make_schedule(
    steps: int, beta_min: float = 0.1, beta_max: float = 20.0, geometric: bool = False, eps: float = 1e-3
) -> Schedule:
    r"""Return the noise of T steps.

    .. math:: t_k = \epsilon + (1 - \epsilon)\,k / T, \quad \bar\alpha(t) = e^{-t^2 (\beta_1 - \beta_0) / 2 - t \beta_0}
        \;\text{or}\; 1 - \beta_0 (\beta_1 / \beta_0)^t, \qquad \beta_k = 1 - \bar\alpha_k / \bar\alpha_{k-1}

    Parameters
    ----------
    steps : T
    beta_min, beta_max : :math:`\beta_0, \beta_1`
    geometric : the second form
    eps : the first time
    """
    times = torch.arange(steps + 1, dtype=torch.float64) / steps * (1 - eps) + eps
    if geometric:
        kept = 1 - beta_min * (beta_max / beta_min) ** times
    else:
        kept = torch.exp(-0.5 * times.square() * (beta_max - beta_min) - times * beta_min)
    betas = torch.cat([times.new_full((1,), _FIRST_BETA), 1 - kept[1:] / kept[:-1]]).float()
    a_s = (1 - betas).sqrt()
    a_s_cum = a_s.cumprod(0)
    alphas = 1 - betas[1:]
    bar = alphas.cumprod(0)
    before = torch.cat([bar.new_ones(1), bar[:-1]])
    variance = betas[1:] * (1 - before) / (1 - bar)
    return Schedule(
        times=times,
        a_s=a_s,
        sigmas=betas.sqrt(),
        a_s_cum=a_s_cum,
        sigmas_cum=(1 - a_s_cum.square()).sqrt(),
        betas=betas[1:],
        alphas_cumprod=bar,
        alphas_cumprod_prev=before,
        mean_x0=betas[1:] * before.sqrt() / (1 - bar),
        mean_xt=(1 - before) * alphas.sqrt() / (1 - bar),
        variance=variance,
        log_variance=variance.clamp(min=_SMALLEST_VARIANCE).log(),
    )


def _at(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """Return a value for each item, to be multiplied with a tensor (b, c, i, j)."""
    return values.to(like)[t].reshape(-1, *(1,) * (like.ndim - 1))


def noise_to(schedule: Schedule, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Return x_t from the clean label, t a tensor (b,) of integers in 0..T."""
    return _at(schedule.a_s_cum, t, x0) * x0 + _at(schedule.sigmas_cum, t, x0) * noise


def noise_pair(schedule: Schedule, x0: Tensor, t: Tensor, noise: Tensor, step_noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return x_t and x_{t+1} of one path from the clean label; t a tensor (b,) of integers in 0..T-1."""
    x_t = noise_to(schedule, x0, t, noise)
    return x_t, _at(schedule.a_s, t + 1, x0) * x_t + _at(schedule.sigmas, t + 1, x0) * step_noise


def sample_posterior(schedule: Schedule, x0: Tensor, x_next: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Draw x_t given x_{t+1} and a clean label (DDGAN, eq. 5); the last step, t = 0, adds no noise."""
    mean = _at(schedule.mean_x0, t, x0) * x0 + _at(schedule.mean_xt, t, x0) * x_next
    spread = (0.5 * _at(schedule.log_variance, t, x0)).exp()
    return mean + (t > 0).to(x0).reshape(-1, *(1,) * (x0.ndim - 1)) * spread * noise


def sample(
    schedule: Schedule,
    denoise: Callable[[Tensor, Tensor, Tensor], Tensor],
    x: Tensor,
    draw: Callable[[int], tuple[Tensor, Tensor]],
) -> Tensor:
    """Go from noise to a label; what the last step predicts is the label.

    Parameters
    ----------
    denoise : (x_{t+1}, t as a tensor (b,), latent) -> clean label
    x : tensor (b, c, i, j), noise
    draw : step -> latent (b, n) and noise of the shape of x, asked for from T - 1 down to 0
    """
    for step in reversed(range(schedule.steps)):
        t = torch.full((len(x),), step, device=x.device)
        latent, noise = draw(step)
        x = sample_posterior(schedule, denoise(x, t, latent), x, t, noise)
    return x


def time_embedding(t: Tensor, dim: int) -> Tensor:
    r"""Return sines, then cosines, of :math:`t\,10000^{-i / (d / 2 - 1)}`; an odd dim ends in a zero.

    Parameters
    ----------
    t : tensor (b,), steps
    dim : d

    Returns
    -------
    tensor (b, d)
    """
    half = dim // 2
    places = torch.arange(half, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(places * (-math.log(10000) / max(1, half - 1)))
    found = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.cat([found, found.new_zeros(len(t), dim % 2)], dim=1)


def vote(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean over votes as a probability, and its rounding (half to even).

    Parameters
    ----------
    samples : tensor (vote, ...), labels in [-1, 1]
    """
    mean = as_probability(samples).mean(dim=0)
    return mean, mean.round()


def as_probability(x: Tensor) -> Tensor:
    """Return labels of [-1, 1] in [0, 1]."""
    return ((x + 1) / 2).clamp(0, 1)
