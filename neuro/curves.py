"""What changes from epoch to epoch, or from step to step, while MindEye and MindEye2 are trained."""

from torch import Tensor, arange, float64, pi
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from voxelight.models.errors import BadInput


def count_mixing_epochs(epochs: int, share: float = 0.33) -> int:
    """Return how many epochs are trained with mixed voxels, before SoftCLIP: 49 of 150, 79 of 240."""
    if epochs < 1 or not 0 <= share <= 1:
        raise BadInput(f"{epochs} epochs and a share of {share}", "at least 1, and 0 to 1", "Correct the recipe.")
    return int(share * epochs)


def soft_clip_temperatures(epochs: int, share: float = 0.33, low: float = 0.004, high: float = 0.0075) -> Tensor:
    r"""Return the temperature of every epoch after the mixing ones, rising along half a cosine.

    .. math:: \tau_k = \tau_h + \tfrac12 (\tau_l - \tau_h) \big(1 + \cos \tfrac{\pi k}{K - 1}\big)

    (Scotti et al. 2023, released code.)

    Parameters
    ----------
    epochs : of the whole training
    share : of epochs with mixed voxels
    low, high : first and last temperature

    Returns
    -------
    tensor (K,), float32, K the epochs that are left

    Raises
    ------
    BadInput
        There are no epochs, or the share is not one.
    """
    count = epochs - count_mixing_epochs(epochs, share)
    progress = arange(count, dtype=float64) / max(1, count - 1)
    return (high + (low - high) / 2 * (1 + (pi * progress).cos())).float()


def one_cycle(optimizer: Optimizer, epochs: int, steps: int, peak: float = 3e-4) -> OneCycleLR:
    """Return the schedule of the learning rate and of AdamW's first beta, one step a batch.

    The rate rises along a cosine for two epochs from a 25th of the peak, then falls to a 25,000th of it, while
    the first beta goes from 0.95 to 0.85 and back (Smith and Topin 2019; Scotti et al. 2024, released code). A run that
    goes on loads the schedule's state.

    Parameters
    ----------
    optimizer : whose groups have `betas` or `momentum`
    epochs : at least 2
    steps : batches an epoch
    peak : largest learning rate

    Raises
    ------
    BadInput
        There are fewer than two epochs, or no steps.
    """
    if epochs < 2 or steps < 1:
        raise BadInput(f"{epochs} epochs of {steps} steps", "at least 2 of at least 1", "Train for longer.")
    return OneCycleLR(
        optimizer, max_lr=peak, total_steps=epochs * steps, pct_start=2 / epochs, div_factor=25, final_div_factor=1000
    )
