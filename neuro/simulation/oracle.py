"""The best decoder of a linear-Gaussian subject, in closed form.

For regression it is the posterior mean: no other estimate has a smaller mean squared error where the features are
Gaussian, and no linear one where they are not. For identification it is the Gaussian likelihood of each candidate under
the true weights and noise: no other rule names the right one more often where all candidates are equally likely.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput

Floats = NDArray[np.floating[Any]]

REGRESSION = "posterior mean under the true weights and noise"
IDENTIFICATION = "Gaussian likelihood under the true weights and noise"


@dataclass(frozen=True, eq=False)
class TrialNoise:
    """Gaussian noise of one trial, of covariance N = diag(variance) + L L'.

    Parameters
    ----------
    variance : array (voxel,), of the noise that each voxel has for itself, above zero
    loadings : L, array (voxel, dimension)

    Raises
    ------
    BadInput
        Sizes do not fit, or a variance is not above zero.
    """

    variance: Floats
    loadings: Floats

    def __post_init__(self) -> None:
        above = int((self.variance > 0).sum())
        if self.loadings.shape[:1] != self.variance.shape or above < len(self.variance):
            raise BadInput(
                f"{above} variances above zero and loadings of shape {self.loadings.shape}",
                "one variance above zero a voxel, and one row of loadings",
                "Give every voxel noise of its own.",
            )

    def whiten(self, columns: Floats) -> Floats:
        """Return N^-1 columns (Woodbury): array (voxel, column)."""
        scaled = columns / self.variance[:, None]
        loads = self.loadings / self.variance[:, None]
        inner = np.eye(loads.shape[1]) + self.loadings.T @ loads
        whitened: Floats = scaled - loads @ np.linalg.solve(inner, loads.T @ columns)
        return whitened

    def log_determinant(self) -> float:
        """Return log det N."""
        inner = np.eye(self.loadings.shape[1]) + self.loadings.T @ (self.loadings / self.variance[:, None])
        return float(np.log(self.variance).sum() + np.linalg.slogdet(inner)[1])


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """Betas y = H t + b + e of features t ~ Normal(mean, covariance), with e ~ Normal(0, diag(variance) + L L').

    Parameters
    ----------
    weights : H, array (voxel, feature)
    intercept : b, array (voxel,)
    variance : array (voxel,), of the noise that each voxel has for itself, above zero
    loadings : L, array (voxel, dimension)
    mean : array (feature,)
    covariance : array (feature, feature); it may be singular

    Raises
    ------
    BadInput
        Sizes do not fit, or a variance is not above zero.
    """

    weights: Floats
    intercept: Floats
    variance: Floats
    loadings: Floats
    mean: Floats
    covariance: Floats

    def __post_init__(self) -> None:
        voxels, features = self.weights.shape
        fits = (
            self.intercept.shape == self.noise.variance.shape == (voxels,)
            and self.mean.shape == (features,)
            and self.covariance.shape == (features, features)
        )
        if not fits:
            raise BadInput(
                f"weights of shape {self.weights.shape}, {len(self.variance)} variances and a covariance of shape "
                f"{self.covariance.shape}",
                "one variance a voxel, and moments of every feature",
                "Take weights, noise and moments of one subject and one encoder.",
            )

    @property
    def noise(self) -> TrialNoise:
        """The noise of one trial."""
        return TrialNoise(self.variance, self.loadings)


def posterior_mean(model: LinearGaussian, betas: Floats, repeats: int = 1) -> Floats:
    """Return E[t | y] = m + S H' (H S H' + N / n)^-1 (y - H m - b).

    Where there are more voxels than features, the same is S (I + n J S)^-1 n H' N^-1 (y - H m - b), J = H' N^-1 H.

    Parameters
    ----------
    model : LinearGaussian
    betas : array (item, voxel), averages of trials
    repeats : n, trials of each average

    Returns
    -------
    array (item, feature)
    """
    surprise = (betas - model.weights @ model.mean - model.intercept).T
    voxels, features = model.weights.shape
    if voxels > features:
        whitened = repeats * model.noise.whiten(model.weights)
        inner = np.eye(features) + model.weights.T @ whitened @ model.covariance
        pulled = np.linalg.solve(inner, whitened.T @ surprise)
    else:
        noise = np.diag(model.variance) + model.loadings @ model.loadings.T
        spread = model.weights @ model.covariance @ model.weights.T + noise / repeats
        pulled = model.weights.T @ np.linalg.solve(spread, surprise)
    found: Floats = model.mean + (model.covariance @ pulled).T
    return found


def log_likelihood(model: LinearGaussian, betas: Floats, candidates: Floats, repeats: int = 1) -> Floats:
    """Return log p(y | t) of every candidate.

    Parameters
    ----------
    model : LinearGaussian
    betas : array (item, voxel), averages of trials
    candidates : array (candidate, feature)
    repeats : trials of each average

    Returns
    -------
    array (item, candidate), natural logarithm
    """
    return response_likelihood(model.noise, betas, candidates @ model.weights.T + model.intercept, repeats)


def response_likelihood(noise: TrialNoise, betas: Floats, responses: Floats, repeats: int = 1) -> Floats:
    """Return log Normal(y; response, N / n) of every candidate, whatever made the responses.

    Parameters
    ----------
    noise : TrialNoise
    betas : array (item, voxel), averages of trials
    responses : array (candidate, voxel), what each candidate gives without noise
    repeats : n, trials of each average

    Returns
    -------
    array (item, candidate), natural logarithm
    """
    betas, responses = (part.astype(np.float64) for part in (betas, responses))
    whitened = noise.whiten(responses.T)
    squares = (betas * noise.whiten(betas.T).T).sum(1)[:, None] - 2 * betas @ whitened + (responses * whitened.T).sum(1)
    constant = len(noise.variance) * np.log(2 * np.pi / repeats) + noise.log_determinant()
    found: Floats = -0.5 * (repeats * squares + constant)
    return found


def identify(scores: Floats, shown: NDArray[np.intp]) -> dict[str, float]:
    """Score identification: how often the shown candidate comes first, and how often it beats another one.

    Parameters
    ----------
    scores : array (item, candidate), larger is likelier
    shown : array (item,), the candidate that was shown

    Returns
    -------
    ``top_1`` and ``two_way``, shares; a tie counts half in the second and not at all in the first
    """
    right = np.take_along_axis(scores, shown[:, None], axis=1)
    beaten, even = (scores < right).sum(1), (scores == right).sum(1) - 1
    others = scores.shape[1] - 1
    return {"top_1": float((beaten == others).mean()), "two_way": float(((beaten + even / 2) / others).mean())}


def fraction_of_oracle(score: float, null: float, oracle: float) -> float:
    """Return (score - null) / (oracle - null): 0 at the null, 1 at the best that can be done.

    Parameters
    ----------
    score, null, oracle : the decoder's, that of permuted stimuli, and the best decoder's, larger being better

    Raises
    ------
    BadInput
        The oracle is not above the null.
    """
    if not oracle > null:
        raise BadInput(
            f"an oracle of {oracle:g} and a null of {null:g}", "an oracle above the null", "Give subjects less noise."
        )
    return (score - null) / (oracle - null)
