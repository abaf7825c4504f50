"""How certain a recipe's networks should say to be, from cases that training has not seen."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from voxelight.medseg.cases import Case
from voxelight.medseg.predict import Segmenter, stream_probabilities
from voxelight.medseg.reliability import Calibration, find_band, fit_temperature
from voxelight.medseg.segment import prepare
from voxelight.models.errors import BadInput

VOXELS_A_CASE = 20_000
Sample = tuple[NDArray[np.float32], NDArray[np.int64]]


def calibrate(
    cases: Iterable[Case], segmenter: Segmenter, seed: int = 0, progress: Callable[[int], None] | None = None
) -> Calibration:
    """Fit the temperature of a recipe, with its folds and mirror images, near the borders of held-out references.

    Voxels within 3 mm of a border are looked at: farther away, background is certain and right, and would drown what
    matters. Cases count by their voxels there, up to 20,000 each.

    Parameters
    ----------
    cases : that neither training nor a choice of options has seen
    segmenter : of `predict.build_segmenter`; its temperature is set aside
    seed : of the draw of voxels
    progress : called with the number of cases done

    Raises
    ------
    BadInput
        There is no case with a border, or the recipe segments regions of a head.
    """
    plain = replace(segmenter, recipe=segmenter.recipe.model_copy(update={"temperature": 1.0}))
    samples = []
    for number, case in enumerate(cases, start=1):
        samples.append(sample_case(case, plain, VOXELS_A_CASE, seed + number))
        if progress is not None:
            progress(number)
    return fit_temperature(samples)


def sample_case(case: Case, segmenter: Segmenter, most: int, seed: int) -> Sample:
    """Draw voxels near the borders of a reference, and read what the networks say there.

    Parameters
    ----------
    case : image and reference
    segmenter : of `predict.build_segmenter`
    most : voxels at most
    seed : of the draw

    Returns
    -------
    probabilities, array (label, voxel), of the nearest voxel of the network's grid; the reference, array (voxel,)
    """
    recipe = segmenter.recipe
    if recipe.regions:
        raise BadInput(f"recipe {recipe.name}, which segments regions of a head", "a recipe of whole images",
                       "Calibrate the recipe whose weights it uses.")  # fmt: skip
    if recipe.label_regions:
        raise BadInput(f"recipe {recipe.name}, whose regions overlap", "a recipe that gives one label a voxel",
                       "Set `temperature` by hand.")  # fmt: skip
    places = np.flatnonzero(find_band(case.labels))
    if places.size > most:
        places = np.sort(np.random.default_rng(seed).choice(places, most, replace=False))
    reference = case.labels.array.ravel()[places].astype(np.int64)
    [(grid, array)] = prepare(case.volume, recipe).fields
    step = np.linalg.inv(grid.affine) @ case.volume.geometry.affine
    at = step[:3, :3] @ np.array(np.unravel_index(places, case.labels.array.shape)) + step[:3, 3:]
    at = np.clip(np.rint(at), 0, np.array(grid.shape)[:, None] - 1).astype(int)
    found = np.zeros((len(recipe.labels) + 1, places.size), dtype=np.float32)
    for box, probabilities in stream_probabilities(array, segmenter):
        low = np.array([part.start for part in box])[:, None]
        here = np.flatnonzero(((at >= low) & (at < np.array([part.stop for part in box])[:, None])).all(axis=0))
        if here.size:
            i, j, k = at[:, here] - low
            found[:, here] = probabilities.float().cpu().numpy()[:, i, j, k]
    return found, reference
