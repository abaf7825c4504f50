"""Whether diffusion matters at all: a cDAL whose noisy label is kept, replaced, shuffled or left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from voxelight.medseg.evaluate import Interval, dice, mean_by_person, paired_difference
from voxelight.models.errors import BadInput
from voxelight.models.segmentation.cdal import CDAL

CONDITIONS = ("full", "random-yt", "shuffle-yt", "core-no-diff")


@dataclass(frozen=True)
class Audit:
    """Dice of every image under each condition, and what is concluded.

    Parameters
    ----------
    dice : condition -> image -> mean Dice over the labels that the image or the answer holds
    means : condition -> mean over persons
    gains : condition -> ``full`` minus that condition, over persons; an interval that holds zero says that nothing is
        lost when the noisy label is replaced so
    """

    dice: Mapping[str, Mapping[str, float]]
    means: Mapping[str, Interval]
    gains: Mapping[str, Interval]


def audit(
    network: CDAL,
    images: Sequence[Tensor],
    references: Sequence[NDArray[np.integer]],
    person_of: Mapping[str, str],
    seed: int = 0,
    at_once: int = 8,
) -> Audit:
    """Compare a cDAL with itself under four conditions.

    ``full`` samples as ever. ``random-yt`` shows the generator fresh noise in place of the noisy label, at every step.
    ``shuffle-yt`` shows it the noisy label of another image of the batch. ``core-no-diff`` asks the generator once,
    without a noisy label or a latent.

    Parameters
    ----------
    network : in evaluation mode
    images : tensors (context * c, i, j) of one size, in the order of `person_of`
    references : arrays (i, j), label numbers
    person_of : image -> person
    seed : of votes and resampling
    at_once : images of a batch, at least two

    Raises
    ------
    BadInput
        There are fewer than two images, or their number differs from that of the references or names.
    """
    if not len(images) == len(references) == len(person_of) or len(images) < 2 or at_once < 2:
        raise BadInput(
            f"{len(images)} images, {len(references)} references and {len(person_of)} names, {at_once} at once",
            "as many of each, two or more",
            "Give every image its reference and its name; shuffling takes two in a batch.",
        )
    names = list(person_of)
    scores = {}
    for condition in CONDITIONS:
        labels = _answer(network, images, condition, seed, at_once)
        scores[condition] = {
            name: _mean_dice(found, reference, network.config.classes)
            for name, found, reference in zip(names, labels, references, strict=True)
        }
    held = {name for name in names if all(np.isfinite(scores[condition][name]) for condition in CONDITIONS)}
    kept = {condition: {name: rows[name] for name in names if name in held} for condition, rows in scores.items()}
    return Audit(
        dice=scores,
        means={condition: mean_by_person(rows, person_of, seed) for condition, rows in kept.items()},
        gains={
            condition: paired_difference(kept["full"], rows, person_of, seed)
            for condition, rows in kept.items()
            if condition != "full"
        },
    )


def _answer(
    network: CDAL, images: Sequence[Tensor], condition: str, seed: int, at_once: int
) -> list[NDArray[np.integer]]:
    """Return the most probable labels of each image."""
    found: list[NDArray[np.integer]] = []
    with torch.inference_mode():
        for batch in _batches(images, at_once):
            if condition == "core-no-diff":
                probabilities = network.core(batch)
            else:
                chance = Generator(batch.device).manual_seed(seed)
                votes = network.draw_votes(
                    batch,
                    network.config.votes,
                    chance,
                    at_once=network.config.votes * len(batch),
                    see=_find_view(condition, len(batch), Generator(batch.device).manual_seed(seed + 1)),
                )
                probabilities = network.probabilities(votes).mean(dim=0)
            found.extend(probabilities.argmax(dim=1).cpu().numpy())
    return found


def _batches(images: Sequence[Tensor], at_once: int) -> list[Tensor]:
    """Return the images in batches of two or more."""
    count = max(1, len(images) // at_once)
    parts = np.array_split(np.arange(len(images)), count)
    return [torch.stack([images[place] for place in part]) for part in parts]


def _find_view(condition: str, items: int, generator: Generator) -> Callable[[Tensor], Tensor] | None:
    """Return what the generator is shown in place of the noisy labels (vote * b, c, i, j), item by item in a vote."""
    if condition == "random-yt":
        return lambda x: torch.randn(x.shape, generator=generator, device=x.device)
    if condition == "shuffle-yt":
        return lambda x: x.reshape(-1, items, *x.shape[1:]).roll(1, dims=1).reshape(x.shape)
    return None


def _mean_dice(found: NDArray[np.integer], reference: NDArray[np.integer], classes: int) -> float:
    scores = [dice(found, reference, label) for label in range(1, classes)]
    held = [score for score in scores if np.isfinite(score)]
    return float(np.mean(held)) if held else float("nan")
