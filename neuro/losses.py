"""The losses that MindEye and MindEye2 are trained with, in the units of their released code.

Vectors are flattened to (b, dim) and l2-normalised by the caller, unless said otherwise.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from voxelight.models.errors import BadInput


class Mixing(NamedTuple):
    """Which sample each one of a batch is mixed with, and how much of itself it keeps.

    Parameters
    ----------
    perm : tensor (b,), int64
    betas : tensor (b,), 1 where a sample stays as it is
    """

    perm: Tensor
    betas: Tensor


def draw_mixing(batch: int, rng: np.random.Generator, beta: float = 0.15, share: float = 0.5) -> Mixing:
    """Draw a partner for every sample, and what each keeps from Beta(beta, beta); all but a share keep everything.

    Parameters
    ----------
    batch : samples
    rng : drawn from
    beta : both parameters of the distribution
    share : probability that a sample is mixed
    """
    perm, betas = torch.from_numpy(rng.permutation(batch)), torch.from_numpy(rng.beta(beta, beta, batch)).float()
    return find_mixing(perm, betas, torch.from_numpy(rng.random(batch) < share))


def find_mixing(perm: Tensor, betas: Tensor, select: Tensor) -> Mixing:
    """Return the mixing in which only selected samples (b,), bool, take part."""
    return Mixing(perm, torch.where(select, betas, 1.0))


def mixco(x: Tensor, mixing: Mixing) -> Tensor:
    r"""Mix samples, :math:`\beta_i x_i + (1 - \beta_i) x_{\pi(i)}` (Kim et al. 2020): voxels, or latents of images.

    Parameters
    ----------
    x : tensor (b, ...)
    mixing : of as many samples
    """
    betas = mixing.betas.to(x).view(-1, *[1] * (x.ndim - 1))
    return betas * x + (1 - betas) * x[mixing.perm]


def mixing_targets(mixing: Mixing) -> Tensor:
    r"""Return the matrix (b, b) of what each mixed sample holds of each target.

    The partner's share is assigned, not added, as in the released code: where a sample is its own partner, the diagonal
    becomes :math:`1 - \beta_i`, and an unmixed one is left with a row of zeros.
    """
    rows = torch.arange(len(mixing.betas), device=mixing.betas.device)
    targets = torch.diag(mixing.betas)
    targets[rows, mixing.perm] = 1 - mixing.betas
    return targets


def bimixco_nce(predictions: Tensor, targets: Tensor, mixing: Mixing, temperature: float = 0.006) -> Tensor:
    r"""Contrast mixed predictions with targets, in both directions (Scotti et al. 2023).

    .. math:: -\frac{1}{2b} \sum_{ij} \big(Y_{ij} \log \mathrm{softmax}(S)_{ij}
        + Y_{ji} \log \mathrm{softmax}(S^\top)_{ij}\big), \quad S = P Q^\top / \tau

    Parameters
    ----------
    predictions : tensor (b, dim), P, from mixed voxels
    targets : tensor (b, dim), Q, unmixed
    mixing : Y is its `mixing_targets`
    temperature : tau

    Raises
    ------
    BadInput
        The shapes differ.
    """
    _check_pairs(predictions, targets)
    shares = mixing_targets(mixing).to(predictions)
    return _both_ways(predictions @ targets.T / temperature, shares, shares.T)


def nce(predictions: Tensor, targets: Tensor, temperature: float = 0.006) -> Tensor:
    r"""Contrast each prediction with its own target, in both directions: `bimixco_nce` with nothing mixed."""
    _check_pairs(predictions, targets)
    own = torch.eye(len(targets), dtype=predictions.dtype, device=predictions.device)
    return _both_ways(predictions @ targets.T / temperature, own, own)


def soft_clip(predictions: Tensor, targets: Tensor, temperature: float) -> Tensor:
    r"""Contrast predictions with targets, each target taken as like others as it is (Scotti et al. 2023).

    .. math:: -\frac{1}{2b} \sum_{ij} T_{ij} \big(\log \mathrm{softmax}(S)_{ij}
        + \log \mathrm{softmax}(S^\top)_{ij}\big), \quad T = \mathrm{softmax}(Q Q^\top / \tau),\ S = P Q^\top / \tau

    T isn't transposed in the second direction, as in the released code.

    Parameters
    ----------
    predictions, targets : tensor (b, dim), P and Q
    temperature : tau

    Raises
    ------
    BadInput
        The shapes differ.
    """
    _check_pairs(predictions, targets)
    alike = (targets @ targets.T / temperature).softmax(dim=-1)
    return _both_ways(predictions @ targets.T / temperature, alike, alike)


def soft_contrast(student: Tensor, teacher: Tensor, teacher_aug: Tensor, temperature: float = 0.2) -> Tensor:
    r"""Ask of the student's features what the teacher finds between an image and its augmented copy.

    .. math:: \tfrac12 [H(\mathrm{softmax}(t a^\top / \tau), \mathrm{softmax}(s a^\top / \tau))
        + H(\mathrm{softmax}(a t^\top / \tau), \mathrm{softmax}(a s^\top / \tau))]

    (Scotti et al. 2024, released code; H is the cross-entropy, averaged over rows.) Features are normalised here.

    Parameters
    ----------
    student, teacher, teacher_aug : tensor (..., dim), s, t and a; the leading axes are flattened
    temperature : tau

    Raises
    ------
    BadInput
        The shapes differ.
    """
    _check_pairs(student, teacher)
    _check_pairs(teacher, teacher_aug)
    s, t, a = (F.normalize(part.flatten(0, -2), dim=-1) for part in (student, teacher, teacher_aug))
    there = F.cross_entropy(s @ a.T / temperature, (t @ a.T / temperature).softmax(dim=-1))
    back = F.cross_entropy(a @ s.T / temperature, (a @ t.T / temperature).softmax(dim=-1))
    return (there + back) / 2


def cosine_similarity(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the cosine of every row (n, dim) with every column (m, dim), tensor (n, m); lengths are divided out."""
    return F.normalize(rows, dim=-1) @ F.normalize(columns, dim=-1).T


def top1(similarity: Tensor) -> Tensor:
    """Return the share of rows (n, m) whose largest entry is their own, that of the same index; a scalar."""
    own = torch.arange(len(similarity), device=similarity.device)
    return (similarity.argmax(dim=-1) == own).float().mean()


def _both_ways(logits: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
    there = -(forward * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
    back = -(backward * logits.T.log_softmax(dim=-1)).sum(dim=-1).mean()
    return (there + back) / 2


def _check_pairs(predictions: Tensor, targets: Tensor) -> None:
    if predictions.shape != targets.shape or predictions.ndim < 2:
        raise BadInput(
            f"shapes {tuple(predictions.shape)} and {tuple(targets.shape)}",
            "the same shape twice, (b, dim)",
            "Give one target for each prediction, flattened.",
        )
