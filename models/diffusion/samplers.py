"""Samplers in the symbols of Karras et al. (2022): ``(denoise, x, sigmas) -> x``, and guidance around a denoiser."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from voxelight.models.errors import BadInput

OFFSET_NOISE = 0.04

Denoise = Callable[[Tensor, Tensor], Tensor]
"""``(x (b, 4, h, w), sigma ()) -> denoised (b, 4, h, w)``."""

OnStep = Callable[[int, int], None]
"""``(done, total)``, called before each step; what it raises ends the sampling."""


class Denoiser(Protocol):
    """What guidance is put around, `voxelight.models.diffusion.unet.EpsDenoiser` for one."""

    def __call__(self, x: Tensor, sigma: Tensor, context: Tensor, vector: Tensor) -> Tensor:
        """Return the denoised latent."""


class Guided:
    """Classifier-free guidance: ``D = D_u + scale (D_c - D_u)`` (Ho and Salimans 2022, eq. 6).

    Both halves go through the denoiser as one batch, the unconditional first. Outside the interval (Kynkäänniemi et
    al. 2024), and at scale 1, the conditional half goes alone.

    Parameters
    ----------
    denoiser : of the network
    context : (b, token, dim)
    vector : (b, dim) or (1, dim)
    uncond_context : (b, token, dim) or (1, token, dim); for SDXL-unCLIP normal noise, drawn once an image
    uncond_vector : (b, dim) or (1, dim)
    scale : strength of the guidance
    interval : (low, high), guided where ``low < sigma <= high``; everywhere without one
    """

    def __init__(
        self,
        denoiser: Denoiser,
        context: Tensor,
        vector: Tensor,
        uncond_context: Tensor,
        uncond_vector: Tensor,
        scale: float,
        interval: tuple[float, float] | None = None,
    ) -> None:
        self._denoiser = denoiser
        self._scale = scale
        self._interval = interval
        self._context = context
        self._vector = vector.expand(len(context), -1)
        # Joined once, so that a network that keeps keys and values sees the same tensor at every step.
        self._both_contexts = torch.cat([uncond_context.expand_as(context), context])
        self._both_vectors = torch.cat([uncond_vector.expand_as(self._vector), self._vector])

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the guided denoised latent of x (b, 4, h, w) at sigma ()."""
        if not is_guided(float(sigma), self._scale, self._interval):
            return self._denoiser(x, sigma, self._context, self._vector)
        both = self._denoiser(torch.cat([x, x]), sigma, self._both_contexts, self._both_vectors)
        uncond, cond = both.chunk(2)
        return uncond + self._scale * (cond - uncond)


def is_guided(sigma: float, scale: float, interval: tuple[float, float] | None) -> bool:
    """Return whether a step at sigma needs both halves."""
    return scale != 1 and (interval is None or interval[0] < sigma <= interval[1])


def sample_euler(denoise: Denoise, x: Tensor, sigmas: Tensor, on_step: OnStep | None = None) -> Tensor:
    """Integrate ``dx = (x - D(x, sigma)) / sigma dsigma`` by Euler's method (Karras et al. 2022, algorithm 2, S = 0).

    Parameters
    ----------
    denoise : the guided denoiser
    x : (b, 4, h, w), at ``sigmas[0]``
    sigmas : (steps + 1,), falling, the last may be 0
    on_step : called before each step

    Returns
    -------
    (b, 4, h, w) float32, at ``sigmas[-1]``

    Raises
    ------
    BadInput
        The sigmas do not fall.
    """
    sigmas, x = _falling(sigmas), x.float()
    steps = len(sigmas) - 1
    for step in range(steps):
        if on_step is not None:
            on_step(step, steps)
        slope = (x - denoise(x, sigmas[step]).float()) / sigmas[step]
        x = x + (sigmas[step + 1] - sigmas[step]) * slope
    return x


def sample_dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, on_step: OnStep | None = None) -> Tensor:
    """Integrate the same equation by DPM-Solver++(2M), second order at one evaluation a step (Lu et al. 2022, alg. 2).

    In ``t = -log sigma`` the linear part is solved exactly, the denoised extrapolated from the last two steps. The
    first step and one onto sigma = 0 are of first order.

    Parameters
    ----------
    denoise : the guided denoiser
    x : (b, 4, h, w), at ``sigmas[0]``
    sigmas : (steps + 1,), falling, the last may be 0
    on_step : called before each step

    Returns
    -------
    (b, 4, h, w) float32, at ``sigmas[-1]``

    Raises
    ------
    BadInput
        The sigmas do not fall.
    """
    sigmas, x = _falling(sigmas), x.float()
    levels = sigmas.tolist()
    steps = len(levels) - 1
    last = None
    for step, (here, there) in enumerate(pairwise(levels)):
        if on_step is not None:
            on_step(step, steps)
        denoised = denoise(x, sigmas[step]).float()
        target = denoised
        if last is not None and there > 0:
            ratio = math.log(here / there) / math.log(levels[step - 1] / here)
            target = denoised + ratio / 2 * (denoised - last)
        x = there / here * x + (1 - there / here) * target
        last = denoised
    return x


def start_latent(z: Tensor, noise: Tensor, offset: Tensor, sigma: Tensor) -> Tensor:
    """Return where SDXL-unCLIP starts: ``z + sigma (noise + 0.04 offset)``.

    The published code starts from normal z, which at the largest sigma is the noise of an image that is itself noise.

    Parameters
    ----------
    z : (b, 4, h, w) standard normal
    noise : (b, 4, h, w) standard normal
    offset : (b,) standard normal, one number an image
    sigma : (), the first of the sampler

    Returns
    -------
    (b, 4, h, w) float32
    """
    return img2img_start(z, noise.float() + OFFSET_NOISE * offset.float()[:, None, None, None], sigma)


def img2img_start(z: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Return where refinement of latents starts: ``z + sigma noise`` (Meng et al. 2022, SDEdit).

    Parameters
    ----------
    z : (b, 4, h, w), latents of the images to refine
    noise : (b, 4, h, w) standard normal
    sigma : (), the first that is kept of the schedule

    Returns
    -------
    (b, 4, h, w) float32
    """
    return z.float() + sigma.to(z.device) * noise.float()


def _falling(sigmas: Tensor) -> Tensor:
    """Return the sigmas as float32 on the CPU, where reading one does not wait for a device."""
    sigmas = sigmas.float().cpu()
    if len(sigmas) < 2 or not bool((sigmas.diff() < 0).all()) or sigmas[-1] < 0:
        raise BadInput(f"sigmas {sigmas.tolist()}", "at least two, falling, none negative", "Take those of a schedule.")
    return sigmas


SAMPLERS: dict[str, Callable[[Denoise, Tensor, Tensor, OnStep | None], Tensor]] = {
    "euler": sample_euler,
    "dpmpp_2m": sample_dpmpp_2m,
}
