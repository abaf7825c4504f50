"""Which category a trial belongs to, by ridge to one column a category: a baseline for block designs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.decoders.ridge import RidgeConfig, fit_ridge
from voxelight.models.errors import BadInput
from voxelight.models.values import Betas
from voxelight.neuro.betas import normalise
from voxelight.neuro.evaluate.intervals import bootstrap_mean, permutation_p
from voxelight.neuro.splits import Labels, find_unit_ids, leave_one_out

Hits = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Classification:
    """How often the category was found in trials of units that were held out whole.

    Parameters
    ----------
    value, low, high : share of trials, and its 95 % bootstrap interval over units
    chance : one over the number of categories
    null_mean, null_std, p : of the same with categories permuted inside each unit
    draws : of the null
    n_trials, n_units, n_categories : sizes
    confusion : array (true category, found category), counts
    categories : names, in the order of `confusion`
    """

    value: float
    low: float
    high: float
    chance: float
    null_mean: float
    null_std: float
    p: float
    draws: int
    n_trials: int
    n_units: int
    n_categories: int
    confusion: NDArray[np.intp]
    categories: tuple[str, ...]


def classify(
    betas: Betas, unit: str = "run", config: RidgeConfig | None = None, permutations: int = 199, seed: int = 0
) -> Classification:
    """Hold out every unit once, and find the category of its trials.

    Voxels are standardised by the training rows of the fold; the alpha is chosen by the same units inside them.

    Parameters
    ----------
    betas : Betas (trial, voxel) with the label ``category``
    unit : what is held out whole, e.g. ``run``
    config : RidgeConfig
    permutations : draws of the null, each of which fits everything anew, its alpha too
    seed : of all draws

    Raises
    ------
    BadInput
        There are no categories, fewer than two of them, or fewer than three units.
    """
    labels = find_unit_ids(betas, "category")
    units = find_unit_ids(betas, unit)
    names, codes = np.unique(labels, return_inverse=True)
    if len(names) < 2 or len(set(units.tolist())) < 3:
        raise BadInput(
            f"{len(names)} categories in {len(set(units.tolist()))} of the unit {unit}",
            "two categories or more in three units or more",
            "Give more runs, or hold out another unit.",
        )
    config = config or RidgeConfig()
    draw = np.random.default_rng(seed)
    orders = [codes, *(_permute_inside(codes, units, draw) for _ in range(permutations))]
    every = _find(betas, orders, units, unit, config)
    found, hits = every[0], (every[0] == codes).astype(float)
    null = np.array([float((each == order).mean()) for each, order in zip(every[1:], orders[1:], strict=True)])
    low, high = bootstrap_mean(hits, units, 2000, seed)
    confusion = np.zeros((len(names), len(names)), dtype=np.intp)
    np.add.at(confusion, (codes, found), 1)
    spread = null if len(null) else np.array([np.nan])
    value = float(hits.mean())
    return Classification(
        value=value,
        low=low,
        high=high,
        chance=1 / len(names),
        null_mean=float(spread.mean()),
        null_std=float(spread.std()),
        p=permutation_p(value, null),
        draws=permutations,
        n_trials=len(hits),
        n_units=len(set(units.tolist())),
        n_categories=len(names),
        confusion=confusion,
        categories=tuple(names.tolist()),
    )


def _find(
    betas: Betas, orders: list[NDArray[np.intp]], units: Labels, unit: str, config: RidgeConfig
) -> NDArray[np.intp]:
    """Return the category found in each trial for every order of the categories: array (order, trial).

    All orders share the factorisations of a fold; each chooses its own alpha.
    """
    columns = np.eye(int(orders[0].max()) + 1)
    found = np.empty((len(orders), len(units)), dtype=np.intp)
    for fold in leave_one_out(unit, units, betas.stimulus_ids).folds:
        values: NDArray[Any] = normalise(betas, fold.train, "training-rows").values
        inner = leave_one_out(unit, units[fold.train], betas.stimulus_ids[fold.train])
        rows = [(each.train, each.test) for each in inner.folds] if config.needs_folds else []
        targets = {str(number): columns[order][fold.train] for number, order in enumerate(orders)}
        decoders = fit_ridge(values[fold.train], targets, config, rows)
        for number in range(len(orders)):
            found[number, fold.test] = decoders[str(number)](values[fold.test]).argmax(1)
    return found


def _permute_inside(codes: NDArray[np.intp], units: Labels, draw: np.random.Generator) -> NDArray[np.intp]:
    shuffled = codes.copy()
    for name in np.unique(units):
        rows = np.flatnonzero(units == name)
        shuffled[rows] = codes[draw.permutation(rows)]
    return shuffled
