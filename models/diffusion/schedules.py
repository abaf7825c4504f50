"""Noise schedules: the cosine one of the diffusion prior and the discrete one of SDXL. Free functions, on the CPU."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from voxelight.models.errors import BadInput

SDXL_STEPS = 1000
_SDXL_BETAS = (0.00085, 0.012)


def cosine_buffers(timesteps: int, s: float = 0.008) -> dict[str, Tensor]:
    r"""Return everything that the prior reads from its cosine schedule, by the names that published files use.

    .. math:: \bar\alpha_t = \frac{f(t)}{f(0)}, \quad f(t) = \cos^2\Big(\frac{t/T + s}{1 + s} \frac{\pi}{2}\Big), \quad
        \beta_t = \min\Big(1 - \frac{\bar\alpha_t}{\bar\alpha_{t-1}},\ 0.999\Big)

    (Nichol and Dhariwal 2021, eq. 17). Computed in float64, stored in float32.

    Parameters
    ----------
    timesteps : T
    s : offset that keeps the first betas from vanishing

    Returns
    -------
    dict of 13 tensors (timesteps,), float32

    Raises
    ------
    BadInput
        There is no step.
    """
    if timesteps < 1:
        raise BadInput(f"{timesteps} timesteps", "at least 1", "Give the number that the prior was trained with.")
    t = torch.linspace(0, timesteps, timesteps + 1, dtype=torch.float64)
    curve = torch.cos((t / timesteps + s) / (1 + s) * torch.pi / 2) ** 2
    betas = (1 - curve[1:] / curve[:-1]).clamp(0, 0.999)
    cumprod = torch.cumprod(1 - betas, dim=0)
    previous = torch.cat([torch.ones_like(cumprod[:1]), cumprod[:-1]])
    variance = betas * (1 - previous) / (1 - cumprod)
    buffers = {
        "betas": betas,
        "alphas_cumprod": cumprod,
        "alphas_cumprod_prev": previous,
        "sqrt_alphas_cumprod": cumprod.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1 - cumprod).sqrt(),
        "log_one_minus_alphas_cumprod": (1 - cumprod).log(),
        "sqrt_recip_alphas_cumprod": (1 / cumprod).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1 / cumprod - 1).sqrt(),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
        "posterior_mean_coef1": betas * previous.sqrt() / (1 - cumprod),
        "posterior_mean_coef2": (1 - previous) * (1 - betas).sqrt() / (1 - cumprod),
        "p2_loss_weight": torch.ones_like(cumprod),  # gamma is 0 in every released prior
    }
    return {name: value.float() for name, value in buffers.items()}


def ddim_time_pairs(steps: int, timesteps: int) -> list[tuple[int, int]]:
    """Return the pairs (time, next time) that DDIM sampling of the prior visits, the last next time being -1.

    ``steps`` times are cut off between T and -1, so that there are ``steps - 1`` pairs: 20 steps of 100 visit
    94, 89, ..., 9, 4, and the first is not 99.

    Parameters
    ----------
    steps : 2 to ``timesteps``
    timesteps : T

    Raises
    ------
    BadInput
        The number of steps is out of range.
    """
    if not 2 <= steps <= timesteps:
        raise BadInput(f"{steps} sampling steps", f"2 to {timesteps}", "Ask for fewer steps than the prior has.")
    # In float32, as published: where a time falls on a whole number, the rounding decides.
    times = torch.linspace(-1, timesteps, steps + 1, dtype=torch.float32, device="cpu")[:-1].int().flip(0).tolist()
    return list(pairwise(times))


def all_sigmas() -> Tensor:
    r"""Return sigma of every timestep of SDXL, rising: :math:`\sigma_t = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}`.

    Betas are linear in their square root (Rombach et al. 2022).

    Returns
    -------
    tensor (1000,), float32, from 0.0292 to 14.6146
    """
    low, high = _SDXL_BETAS
    betas = np.linspace(low**0.5, high**0.5, SDXL_STEPS) ** 2
    cumprod = np.cumprod(1 - betas)
    return torch.tensor(np.sqrt((1 - cumprod) / cumprod), dtype=torch.float32, device="cpu")


def edm_sigmas(n: int) -> Tensor:
    """Return the sigmas of an n-step sampler, falling, with 0 at the end.

    The timesteps are spread from 999 without reaching 0: 38 steps use 999, 972, 946, ..., 52, 26. None of the spacings
    of the diffusers schedulers gives these.

    Parameters
    ----------
    n : 1 to 1000

    Returns
    -------
    tensor (n + 1,), float32

    Raises
    ------
    BadInput
        The number of steps is out of range.
    """
    if not 1 <= n <= SDXL_STEPS:
        raise BadInput(f"{n} sampling steps", f"1 to {SDXL_STEPS}", "Ask for a number of steps in that range.")
    index = np.linspace(SDXL_STEPS - 1, 0, n, endpoint=False).astype(np.int64)
    sigmas = all_sigmas()
    return torch.cat([sigmas[index.tolist()], sigmas.new_zeros(1)])


def edm_timesteps(sigmas: Tensor) -> Tensor:
    """Return the timestep of the nearest of the 1000 sigmas, which is the time that the network is told.

    Parameters
    ----------
    sigmas : tensor of any shape, on any device

    Returns
    -------
    tensor of the same shape, int64, 0 to 999
    """
    table = all_sigmas().to(sigmas.device)
    return (sigmas.float().unsqueeze(-1) - table).abs().argmin(dim=-1)
