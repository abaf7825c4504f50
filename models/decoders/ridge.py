"""Ridge regression from voxels to any target space: one factorisation serves every target and every alpha."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from voxelight.models.decoders.ridge_solver import Array, Floats, Rows, cross_validate, factorise, solve
from voxelight.models.errors import BadInput

Moments = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Mean and standard deviation of each target, arrays (target,)."""

_TARGETS_AT_ONCE = 16_384


class RidgeConfig(BaseModel):
    """Options of the ridge decoder.

    Parameters
    ----------
    alphas : penalties to choose from, in units of a squared beta summed over trials, as in scikit-learn
    alpha_per_target : whether every target has an alpha of its own
        Off, one alpha serves a whole target space. Targets with alphas of their own are shrunk by different factors,
        which turns a predicted vector: its cosine to the true one, and so every retrieval score, is distorted.
    backend : ``numpy``, ``torch``, ``himalaya`` (the package), or ``auto``: numpy on the CPU and torch elsewhere
    rescale : whether predictions are brought to mean and spread of the training targets
        A ridge shrinks what it predicts. By how much is measured on held-out training rows, never on rows to be
        decoded, so that a single scan can be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alphas: tuple[PositiveFloat, ...] = Field(default=tuple(10.0**power for power in range(8)), min_length=1)
    alpha_per_target: bool = False
    backend: Literal["auto", "numpy", "torch", "himalaya"] = "auto"
    rescale: bool = False

    @property
    def needs_folds(self) -> bool:
        """Whether a fit has something to choose or to measure on rows held out."""
        return len(self.alphas) > 1 or self.rescale

    def fit(self, betas: Floats, targets: Floats, folds: Sequence[Rows] = (), device: str = "cpu") -> "RidgeDecoder":
        """Fit one target space: see `fit_ridge`."""
        return fit_ridge(betas, {"targets": targets}, self, folds, device)["targets"]


@dataclass(frozen=True, eq=False)
class RidgeDecoder:
    """A fitted linear map from betas to one target space.

    Parameters
    ----------
    coefficients : array or memory map (voxel, target), of any float type
    intercept : array (target,), float64
    alphas : array (target,), float64, the penalty that each target was fitted with
    target_shape : shape of one target, e.g. (token, dim)
    scale : array (target,), float64, what the coefficients of each target are to be multiplied by
    """

    coefficients: NDArray[np.floating[Any]]
    intercept: NDArray[np.float64]
    alphas: NDArray[np.float64]
    target_shape: tuple[int, ...]
    scale: NDArray[np.float64] | None = None

    def __call__(self, betas: Floats) -> NDArray[np.float64]:
        """Decode.

        Parameters
        ----------
        betas : array (trial, voxel), normalised as those of the fit

        Returns
        -------
        array (trial, token, dim), float64

        Raises
        ------
        BadInput
            The number of voxels is not that of the fit.
        """
        if betas.ndim != 2 or betas.shape[1] != len(self.coefficients):
            raise BadInput(
                f"betas of shape {betas.shape}",
                f"(trial, {len(self.coefficients)})",
                "Decode with the mask and the subject that the decoder was fitted on.",
            )
        flat = np.empty((len(betas), len(self.intercept)))
        # Coefficients on a disk may be of more than memory: they pass by in the type that they have, half in single.
        dtype = np.result_type(self.coefficients.dtype, np.float32)
        given = betas.astype(dtype)
        for start in range(0, flat.shape[1], _TARGETS_AT_ONCE):
            place = slice(start, start + _TARGETS_AT_ONCE)
            flat[:, place] = given @ self.coefficients[:, place].astype(dtype, copy=False)
        if self.scale is not None:
            flat *= self.scale
        flat += self.intercept
        return flat.reshape(len(betas), *self.target_shape)

    def rescaled(self, rescaling: "Rescaling") -> "RidgeDecoder":
        """Return the decoder whose predictions p are (p - from) * factor + to."""
        scale = rescaling.factor if self.scale is None else self.scale * rescaling.factor
        intercept = (self.intercept - rescaling.centre) * rescaling.factor + rescaling.to
        return replace(self, intercept=intercept, scale=scale)

    @property
    def alpha(self) -> float:
        """The penalty of the space; the geometric mean where every target has its own."""
        return float(self.alphas[0] if np.ptp(self.alphas) == 0 else np.exp(np.log(self.alphas).mean()))

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The fitted arrays by name, to be stored."""
        shape = np.asarray(self.target_shape, dtype=np.int64)
        state = {
            "coefficients": self.coefficients,
            "intercept": self.intercept,
            "alphas": self.alphas,
            "target_shape": shape,
        }
        return state if self.scale is None else {**state, "scale": self.scale}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> "RidgeDecoder":
        """Return the decoder that `state` was read from."""
        shape = tuple(int(side) for side in state["target_shape"])
        return cls(state["coefficients"], state["intercept"], state["alphas"], shape, state.get("scale"))

    @property
    def weights_sha256(self) -> str:
        """Hash of the fitted arrays: names, types, shapes and bytes."""
        digest = hashlib.sha256()
        for name, array in sorted(self.state.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class Rescaling(NamedTuple):
    """From predictions to the mean and the spread of training targets; arrays (target,).

    centre : mean of held-out predictions of training rows; factor : of the distance from it; to : mean of the targets
    """

    centre: NDArray[np.float64]
    factor: NDArray[np.float64]
    to: NDArray[np.float64]


def find_rescaling(targets: Moments, predicted: Moments) -> Rescaling:
    """Return what brings predictions to the mean and the spread of the targets.

    Parameters
    ----------
    targets : mean and standard deviation (target,) of the training targets
    predicted : the same of their held-out predictions, from `HeldOut.moments`
        A target of which nothing is predicted is left as it is.
    """
    (to, spread), (centre, shrunk) = targets, predicted
    # What is left of a constant is rounding; the ratio of two roundings would be anything.
    found = shrunk > 1e-6 * spread
    return Rescaling(centre, np.divide(spread, shrunk, out=np.ones_like(spread), where=found), to)


def find_rows(alphas: NDArray[np.float64], config: RidgeConfig) -> NDArray[np.intp]:
    """Return which of the configured penalties each target has."""
    found: NDArray[np.intp] = (np.asarray(config.alphas)[:, None] == alphas).argmax(0)
    return found


def choose_alphas(errors: Floats, config: RidgeConfig) -> NDArray[np.float64]:
    """Return the alpha of each target: that of the smallest held-out error of its space, or of its own.

    Parameters
    ----------
    errors : array (alpha, target), from `cross_validate`
    config : the alphas, in the order of `errors`
    """
    if config.alpha_per_target:
        own: NDArray[np.float64] = np.asarray(config.alphas, dtype=np.float64)[errors.argmin(0)]
        return own
    return np.full(errors.shape[1], config.alphas[int(errors.sum(1).argmin())])


def fit_ridge(
    betas: Floats,
    targets: Mapping[str, Floats],
    config: RidgeConfig,
    folds: Sequence[Rows] = (),
    device: str = "cpu",
) -> dict[str, RidgeDecoder]:
    """Fit one decoder for each target space, all from the same factorisations.

    Parameters
    ----------
    betas : array (trial, voxel)
    targets : space -> array (trial, token, dim), or any other shape behind the trials
    config : RidgeConfig
    folds : pairs of training rows and held-out rows that choose alpha; may be empty where there is one alpha
    device : where to compute, e.g. ``cpu`` or ``cuda:0``

    Returns
    -------
    space -> RidgeDecoder

    Raises
    ------
    BadInput
        Shapes do not fit, a value is not finite, several alphas come without folds, or numpy is asked to run elsewhere.
    """
    _check(betas, targets, config, folds, device)
    spaces = {name: array.reshape(len(array), -1) for name, array in targets.items()}
    edges = np.cumsum([0] + [flat.shape[1] for flat in spaces.values()])
    X, Y = (_to_backend(part, config, device) for part in (betas, np.concatenate(list(spaces.values()), axis=1)))
    columns = {name: slice(edges[place], edges[place + 1]) for place, name in enumerate(spaces)}
    if config.backend == "himalaya":
        return _fit_by_himalaya(
            X, {name: Y[:, place] for name, place in columns.items()}, targets, config, folds, device
        )
    held_out = cross_validate(X, Y, folds, config.alphas) if config.needs_folds else None
    errors = np.zeros((1, edges[-1])) if held_out is None else _to_numpy(held_out.errors)
    alphas = {name: choose_alphas(errors[:, place], config) for name, place in columns.items()}
    factors = factorise(X)
    decoders = {}
    for name, place in columns.items():
        solution = solve(factors, Y[:, place], _to_backend(alphas[name], config, device))
        coefficients, intercept = map(_to_numpy, solution)
        decoders[name] = RidgeDecoder(coefficients, intercept, alphas[name], targets[name].shape[1:])
    if config.rescale and held_out is not None:
        chosen = find_rows(np.concatenate(list(alphas.values())), config)
        predicted = [_to_numpy(values) for values in held_out.moments(chosen)]
        for name, place in columns.items():
            flat = spaces[name]
            seen = flat.astype(np.float64)
            rescaling = find_rescaling((seen.mean(0), seen.std(0)), (predicted[0][place], predicted[1][place]))
            decoders[name] = decoders[name].rescaled(rescaling)
    return decoders


def _check(
    betas: Floats, targets: Mapping[str, Floats], config: RidgeConfig, folds: Sequence[Rows], device: str
) -> None:
    if config.backend == "numpy" and device != "cpu":
        raise BadInput(f"device {device} for numpy", "cpu", "Set the backend to torch or auto.")
    if config.needs_folds and not folds:
        raise BadInput(
            f"{len(config.alphas)} alphas{' with rescaling' if config.rescale else ''} and no folds",
            "folds of the training rows, or one alpha without rescaling",
            "Split the training rows by the unit that is held out.",
        )
    for name, array in {"betas": betas, **targets}.items():
        if array.ndim < 2 or len(array) != len(betas) or not np.isfinite(array).all():
            raise BadInput(
                f"{name} of shape {array.shape}, {int((~np.isfinite(array)).sum())} values of it not finite",
                f"finite values for {len(betas)} trials",
                "Check that betas and targets belong together.",
            )


def _fit_by_himalaya(
    betas: Floats,
    flat: Mapping[str, Floats],
    targets: Mapping[str, Floats],
    config: RidgeConfig,
    folds: Sequence[Rows],
    device: str,
) -> dict[str, RidgeDecoder]:
    from voxelight.models.decoders.ridge_himalaya import solve_by_himalaya

    if config.rescale:
        raise BadInput("rescaling by himalaya", "another backend", "Set the backend to auto.")
    decoders = {}
    for name, values in flat.items():
        solved = solve_by_himalaya(betas, values, config.alphas, folds, config.alpha_per_target, device)
        decoders[name] = RidgeDecoder(*solved, targets[name].shape[1:])
    return decoders


def _to_backend(array: Floats, config: RidgeConfig, device: str) -> Array:
    if config.backend in ("numpy", "himalaya") or (config.backend == "auto" and device == "cpu"):
        return np.asarray(array, dtype=np.float64)
    import torch

    # Apple's GPUs know no float64.
    dtype = torch.float32 if device.startswith("mps") else torch.float64
    return torch.as_tensor(np.ascontiguousarray(array)).to(device=device, dtype=dtype)


def _to_numpy(array: Array) -> NDArray[np.float64]:
    return np.asarray(array if isinstance(array, np.ndarray) else array.cpu().numpy(), dtype=np.float64)
