"""Look at a network while it is trained: Dice over cases that it is not trained on."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn

from voxelight.medseg.recipes.recipe import SegmentationRecipe, own_labels
from voxelight.medseg.reduce import assemble
from voxelight.medseg.train_samples import Sample
from voxelight.models.diffusion.noise import stage_generator
from voxelight.models.errors import BadInput
from voxelight.models.segmentation.slices import add_neighbours


def split_validation(
    cases: Sequence[str], person_of: Mapping[str, str] | None, share: float, seed: int
) -> frozenset[str]:
    """Draw the cases that are looked at and not trained on: all of a share of the persons, at least one of them.

    Parameters
    ----------
    cases : names
    person_of : case -> person; each case its own without
    share : of persons; 0: nobody
    seed : of the draw

    Raises
    ------
    BadInput
        Nobody is left to train on.
    """
    if not share:
        return frozenset()
    owner = {case: case if person_of is None else person_of.get(case, case) for case in cases}
    persons = sorted(set(owner.values()))
    count = max(1, round(share * len(persons)))
    if count >= len(persons):
        raise BadInput(f"{len(persons)} persons, of whom {count} are to be looked at only", "at least one to train on",
                       "Set `validation` to 0, or add cases.")  # fmt: skip
    order = stage_generator(seed, "validation").permutation(len(persons))
    chosen = {persons[place] for place in order[:count].tolist()}
    return frozenset(case for case in cases if owner[case] in chosen)


class Validation:
    """Cases on the grid of the network, and how they are scored there.

    Parameters
    ----------
    samples : to look at
    recipe : its window and labels
    device : where to compute
    """

    def __init__(self, samples: Sequence[Sample], recipe: SegmentationRecipe, device: torch.device) -> None:
        self.samples, self._recipe, self._device = samples, recipe, device

    @torch.no_grad()
    def score(self, network: nn.Module) -> dict[str, float]:
        """Return label -> mean Dice over the cases; a case without the label, found or drawn, does not count."""
        found: dict[str, list[float]] = {label: [] for label in self._recipe.scored}
        for sample in self.samples:
            labels = self._choose(self._predict(network, sample)).cpu().numpy()
            for label, numbers in self._recipe.scored.items():
                mine, drawn = np.isin(labels, numbers), np.isin(sample.labels, numbers)
                size = int(mine.sum() + drawn.sum())
                if size:
                    found[label].append(2 * int((mine & drawn).sum()) / size)
        return {label: float(np.mean(values)) for label, values in found.items() if values}

    def _choose(self, logits: Tensor) -> Tensor:
        regions = self._recipe.label_regions
        return assemble(logits.sigmoid(), own_labels(regions))[0] if regions else logits.argmax(dim=0)

    def _predict(self, network: nn.Module, sample: Sample) -> Tensor:
        """Return logits (label, i, j, k) of a case; a network for slices goes through it slice by slice."""
        x = torch.from_numpy(sample.image).to(self._device)[None]
        context = self._recipe.context
        axes = 2 if context > 1 else 3  # slices in context go through one by one, however many there are
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._device.type == "cuda"):
            if all(side <= window for side, window in zip(x.shape[2:][:axes], self._recipe.patch[:axes], strict=True)):
                logits: Tensor = network(x)
            elif context > 1:
                stacked, window = add_neighbours(x, context), (*self._recipe.patch[:2], 1)

                def see(crop: Tensor) -> Tensor:
                    found: Tensor = network(crop[..., 0])
                    return found[..., None]

                logits = sliding_window_inference(stacked, window, 4, see, 0.25, mode="gaussian")  # type: ignore[assignment]
            else:
                logits = sliding_window_inference(x, self._recipe.patch, 4, network, 0.25, mode="gaussian")  # type: ignore[assignment]
        return logits[0].float()
