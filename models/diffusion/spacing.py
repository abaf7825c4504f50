"""Which of the 1000 sigmas a sampler steps on, by name."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from voxelight.models.diffusion.schedules import all_sigmas, edm_sigmas, edm_timesteps
from voxelight.models.errors import BadInput

# Timesteps of the ten-step schedule for SDXL (Sabour, Fidler and Kreis 2024, Align Your Steps), and the last of all.
_ALIGNED = (999, 845, 730, 587, 443, 310, 193, 116, 53, 13, 0)


def align_sigmas(n: int) -> Tensor:
    """Return sigmas that a second-order solver needs few of, falling, with 0 at the end.

    The ten-step schedule of Align Your Steps for SDXL, interpolated in log sigma for other n, and rounded to sigmas
    that the network was trained at.

    Parameters
    ----------
    n : 1 to 40

    Returns
    -------
    (n + 1,) float32

    Raises
    ------
    BadInput
        The number of steps is out of range.
    """
    if not 1 <= n <= 40:
        raise BadInput(f"{n} steps", "1 to 40", "Ask for a number of steps in that range, or take another spacing.")
    table = all_sigmas()
    knots = table[list(_ALIGNED)].log().numpy()
    places = np.linspace(0, len(knots) - 1, n + 1)[:-1]
    wanted = torch.from_numpy(np.exp(np.interp(places, np.arange(len(knots)), knots)))
    return torch.cat([table[edm_timesteps(wanted)], table.new_zeros(1)])


SPACINGS: dict[str, Callable[[int], Tensor]] = {
    "uniform": edm_sigmas,
    "align": align_sigmas,
}
