"""Schedules of noise and of training from their equations, in NumPy."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from references.store import Arrays, write

Floats = NDArray[np.float64]


def cosine(steps: int, s: float) -> Arrays:
    """Nichol and Dhariwal 2021, eqs. 10, 12 and 17."""
    curve = np.cos((np.arange(steps + 1) / steps + s) / (1 + s) * np.pi / 2) ** 2
    betas = np.minimum(1 - curve[1:] / curve[:-1], 0.999)
    bar = np.cumprod(1 - betas)
    before = np.append(1, bar[:-1])
    variance = betas * (1 - before) / (1 - bar)
    return {
        "betas": betas,
        "alphas_cumprod": bar,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": np.sqrt(bar),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - bar),
        "log_one_minus_alphas_cumprod": np.log(1 - bar),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / bar),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / bar - 1),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(before) / (1 - bar),
        "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - bar),
        "p2_loss_weight": np.ones(steps),
    }


def find_times(steps: int, total: int) -> NDArray[np.int64]:
    """Times of a DDIM path, from the last to -1."""
    return np.linspace(-1, total, steps + 1)[:-1].astype(np.int64)[::-1]


def sdxl(steps: int) -> tuple[Floats, NDArray[np.int64]]:
    """Sigmas and timesteps of an Euler path over SDXL's 1000."""
    bar = np.cumprod(1 - np.linspace(np.sqrt(0.00085), np.sqrt(0.012), 1000) ** 2)
    index = np.array([int(999 - 999 * k / steps) for k in range(steps)])
    return np.append(np.sqrt((1 - bar) / bar)[index], 0), index


def temperatures(epochs: int, share: float) -> Floats:
    count = epochs - int(share * epochs)
    return 0.0075 + (0.004 - 0.0075) / 2 * (1 + np.cos(np.pi * np.arange(count) / (count - 1)))


def one_cycle(steps: NDArray[np.int64], epochs: int, per_epoch: int, peak: float) -> tuple[Floats, Floats]:
    """Two cosines that meet one step before the second epoch ends."""
    top, last = 2 * per_epoch - 1, epochs * per_epoch - 1

    def between(start: float, middle: float, end: float) -> Floats:
        up = middle + (start - middle) * (1 + np.cos(np.pi * steps / top)) / 2
        down = end + (middle - end) * (1 + np.cos(np.pi * (steps - top) / (last - top))) / 2
        return np.where(steps <= top, up, down)

    return between(peak / 25, peak, peak / 25 / 1000), between(0.95, 0.85, 0.95)


def write_schedules(folder: Path) -> Path:
    """Write schedules of other lengths than the published folder's."""
    arrays: Arrays = {f"out.T{steps}.{name}": value for steps in (7, 60) for name, value in cosine(steps, 0.01).items()}
    for steps, total in ((9, 60), (5, 7)):
        arrays[f"out.prior_ddim_times_{steps}of{total}"] = find_times(steps, total)
    for steps in (5, 17):
        arrays[f"out.sdxl_sigmas_{steps}"], arrays[f"out.sdxl_timestep_idx_{steps}"] = sdxl(steps)
    arrays["out.soft_temps_20_0.4"] = temperatures(20, 0.4)
    steps = np.array([0, 1, 2, 9, 17, 18, 19, 27, 54, 106, 107])
    rates, betas = one_cycle(steps, epochs=12, per_epoch=9, peak=1e-3)
    arrays |= {"out.onecycle_own.step": steps, "out.onecycle_own.lr": rates, "out.onecycle_own.beta1": betas}
    config = {
        "cosine_s": 0.01,
        "sdxl_linear_start": 0.00085,
        "sdxl_linear_end": 0.012,
        "onecycle": {"max_lr": 1e-3, "div_factor": 25, "final_div_factor": 1000, "pct_start": "2/epochs"},
    }
    return write(folder, "schedules", config, arrays)
