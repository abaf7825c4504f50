"""From betas to every target space of a linear decoder, and back from a single scan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.decoders.ridge import RidgeDecoder
from voxelight.models.decoders.ridge_stream import OnBlock, StreamOptions, TargetTable, fit_streamed
from voxelight.models.errors import BadInput, NotFound
from voxelight.neuro.linear.recipe import LinearRecipe
from voxelight.neuro.splits import k_fold

Floats = NDArray[np.floating[Any]]
MakeRoom = Callable[[str, tuple[int, int]], NDArray[Any]]
"""``(space, (target, voxel)) -> array`` that coefficients are written to, a memory map for one."""


@dataclass(frozen=True, eq=False)
class LinearDecoder:
    """A fitted linear decoder.

    Parameters
    ----------
    mean, spread : array (voxel,), of the training betas; a voxel without variance has spread 1
    decoders : space -> RidgeDecoder of standardised betas
    """

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    decoders: Mapping[str, RidgeDecoder]

    def predict(self, betas: Floats, space: str) -> NDArray[np.float64]:
        """Predict one space, each trial by itself.

        Parameters
        ----------
        betas : array (trial, voxel), as those of the fit before they were standardised; a single trial is enough
        space : that was fitted

        Returns
        -------
        array (trial, ...), in the mean and spread of the training targets

        Raises
        ------
        NotFound
            The space was not fitted.
        BadInput
            The number of voxels is another, or a beta is not finite.
        """
        if space not in self.decoders:
            raise NotFound(f"the space {space!r}", f"one of {', '.join(self.decoders)}", "Fit it first.")
        if betas.ndim != 2 or betas.shape[1:] != self.mean.shape or not np.isfinite(betas).all():
            raise BadInput(
                f"betas of shape {betas.shape}, {int((~np.isfinite(betas)).sum())} of them not finite",
                f"finite ones of shape (trial, {len(self.mean)})",
                "Use the mask and the subject that the decoder was fitted on.",
            )
        return self.decoders[space]((betas - self.mean) / self.spread)


def fit_linear(
    betas: Floats,
    stimuli: Sequence[str],
    targets: Mapping[str, tuple[Any, Sequence[str]]],
    recipe: LinearRecipe,
    make_room: MakeRoom,
    device: str = "cpu",
    options: StreamOptions = StreamOptions(),  # noqa: B008
    on_block: OnBlock | None = None,
) -> LinearDecoder:
    """Fit every target space that is given.

    Voxels are standardised by the training trials (ddof 1, as published); penalties are chosen and predictions rescaled
    by folds of whole stimuli.

    Parameters
    ----------
    betas : array (trial, voxel), of training trials alone, averaged over repeats or not
    stimuli : of each trial
    targets : space of the recipe -> array or memory map (picture, ...), and the picture of each row
    recipe : LinearRecipe
    make_room : for coefficients
    device : e.g. ``cpu`` or ``cuda:0``
    options : StreamOptions
    on_block : called with (blocks done, blocks in all) of a pass over one space

    Raises
    ------
    BadInput
        A space is not of the recipe, has another shape, or lacks the picture of a trial; or betas can't be fitted.
    """
    ids = np.asarray(stimuli, dtype=np.str_)
    mean, spread = _standardise(betas, ids)
    standard = ((betas - mean) / spread).astype(np.float32)
    folds = [
        (fold.train, fold.test)
        for fold in k_fold("stimulus", ids, ids, min(recipe.folds, len(np.unique(ids))), recipe.seed).folds
    ]
    decoders = {}
    for space, (values, pictures) in targets.items():
        table = TargetTable(_flatten(values, space, recipe), _find_rows(ids, pictures, space))
        room = make_room(space, (int(table.values.shape[1]), betas.shape[1]))
        config = recipe.ridge(space)
        needed = folds if config.needs_folds else ()
        fitted = fit_streamed(standard, table, config, room, needed, device, options, on_block).decoder
        shape = recipe.targets[space].shape
        decoders[space] = RidgeDecoder(fitted.coefficients, fitted.intercept, fitted.alphas, shape, fitted.scale)
    return LinearDecoder(mean, spread, decoders)


def _standardise(betas: Floats, ids: NDArray[np.str_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if betas.ndim != 2 or len(betas) != len(ids) or len(betas) < 2 or not np.isfinite(betas).all():
        raise BadInput(
            f"betas of shape {betas.shape} for {len(ids)} stimuli, {int((~np.isfinite(betas)).sum())} not finite",
            "finite betas (trial, voxel) with a stimulus for each of two or more trials",
            "Give the training trials and their stimuli in one order.",
        )
    mean, spread = betas.mean(0, dtype=np.float64), betas.std(0, ddof=1, dtype=np.float64)
    return mean, np.where(spread > 0, spread, 1.0)


def _flatten(values: Any, space: str, recipe: LinearRecipe) -> Any:
    if space not in recipe.targets:
        raise BadInput(
            f"the target space {space!r}", f"one of {', '.join(recipe.targets)}", f"Name a space of {recipe.name}."
        )
    target = recipe.targets[space]
    if values.shape[1:] not in (target.shape, (target.size,)):
        raise BadInput(
            f"targets of {space} of shape {values.shape}",
            f"(picture, {', '.join(map(str, target.shape))}), made by {target.made_by}",
            "Make them as the recipe says.",
        )
    return values.reshape(len(values), target.size)


def _find_rows(ids: NDArray[np.str_], pictures: Sequence[str], space: str) -> NDArray[np.intp]:
    place = {str(picture): row for row, picture in enumerate(pictures)}
    missing = sorted(set(ids.tolist()) - set(place))
    if missing or len(place) != len(pictures):
        raise BadInput(
            f"targets of {space} for {len(place)} pictures, none for {', '.join(missing[:3]) or 'a double one'}",
            "one target for the picture of every training trial, none twice",
            "Make the missing ones, or leave out trials without a picture.",
        )
    return np.array([place[one] for one in ids.tolist()], np.intp)
