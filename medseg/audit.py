"""Whether diffusion matters at all: a cDAL whose noisy label is kept, replaced, shuffled or left out."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from voxelight.medseg.cases import Case
from voxelight.medseg.evaluate import Interval, dice, mean_by_person, paired_difference
from voxelight.medseg.predict import Segmenter
from voxelight.medseg.train_samples import prepare_sample
from voxelight.models.errors import BadInput
from voxelight.models.segmentation.cdal import CDAL
from voxelight.models.segmentation.slices import stack_slices

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
    images : tensors (context * c, i, j), at least two of each size, in the order of `person_of`
    references : arrays (i, j), label numbers
    person_of : image -> person
    seed : of votes and resampling
    at_once : images of a batch, at least two

    Raises
    ------
    BadInput
        There are fewer than two images of a size, or their number differs from that of the references or names.
    """
    if not len(images) == len(references) == len(person_of) or len(images) < 2 or at_once < 2:
        raise BadInput(
            f"{len(images)} images, {len(references)} references and {len(person_of)} names, {at_once} at once",
            "as many of each, two or more",
            "Give every image its reference and its name; shuffling takes two in a batch.",
        )
    if min(Counter(tuple(image.shape) for image in images).values()) < 2:
        raise BadInput("an image that is the only one of its size", "two or more of each size",
                       "Leave it out: shuffling takes another image of its size.")  # fmt: skip
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


def audit_segmenter(
    cases: Iterable[Case], segmenter: Segmenter, person_of: Mapping[str, str] | None = None, seed: int = 0
) -> Audit:
    """Audit the cDAL of a recipe on every labelled slice of held-out cases, on the grid that it reads.

    Parameters
    ----------
    cases : that training has not seen
    segmenter : of `predict.build_segmenter`, with one network
    person_of : case -> person; each case its own without
    seed : of votes, resampling and bootstrap

    Returns
    -------
    Audit
        its images are slices, ``CASE slice N`` from 0

    Raises
    ------
    BadInput
        The recipe draws no label by diffusion, segments regions of a head, or no two labelled slices have one size.
    """
    recipe, [network, *others] = segmenter.recipe, segmenter.networks
    if others or recipe.regions or not hasattr(network, "draw_votes"):
        raise BadInput(
            f"recipe {recipe.name} of {len(segmenter.networks)} networks {recipe.network}",
            "a recipe of one network cdal for whole images",
            "Audit one of its folds, or the recipe whose weights it uses.",
        )
    images, references, persons = {}, {}, {}
    for case in cases:
        sample = prepare_sample(case, recipe)
        slices = stack_slices(torch.from_numpy(sample.image)[None], recipe.context)
        for number in np.flatnonzero(sample.labels.any(axis=(0, 1))):
            name = f"{case.name} slice {number}"
            images[name], references[name] = slices[number].to(segmenter.device), sample.labels[..., number]
            persons[name] = (person_of or {}).get(case.name, case.name)
    sizes = Counter(image.shape for image in images.values())
    names = [name for name, image in images.items() if sizes[image.shape] > 1]
    return audit(
        cast(CDAL, network),
        [images[name] for name in names],
        [references[name] for name in names],
        {name: persons[name] for name in names},
        seed,
    )


def _answer(
    network: CDAL, images: Sequence[Tensor], condition: str, seed: int, at_once: int
) -> list[NDArray[np.integer]]:
    """Return the most probable labels of each image."""
    found: dict[int, NDArray[np.integer]] = {}
    with torch.inference_mode():
        for places in _batches(images, at_once):
            batch = torch.stack([images[place] for place in places])
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
            found |= dict(zip(places, probabilities.argmax(dim=1).cpu().numpy(), strict=True))
    return [found[place] for place in range(len(images))]


def _batches(images: Sequence[Tensor], at_once: int) -> list[list[int]]:
    """Return the places of the images in batches of two or more of one size."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        by_size.setdefault(tuple(image.shape), []).append(place)
    return [
        part.tolist() for places in by_size.values() for part in np.array_split(places, max(1, len(places) // at_once))
    ]


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
