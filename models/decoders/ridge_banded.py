"""Ridge with a penalty for each band of voxels, such as each region."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from voxelight.models.decoders.ridge import RidgeConfig, RidgeDecoder, fit_ridge
from voxelight.models.decoders.ridge_solver import Floats, Rows, cross_validate
from voxelight.models.errors import BadInput


class BandedConfig(BaseModel):
    r"""Options of a banded ridge.

    It minimises :math:`\|Y - \sum_b X_b W_b\|^2 + \alpha \sum_b \|W_b\|^2 / \gamma_b` (Nunez-Elizalde, Huth and Gallant
    2019, eq. 3), which is a ridge on bands times the root of their weight. Weights are drawn from Dirichlet
    distributions, and those are kept that predict held-out rows best, as himalaya's random search does.

    Parameters
    ----------
    alphas : penalties to choose from
    draws : of weights; the first are all equal, which is a plain ridge
    concentrations : of the Dirichlet distributions, in turn; small ones try single bands
    seed : of the draws
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alphas: tuple[PositiveFloat, ...] = Field(default=tuple(10.0**power for power in range(8)), min_length=1)
    draws: PositiveInt = 20
    concentrations: tuple[PositiveFloat, ...] = Field((0.1, 1.0), min_length=1)
    seed: NonNegativeInt = 0

    def draw(self, bands: int) -> NDArray[np.float64]:
        """Return the weights that are tried, array (draw, band); each row sums to one."""
        random = np.random.default_rng(self.seed)
        kinds = [self.concentrations[number % len(self.concentrations)] for number in range(self.draws - 1)]
        return np.stack([np.full(bands, 1 / bands), *(random.dirichlet(np.full(bands, kind)) for kind in kinds)])


@dataclass(frozen=True, eq=False)
class BandedFit:
    """A banded ridge.

    Parameters
    ----------
    decoders : space -> RidgeDecoder of betas as they are
    weights : space -> band -> gamma, which sum to one
    errors : space -> array (draw, alpha), squared error of held-out rows
    """

    decoders: dict[str, RidgeDecoder]
    weights: dict[str, dict[str, float]]
    errors: dict[str, NDArray[np.float64]]


def fit_banded(
    betas: Floats,
    targets: Mapping[str, Floats],
    bands: NDArray[np.str_],
    config: BandedConfig,
    folds: Sequence[Rows],
) -> BandedFit:
    """Fit one banded ridge for each target space.

    Parameters
    ----------
    betas : array (trial, voxel), normalised
    targets : space -> array (trial, ...)
    bands : array (voxel,), the band of each voxel, such as its region
    config : BandedConfig
    folds : pairs of training rows and held-out rows, which choose

    Raises
    ------
    BadInput
        The bands are not one a voxel, there is one only, folds are missing, or `fit_ridge` refuses.
    """
    names, place = np.unique(bands, return_inverse=True)
    if bands.shape != betas.shape[1:] or len(names) < 2 or not folds:
        raise BadInput(
            f"{len(names)} bands over {bands.shape} voxels and {len(folds)} folds",
            f"two or more bands over ({betas.shape[1]},) voxels, and folds to choose by",
            "Give every voxel the name of its band; with one band, fit a plain ridge.",
        )
    draws, wide = config.draw(len(names)), betas.astype(np.float64)
    edges = np.cumsum([0] + [int(np.prod(array.shape[1:])) for array in targets.values()])
    flat = np.concatenate([array.reshape(len(array), -1) for array in targets.values()], axis=1).astype(np.float64)
    held_out = np.stack(
        [cross_validate(wide * np.sqrt(gamma[place]), flat, folds, config.alphas).errors for gamma in draws]
    )
    fit = BandedFit({}, {}, {})
    for number, (space, array) in enumerate(targets.items()):
        errors = held_out[:, :, edges[number] : edges[number + 1]].sum(axis=2)
        draw, alpha = np.unravel_index(int(errors.argmin()), errors.shape)
        root = np.sqrt(draws[draw][place])
        scaled = fit_ridge(wide * root, {space: array}, RidgeConfig(alphas=(config.alphas[alpha],)))[space]
        fit.decoders[space] = RidgeDecoder(
            scaled.coefficients * root[:, None], scaled.intercept, scaled.alphas, scaled.target_shape
        )
        fit.weights[space] = dict(zip(names.tolist(), draws[draw].tolist(), strict=True))
        fit.errors[space] = errors
    return fit
