"""Ridge regression from voxels to any target space: one factorisation serves every target and every alpha."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from voxelight.models.decoders.ridge_solver import Array, Floats, Rows, cross_validate, factorise, solve
from voxelight.models.errors import BadInput


class RidgeConfig(BaseModel):
    """Options of the ridge decoder.

    Parameters
    ----------
    alphas : penalties to choose from, in units of a squared beta summed over trials, as in scikit-learn
    alpha_per_target : whether every target has an alpha of its own
        Off, one alpha serves a whole target space. Targets with alphas of their own are shrunk by different factors,
        which turns a predicted vector: its cosine to the true one, and so every retrieval score, is distorted.
    backend : ``numpy``, ``torch``, or ``auto``: numpy on the CPU and torch elsewhere
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alphas: tuple[PositiveFloat, ...] = Field(default=tuple(10.0**power for power in range(8)), min_length=1)
    alpha_per_target: bool = False
    backend: Literal["auto", "numpy", "torch"] = "auto"

    @property
    def needs_folds(self) -> bool:
        """Whether a fit has something to choose."""
        return len(self.alphas) > 1

    def fit(self, betas: Floats, targets: Floats, folds: Sequence[Rows] = (), device: str = "cpu") -> "RidgeDecoder":
        """Fit one target space: see `fit_ridge`."""
        return fit_ridge(betas, {"targets": targets}, self, folds, device)["targets"]


@dataclass(frozen=True, eq=False)
class RidgeDecoder:
    """A fitted linear map from betas to one target space.

    Parameters
    ----------
    coefficients : array (voxel, target), float64
    intercept : array (target,), float64
    alphas : array (target,), float64, the penalty that each target was fitted with
    target_shape : shape of one target, e.g. (token, dim)
    """

    coefficients: NDArray[np.float64]
    intercept: NDArray[np.float64]
    alphas: NDArray[np.float64]
    target_shape: tuple[int, ...]

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
        flat = betas.astype(np.float64) @ self.coefficients + self.intercept
        return flat.reshape(len(betas), *self.target_shape)

    @property
    def alpha(self) -> float:
        """The penalty of the space; the geometric mean where every target has its own."""
        return float(self.alphas[0] if np.ptp(self.alphas) == 0 else np.exp(np.log(self.alphas).mean()))

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The fitted arrays by name, to be stored."""
        shape = np.asarray(self.target_shape, dtype=np.int64)
        return {
            "coefficients": self.coefficients,
            "intercept": self.intercept,
            "alphas": self.alphas,
            "target_shape": shape,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> "RidgeDecoder":
        """Return the decoder that `state` was read from."""
        shape = tuple(int(side) for side in state["target_shape"])
        return cls(state["coefficients"], state["intercept"], state["alphas"], shape)

    @property
    def weights_sha256(self) -> str:
        """Hash of the fitted arrays: names, types, shapes and bytes."""
        digest = hashlib.sha256()
        for name, array in sorted(self.state.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


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
    if config.needs_folds:
        errors = _to_numpy(cross_validate(X, Y, folds, config.alphas))
        alphas = {name: choose_alphas(errors[:, place], config) for name, place in columns.items()}
    else:
        alphas = {name: np.full(flat.shape[1], config.alphas[0]) for name, flat in spaces.items()}
    factors = factorise(X)
    decoders = {}
    for name, place in columns.items():
        solution = solve(factors, Y[:, place], _to_backend(alphas[name], config, device))
        coefficients, intercept = map(_to_numpy, solution)
        decoders[name] = RidgeDecoder(coefficients, intercept, alphas[name], targets[name].shape[1:])
    return decoders


def _check(
    betas: Floats, targets: Mapping[str, Floats], config: RidgeConfig, folds: Sequence[Rows], device: str
) -> None:
    if config.backend == "numpy" and device != "cpu":
        raise BadInput(f"device {device} for numpy", "cpu", "Set the backend to torch or auto.")
    if config.needs_folds and not folds:
        raise BadInput(
            f"{len(config.alphas)} alphas and no folds to choose by",
            "folds of the training rows, or one alpha",
            "Split the training rows by the unit that is held out.",
        )
    for name, array in {"betas": betas, **targets}.items():
        if array.ndim < 2 or len(array) != len(betas) or not np.isfinite(array).all():
            raise BadInput(
                f"{name} of shape {array.shape}, {int((~np.isfinite(array)).sum())} values of it not finite",
                f"finite values for {len(betas)} trials",
                "Check that betas and targets belong together.",
            )


def _to_backend(array: Floats, config: RidgeConfig, device: str) -> Array:
    if config.backend == "numpy" or (config.backend == "auto" and device == "cpu"):
        return np.asarray(array, dtype=np.float64)
    import torch

    # Apple's GPUs know no float64.
    dtype = torch.float32 if device.startswith("mps") else torch.float64
    return torch.as_tensor(np.ascontiguousarray(array)).to(device=device, dtype=dtype)


def _to_numpy(array: Array) -> NDArray[np.float64]:
    return np.asarray(array if isinstance(array, np.ndarray) else array.cpu().numpy(), dtype=np.float64)
