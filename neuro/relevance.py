"""Where in the brain a decoder looks: patterns of linear decoders, gradients of networks, and back into the volume."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.floating[Any]]

_ROWS_AT_ONCE = 16


def find_patterns(betas: Floats, decoded: Floats, joint: bool = True) -> NDArray[np.float64]:
    """Return the activation that goes along with what a linear decoder decodes.

    A weight may be large only to cancel noise of other voxels, so that it says nothing of its own voxel. With centred
    betas X and decoded values S = X W, the pattern is A = cov(X) W cov(S)⁻¹ = Xᵀ S (Sᵀ S)⁺.

    Parameters
    ----------
    betas : array (trial, voxel), normalised as those of the fit
    decoded : array (trial, target), what the decoder made of them, S = X W and any intercept
    joint : whether targets are taken together, as in the equation; else each by itself, Xᵀ s / sᵀ s, as where they are
        uncorrelated. Together needs many more trials than targets.

    Returns
    -------
    array (voxel, target), betas for one unit of each decoded target

    Raises
    ------
    BadInput
        Shapes do not fit.

    References
    ----------
    Haufe et al. (2014), NeuroImage 87:96, eq. 6 and 8.
    """
    X, S = _centre(betas, decoded)
    shared = X.T @ S
    if joint:
        return np.asarray(shared @ np.linalg.pinv(S.T @ S, hermitian=True), np.float64)
    power = (S**2).sum(0)
    return np.asarray(np.divide(shared, power, out=np.zeros_like(shared), where=power > 0), np.float64)


def find_involvement(betas: Floats, decoded: Floats) -> NDArray[np.float64]:
    """Say how closely each voxel goes along with what is decoded.

    The root mean square over targets of the correlation between voxel and decoded target, each target weighted by its
    decoded variance: the patterns of `find_patterns` one by one, without their units. On the rows of the fit every
    voxel goes along where there are no more rows than targets, so give held-out ones.

    Parameters
    ----------
    betas : array (stimulus, voxel), normalised as those of the fit
    decoded : array (stimulus, target), what decoders that had not seen these stimuli made of them

    Returns
    -------
    array (voxel,), from 0 to 1; 0 for a voxel that never changes

    Raises
    ------
    BadInput
        Shapes do not fit.
    """
    X, S = _centre(betas, decoded)
    # Σ_j |s_j|² corr(x, s_j)² / Σ_j |s_j|² = Σ_j (x·s_j)² / (|x|² Σ_j |s_j|²)
    most = (X**2).sum(0) * float((S**2).sum())
    shared = ((X.T @ S) ** 2).sum(1)
    involved: NDArray[np.float64] = np.sqrt(np.divide(shared, most, out=np.zeros_like(most), where=most > 0))
    return involved


def draw_null(betas: Floats, decoded: Floats, draws: int, seed: int) -> NDArray[np.float64]:
    """Return the largest involvement of any voxel with whole stimuli permuted, array (draw,)."""
    random = np.random.default_rng(seed)
    return np.array([find_involvement(betas, decoded[random.permutation(len(decoded))]).max() for _ in range(draws)])


def find_gradients(
    decode: "Callable[[Tensor], Tensor]", betas: Floats, device: str = "cpu"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what each voxel adds to what a network says of each stimulus: input times gradient.

    With f the network and u the unit vector from the mean of all outputs to f(x), the score is s(x) = f(x) · u, u held
    fixed, and a voxel v adds x_v ∂s/∂x_v. Without u the score would mostly be what all outputs have in common.

    Parameters
    ----------
    decode : tensor (item, voxel) -> tensor (item, ...), differentiable, without state
    betas : array (item, voxel), two items or more
    device : where `decode` works

    Returns
    -------
    array (item, voxel), of x_v ∂s/∂x_v; array (item,), of s(x)

    Raises
    ------
    BadInput
        There are fewer than two items.

    References
    ----------
    Shrikumar et al. (2017), ICML, section 2.2; Ancona et al. (2018), ICLR, table 1.
    """
    import torch

    if len(betas) < 2:
        raise BadInput(f"betas of {len(betas)} stimuli", "two or more", "Decode more stimuli.")
    rows = torch.as_tensor(np.ascontiguousarray(betas, np.float32)).to(device)
    parts = torch.split(rows, _ROWS_AT_ONCE)
    with torch.no_grad():
        outputs = torch.cat([decode(part).flatten(1).float() for part in parts])
        directions = torch.nn.functional.normalize(outputs - outputs.mean(0), dim=1)
        scores = (outputs * directions).sum(1)
    found = []
    with torch.enable_grad():
        for part, direction in zip(parts, torch.split(directions, _ROWS_AT_ONCE), strict=True):
            leaf = part.clone().requires_grad_()
            [gradient] = torch.autograd.grad((decode(leaf).flatten(1).float() * direction).sum(), leaf)
            found.append((leaf.detach() * gradient).cpu().double().numpy())
    return np.concatenate(found), scores.cpu().double().numpy()


def agree(maps: Sequence[Floats]) -> float | None:
    """Return the mean correlation between maps of different folds, None where there is one map or a flat one."""
    if len(maps) < 2 or any(np.ptp(one) == 0 for one in maps):
        return None
    correlations = np.atleast_2d(np.corrcoef(np.stack(maps)))
    return float(correlations[np.triu_indices(len(maps), 1)].mean())


def place(values: Floats, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Put values of voxels back where their mask has them, zero elsewhere.

    Parameters
    ----------
    values : array (voxel,), in the order of ``volume[inside]``
    inside : array (i, j, k)

    Raises
    ------
    BadInput
        The mask marks another number of voxels.
    """
    if values.shape != (int(inside.sum()),):
        raise BadInput(
            f"{len(values)} voxels and a mask that marks {int(inside.sum())}", "as many", "Use the mask of these betas."
        )
    volume = np.zeros(inside.shape, np.float32)
    volume[inside] = values
    return volume


def _centre(betas: Floats, decoded: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if betas.ndim != 2 or decoded.ndim != 2 or len(betas) != len(decoded) or len(betas) < 2:
        raise BadInput(
            f"betas of shape {betas.shape} and decoded values of shape {decoded.shape}",
            "(trial, voxel) and (trial, target), the same two trials or more",
            "Give what was decoded from these betas.",
        )
    X, S = betas.astype(np.float64), decoded.astype(np.float64)
    return X - X.mean(0), S - S.mean(0)
