"""How uncertain a recipe is of each voxel: by entropy, or by what has earned it on held-out cases."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import log
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelight.medseg.cases import Case
from voxelight.medseg.predict import Segmenter, cut_windows, find_mirrors, reproducible, soften
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.medseg.reliability import find_band
from voxelight.medseg.segment import Prepared, label, prepare
from voxelight.medseg.stream import stream
from voxelight.medseg.transforms import box_of, cut, resample
from voxelight.medseg.uncertainty import area_under_risk, choose_uncertainty
from voxelight.models.errors import BadInput

Kind = Literal["entropy", "spread", "folds"]
_WIDEST = 0.5  # largest standard deviation of values from 0 to 1
_MARGIN_MM = 4.0


@dataclass(frozen=True)
class UncertaintyChoice:
    """Which uncertainty is worth showing.

    Parameters
    ----------
    kind : the one that is shown
    areas : kind -> mean area under the risk-coverage curve over cases; smaller is better
    cases : how many it was chosen by
    """

    kind: Kind
    areas: Mapping[str, float]
    cases: int


def list_kinds(segmenter: Segmenter) -> tuple[Kind, ...]:
    """Return what a segmenter can say: entropy always, the spread of votes of a cDAL, that of two folds or more."""
    found: list[Kind] = ["entropy"]
    if all(hasattr(network, "vote") for network in segmenter.networks):
        found.append("spread")
    if len(segmenter.networks) > 1:
        found.append("folds")
    return tuple(found)


def map_uncertainty(
    prepared: Prepared, segmenter: Segmenter, kind: Kind | None = None, tick: Callable[[float], None] | None = None
) -> NDArray[np.float16]:
    """Return how uncertain each voxel is, from 0 to 1, by a pass of its own over the networks.

    ``entropy`` is that of the probabilities over its largest value; ``spread`` the standard deviation of a cDAL's votes
    and ``folds`` that of the folds' probabilities, of the label where it is largest, doubled.

    Parameters
    ----------
    prepared : of `segment.prepare`
    segmenter : of `predict.build_segmenter`
    kind : None: as the recipe says
    tick : called with the share of windows done

    Returns
    -------
    array (i, j, k) on the grid of the volume; 0 where no network looked

    Raises
    ------
    BadInput
        The segmenter can't say that.
    """
    kind = kind or segmenter.recipe.uncertainty
    if kind not in list_kinds(segmenter):
        raise BadInput(f"uncertainty by {kind}", f"one of {', '.join(list_kinds(segmenter))}",
                       "Use votes of a cDAL, or two folds or more.")  # fmt: skip
    whole = np.zeros(prepared.geometry.shape, np.float16)
    for grid, array in prepared.fields:
        image = torch.from_numpy(np.ascontiguousarray(array)).to(segmenter.device)
        found = np.zeros((1, *grid.shape), np.float32)
        stacked, windows = cut_windows(image, segmenter.recipe)
        with reproducible(segmenter.device):
            for box, values in stream(stacked, _find_measure(segmenter, kind), windows, tick):
                found[(slice(None), *box)] = values.float().cpu().numpy()
        place = box_of(grid, prepared.geometry, _MARGIN_MM)
        here = resample(found, grid, cut(prepared.geometry, place), goes_on=not segmenter.recipe.regions)[0]
        whole[place] = np.maximum(whole[place], here.clip(0, 1))
    return whole


def choose_for(
    cases: Iterable[Case], segmenter: Segmenter, person_of: Mapping[str, str] | None = None, seed: int = 0
) -> UncertaintyChoice:
    """Choose by the areas under the risk-coverage curves of held-out cases, within 3 mm of borders of the reference.

    Parameters
    ----------
    cases : that neither training nor a choice of options has seen
    segmenter : of `predict.build_segmenter`
    person_of : case -> person; each case its own without
    seed : of the bootstrap over persons

    Raises
    ------
    BadInput
        No case has a border.
    """
    kinds = list_kinds(segmenter)
    areas: dict[str, dict[str, float]] = {kind: {} for kind in kinds}
    for case in cases:
        band = find_band(case.labels)
        if not band.any():
            continue
        prepared = prepare(case.volume, segmenter.recipe)
        wrong = label(prepared, segmenter).label_map.array != case.labels.array
        for kind in kinds:
            areas[kind][case.name] = area_under_risk(map_uncertainty(prepared, segmenter, kind)[band], wrong[band])
    names = list(areas["entropy"])
    if not names:
        raise BadInput("no case with a border between labels", "one at least", "Check the label maps.")
    owner = {name: (person_of or {}).get(name, name) for name in names}
    chosen = cast(Kind, choose_uncertainty(areas, owner, seed))  # a key of the areas
    return UncertaintyChoice(
        chosen, {name: float(np.mean(list(row.values()))) for name, row in areas.items()}, len(names)
    )


def _find_measure(segmenter: Segmenter, kind: Kind) -> Callable[[Tensor], Tensor]:
    """Return what maps windows (b, c, i, j, k) to an uncertainty (b, 1, i, j, k)."""
    recipe, device = segmenter.recipe, torch.device(segmenter.device).type
    mirrors = [[axis + 2 for axis in axes] for axes in find_mirrors(recipe)]

    def mean_of_mirrors(look: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with torch.autocast(device, dtype=torch.float16, enabled=segmenter.half):
            found = [look(x.flip(axes)).flip(axes) for axes in mirrors]
        return torch.stack(found).float().mean(dim=0)

    def measure(x: Tensor) -> Tensor:
        if kind == "spread":
            spreads = [mean_of_mirrors(lambda seen, of=network: _spread(of, seen, recipe), x)  # type: ignore[misc]
                       for network in segmenter.networks]  # fmt: skip
            return torch.stack(spreads).mean(dim=0) / _WIDEST
        by_fold = torch.stack(
            [mean_of_mirrors(lambda seen, of=network: _shares(of, seen, recipe), x) for network in segmenter.networks]  # type: ignore[misc]
        )
        if kind == "folds":
            return by_fold.std(dim=0, unbiased=False).amax(dim=1, keepdim=True) / _WIDEST
        p = soften(by_fold.mean(dim=0).movedim(1, 0), recipe.temperature, bool(recipe.label_regions)).clamp(1e-12, 1)
        if recipe.label_regions:
            q = (1 - p).clamp(1e-12, 1)
            return (-(p * p.log() + q * q.log()) / log(2)).amax(dim=0)[:, None]
        return (-(p * p.log()).sum(dim=0) / log(recipe.channels))[:, None]

    return measure


def _shares(network: torch.nn.Module, x: Tensor, recipe: SegmentationRecipe) -> Tensor:
    logits = network(x[..., 0])[..., None] if recipe.context > 1 else network(x)
    found: Tensor = logits.sigmoid() if recipe.label_regions else logits.softmax(dim=1)
    return found


def _spread(network: torch.nn.Module, x: Tensor, recipe: SegmentationRecipe) -> Tensor:
    """Return the spread of votes (b, 1, i, j, k), slice by slice."""
    slices = [network.vote(part)[1] for part in x.unbind(dim=-1)]  # type: ignore[operator]
    return torch.stack(slices, dim=-1)[:, None]
