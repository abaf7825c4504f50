"""Losses between logits and a reference, by name."""

from collections.abc import Callable, Sequence

import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]
_DICE_CE_BY_CASE = DiceCELoss(softmax=True, include_background=False, smooth_nr=1e-5, smooth_dr=1e-5)


def foreground_dice(logits: Tensor, reference: Tensor, smooth: float = 1e-5) -> Tensor:
    r"""One minus the soft Dice, averaged over the labels that are not background.

    .. math:: 1 - \frac{1}{K-1} \sum_{k>0} \frac{2 \sum_v p_{kv} g_{kv} + s}{\sum_v p_{kv} + \sum_v g_{kv} + s}

    Sums run over the whole batch (Milletari et al. 2016, eq. 2 without the squares; nnU-Net's "batch Dice").

    Parameters
    ----------
    logits : tensor (b, label, i, j) or (b, label, i, j, k)
    reference : tensor of the same shape, share of each label in [0, 1]
    """
    p, g = logits.float().softmax(dim=1)[:, 1:], reference[:, 1:].float()
    voxels = _voxels(p)
    overlap = (p * g).sum(voxels)
    return 1 - ((2 * overlap + smooth) / (p.sum(voxels) + g.sum(voxels) + smooth)).mean()


def _voxels(x: Tensor) -> tuple[int, ...]:
    """Return every axis but that of the labels."""
    return (0, *range(2, x.ndim))


def foreground_dice_and_cross_entropy(logits: Tensor, reference: Tensor) -> Tensor:
    """`foreground_dice` plus the cross-entropy over all labels, one to one (Isensee et al. 2021)."""
    return foreground_dice(logits, reference) + cross_entropy(logits, reference)


def dice_and_cross_entropy_by_case(logits: Tensor, reference: Tensor) -> Tensor:
    """Dice of each sample by itself plus cross-entropy, one to one (MONAI's DiceCELoss without background).

    Unlike `foreground_dice` it is the same however a batch is shared out.
    """
    loss: Tensor = _DICE_CE_BY_CASE(logits.float(), reference.float())
    return loss


def foreground_dice_and_focal(logits: Tensor, reference: Tensor, gamma: float = 2.0) -> Tensor:
    """`foreground_dice` plus the focal loss over all labels, one to one, for small structures (Lin et al. 2017).

    Parameters
    ----------
    gamma : how little voxels count that are known for sure; 0 is the cross-entropy
    """
    log_p = logits.float().log_softmax(dim=1)
    focal = -((1 - log_p.exp()) ** gamma * reference.float() * log_p).sum(dim=1).mean()
    return foreground_dice(logits, reference) + focal


def regions_dice_and_cross_entropy(logits: Tensor, reference: Tensor, smooth: float = 1e-5) -> Tensor:
    """Dice plus binary cross-entropy for regions that may overlap, each a channel of its own (nnU-Net).

    Parameters
    ----------
    logits : tensor (b, region, i, j[, k]); a sigmoid gives probabilities
    reference : tensor of the same shape, share of each region
    """
    p, g = logits.float().sigmoid(), reference.float()
    voxels = _voxels(p)
    overlap = (p * g).sum(voxels)
    dice = (2 * overlap + smooth) / (p.sum(voxels) + g.sum(voxels) + smooth)
    return 1 - dice.mean() + F.binary_cross_entropy_with_logits(logits.float(), g)


def cross_entropy(logits: Tensor, reference: Tensor) -> Tensor:
    """Return the cross-entropy over all labels, a mean over pixels or voxels."""
    return F.cross_entropy(logits.float(), reference.float())


def released_dice(logits: Tensor, reference: Tensor) -> Tensor:
    """`released_dice_of` the probabilities that the logits stand for."""
    return released_dice_of(logits.float().softmax(dim=1), reference)


def released_dice_of(probabilities: Tensor, reference: Tensor) -> Tensor:
    r"""Return the Dice loss as released with AGUNet: kept to compare with, not to train by.

    .. math:: \mathrm{clip}\Big(1 - \frac{1}{K-1}\sum_{k \ge 0} \frac{2 \sum_v p_{kv} g_{kv} + 1}
        {\sum_v p_{kv}^2 + \sum_v g_{kv}^2 + 1},\ 0,\ 1 - 10^{-10}\Big)

    Background is summed in but not counted in the divisor, so the loss is zero, and its gradient too, as soon as
    background and foreground Dice together exceed K - 1.
    """
    p, g = probabilities, reference.float()
    voxels = _voxels(p)
    dice = (2 * (p * g).sum(voxels) + 1) / (p.square().sum(voxels) + g.square().sum(voxels) + 1)
    return torch.clamp(1 - dice.sum() / (p.shape[1] - 1), 0, 1 - 1e-10)


def deep_supervision(loss: Loss, levels: Sequence[Tensor], reference: Tensor, decay: float) -> Tensor:
    r"""Average a loss over the levels of a network, :math:`\sum_n d^n L_n / \sum_n d^n`.

    The reference is reduced to a coarser level by averaging, so that a voxel there holds the share of each label.

    Parameters
    ----------
    levels : tensors (b, label, i / s, j / s[, k / s]), finest first, each side rounded up
    reference : tensor (b, label, i, j[, k]), share of each label
    decay : weight of a level relative to the next finer one; 1 is Bouget et al. 2021, 0.5 is nnU-Net
    """
    total, weight, weights = levels[0].new_zeros((), dtype=torch.float32), 1.0, 0.0
    for logits in levels:
        reference = _reduce(reference, logits.shape[2:])
        total = total + weight * loss(logits, reference)
        weights, weight = weights + weight, weight * decay
    return total / weights


def _reduce(reference: Tensor, shape: Sequence[int]) -> Tensor:
    kernel = [-(-side // kept) for side, kept in zip(reference.shape[2:], shape, strict=True)]
    if max(kernel) == 1:
        return reference
    pool = F.avg_pool3d if len(kernel) == 3 else F.avg_pool2d
    return pool(reference, kernel, ceil_mode=True, count_include_pad=False)


LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "dice": foreground_dice,
    "dice_ce": foreground_dice_and_cross_entropy,
    "dice_ce_case": dice_and_cross_entropy_by_case,
    "dice_focal": foreground_dice_and_focal,
    "dice_ce_regions": regions_dice_and_cross_entropy,
    "released_dice": released_dice,
}
OF_REGIONS = frozenset({"dice_ce_regions"})
