"""Leak checks: what is fitted must not know the held-out rows, and a held-out row must not know its neighbours."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas, Stimuli
from voxelight.neuro.betas import average_repeats, find_normalisation, normalise, select_rows
from voxelight.neuro.evaluate.guards import Guard
from voxelight.neuro.folds import find_pictures, plan_inner_folds, resize_pictures
from voxelight.neuro.recipes import ReconstructionRecipe
from voxelight.neuro.splits import Fold, Leak, Rows, find_unit_ids

Floats = NDArray[np.floating[Any]]
Fit = Callable[[Betas, Floats, Rows], Any]
Apply = Callable[[Any, Floats], Floats]

_SHOWN_DIGITS = 12


def check_fit(fit: Fit, apply: Apply, betas: Betas, targets: Floats, fold: Fold) -> str:
    """Fit with the held-out rows in the table, without them, and with noise in their place: one model must come out.

    Scaler, principal components, penalty, choice of voxels, means of tokens: whatever `fit` does is checked.

    Parameters
    ----------
    fit : (Betas, targets (trial, ...), training rows) -> model
        Gets the whole table and is told which rows it may use.
    apply : (model, array (trial, voxel)) -> array (trial, ...)
    betas, targets : the table, one row a trial
    fold : Fold

    Returns
    -------
    sha256 of the model: of its weights, where it is an array, a mapping of arrays or has a `weights_sha256`, and of
    what it makes of the training rows

    Raises
    ------
    Leak
        The model depends on held-out rows.
    """
    random = np.random.default_rng(0)
    noisy_values, noisy_targets = betas.values.copy(), targets.copy()
    noisy_values[fold.test] = random.normal(5, 3, size=noisy_values[fold.test].shape)
    noisy_targets[fold.test] = random.normal(5, 3, size=noisy_targets[fold.test].shape)
    kept = np.setdiff1d(np.arange(len(betas.values)), fold.test)
    tables = {
        "in the table": (betas, targets, fold.train),
        "taken out": (select_rows(betas, kept), targets[kept], np.searchsorted(kept, fold.train)),
        "replaced by noise": (replace(betas, values=noisy_values), noisy_targets, fold.train),
    }
    probe = betas.values[fold.train]
    hashes = {how: _hash_model(model := fit(*table), apply(model, probe)) for how, table in tables.items()}
    if len(set(hashes.values())) > 1:
        told = "; ".join(f"{how}: {digest[:_SHOWN_DIGITS]}" for how, digest in hashes.items())
        raise Leak(
            f"other models where the held-out rows of fold {fold.key} are {told}",
            "one model, whatever is held out",
            "Fit every scaler, selection, component, mean and penalty on the training rows alone.",
        )
    return hashes["in the table"]


def check_apply(apply: Apply, model: Any, values: Floats, tolerance: float = 1e-5) -> None:
    """Apply a model to rows together and one by one: the result of a row must not depend on its neighbours.

    This is how predictions that are standardised anew over the test set are found: no single scan could be decoded
    so.

    Parameters
    ----------
    apply : (model, array (trial, voxel)) -> array (trial, ...)
    model : fitted
    values : array (trial, voxel), two rows or more say something
    tolerance : largest difference, as a share of the largest value, that counts as rounding

    Raises
    ------
    Leak
        A row changes with its neighbours.
    """
    together = np.asarray(apply(model, values))
    alone = np.concatenate([apply(model, values[row : row + 1]) for row in range(len(values))])
    apart = float(np.abs(together - alone).max() / max(float(np.abs(together).max()), 1e-12))
    if not apart <= tolerance:
        raise Leak(
            f"results that differ by {apart:.2g} of their largest value between rows alone and together",
            f"at most {tolerance:g}, which is rounding",
            "Scale predictions by statistics of cross-validated training predictions, not of the test set.",
        )


def check_recipe(betas: Betas, stimuli: Stimuli, recipe: ReconstructionRecipe, fold: Fold) -> tuple[Guard, ...]:
    """Check the scaler and the decoder of a recipe on one fold.

    Returns
    -------
    the records `normalisation`, `fit` and `alone`; those that a transductive normalisation breaks are declared

    Raises
    ------
    Leak
        Something knows the held-out rows that does not say so by its name.
    """
    pictures = resize_pictures(stimuli, recipe.picture_side)
    targets = find_pictures(pictures, betas.stimulus_ids).astype(np.float64)
    how = find_normalisation(recipe.normalisation)
    if how.transductive:
        told = f"Normalisation {how.name}: {how.summary}."
        return tuple(Guard(name, "declared", told) for name in ("normalisation", "fit", "alone"))
    scaler = check_fit(fit_normalisation(recipe.normalisation), lambda scaled, _: scaled, betas, targets, fold)
    fit = fit_recipe(recipe)
    model = check_fit(fit, lambda decoder, values: decoder(values), betas, targets, fold)
    decoder = fit(betas, targets, fold.train)
    held_out = average_repeats(select_rows(normalise(betas, fold.train, recipe.normalisation), fold.test))
    rows = np.concatenate([held_out.values, np.zeros((1, held_out.values.shape[1]), np.float32)])
    check_apply(lambda fitted, values: fitted(values), decoder, rows)
    return (
        Guard("normalisation", "held", f"Fold {fold.key}, {recipe.normalisation}: hash {scaler[:_SHOWN_DIGITS]}."),
        Guard("fit", "held", f"Fold {fold.key}, {recipe.decoder} with its choice of alpha: {model[:_SHOWN_DIGITS]}."),
        Guard("alone", "held", f"Fold {fold.key}, {len(rows)} rows."),
    )


def fit_normalisation(name: str) -> Fit:
    """Return `fit` of a normalisation; what it makes of the training rows stands for its model."""

    def fit(betas: Betas, _: Floats, train: Rows) -> Floats:
        return normalise(betas, train, name).values[train]

    return fit


def fit_recipe(recipe: ReconstructionRecipe) -> Fit:
    """Return `fit` of a recipe: scaler, average over repeats, inner folds, alpha and decoder, as a fold does it."""

    def fit(betas: Betas, targets: Floats, train: Rows) -> Any:
        rows = select_rows(normalise(betas, train, recipe.normalisation), train)
        shown = {name: targets[row] for name, row in zip(rows.stimulus_ids.tolist(), train, strict=True)}
        if recipe.repeats == "averaged":
            rows = average_repeats(rows, within=find_unit_ids(rows, recipe.unit))
        config = recipe.decoder_config()
        inner = plan_inner_folds(rows, recipe) if config.needs_folds else ()
        folds = [(each.train, each.test) for each in inner]
        return config.fit(rows.values, np.stack([shown[name] for name in rows.stimulus_ids.tolist()]), folds, "cpu")

    return fit


def hash_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 of arrays by name: types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _hash_model(model: Any, made: Floats) -> str:
    outside = {"made of the training rows": np.asarray(made)}
    if hasattr(model, "weights_sha256"):
        return hash_arrays(outside | {"weights": np.array(model.weights_sha256)})
    if isinstance(model, Mapping):
        return hash_arrays(outside | {str(name): np.asarray(array) for name, array in model.items()})
    if isinstance(model, np.ndarray):
        return hash_arrays(outside | {"model": model})
    if callable(model):
        return hash_arrays(outside)
    raise BadInput(f"a model of type {type(model).__name__}", "an array, a mapping of arrays, or a decoder", "Wrap it.")
