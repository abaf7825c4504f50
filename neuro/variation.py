"""Images by image variation, the best of several by what the brain says of them (MindEye1: Scotti et al. 2023)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from voxelight.models.diffusion.autoencoder import to_unit
from voxelight.models.diffusion.noise import SeededNoise
from voxelight.models.diffusion.presets import VARIATION_PRESETS, VariationPreset
from voxelight.models.diffusion.variation import sample_variation, to_init, unit_first
from voxelight.neuro import stages
from voxelight.neuro.networks import Networks
from voxelight.neuro.profiles import GenerationOptions, Profile
from voxelight.neuro.run import Arrays, Progress, Run, derive_seed


class Varied(NamedTuple):
    """The chosen image of each item (image, 3, side, side) in [0, 1], and the tokens that it was made from."""

    images: Tensor
    tokens: Tensor


class _Try(NamedTuple):
    """One candidate of an item."""

    item: int
    candidate: int


def find_preset(profile: Profile, options: GenerationOptions) -> VariationPreset:
    """Return how images are sampled."""
    preset = VARIATION_PRESETS[options.preset]
    return preset if profile.guidance is None else preset.model_copy(update={"guidance": profile.guidance})


def count_steps(run: Run, missing: int) -> int:
    """Return the denoising steps of that many items."""
    preset = find_preset(run.networks.profile, run.options)
    steps = preset.steps - (preset.skip if "blurry" in run.networks.profile.parts else 0)
    return steps * run.count_batches(missing * run.networks.profile.count_candidates(run.options))


def vary(
    run: Run, entries: Sequence[Arrays], blurry: Tensor | None, known: Sequence[Arrays | None], progress: Progress
) -> Varied:
    """Make every candidate of every item, and keep the one whose tokens are nearest to the brain's retrieval tokens.

    Parameters
    ----------
    run : Run
    entries : of each item `candidates` (candidate, token, dim), or `tokens` (token, dim) where there is one; and
        `retrieval` (token, dim), without which the first candidate is kept
    blurry : tensor (image, 3, h, w), about [0, 1] and not clamped; None starts from noise
    known : what an earlier run kept, in the form of `Varied`, an item each
    progress : Progress
    """
    missing = [number for number, entry in enumerate(known) if entry is None]
    tokens = [torch.from_numpy(np.array(entry.get("candidates", entry["tokens"][None]))) for entry in entries]
    tries = [_Try(number, candidate) for number in missing for candidate in range(len(tokens[number]))]
    starts = {} if blurry is None else _encode(run, blurry, missing, progress)
    latents = _sample(run, tokens, tries, starts, progress)
    best = _choose(run, entries, tries, latents, progress)
    found: list[Arrays] = []
    for number, entry in enumerate(known):
        if entry is None:
            candidate, image = best[number]
            made = {"image": image.numpy(), "tokens": tokens[number][candidate].numpy()}
            entry = run.keep("unrefined", run.items[number], made)
        found.append(entry)
    return Varied(*(torch.from_numpy(np.stack([entry[name] for entry in found])) for name in ("image", "tokens")))


@torch.inference_mode()
def _encode(run: Run, blurry: Tensor, missing: Sequence[int], progress: Progress) -> dict[int, Tensor]:
    networks, found = run.networks, dict[int, Tensor]()
    autoencoder: Any = networks.parts["autoencoder"]
    with networks.on_device("autoencoder"):
        for some in run.batches(missing):
            progress.check()
            noise = SeededNoise(run.seeds(some), "variation posterior", networks.device)
            images = stages.resize(to_init(blurry[some]), networks.profile.side).to(networks.device)
            latents = autoencoder.encode(images, noise.draw(*networks.profile.latent_shape)).cpu()
            found |= dict(zip(some, latents, strict=True))
    return found


@torch.inference_mode()
def _sample(
    run: Run, tokens: Sequence[Tensor], tries: Sequence[_Try], starts: dict[int, Tensor], progress: Progress
) -> list[Tensor]:
    networks, latents = run.networks, list[Tensor]()
    preset = find_preset(networks.profile, run.options)
    with networks.on_device("variation"):
        for places in run.batches(range(len(tries))):
            some = [tries[place] for place in places]
            told = unit_first(torch.stack([tokens[one.item][one.candidate] for one in some]))
            start = torch.stack([starts[one.item] for one in some]).to(networks.device) if starts else None
            seeds = [derive_seed(run.items[one.item].seed, one.candidate) for one in some]
            noise = SeededNoise(seeds, "variation noise", networks.device).draw(*networks.profile.latent_shape)
            made = sample_variation(
                networks.parts["variation"], told.to(networks.device), noise, start, preset, progress.advance
            )
            latents.append(made.cpu())
    return latents


@torch.inference_mode()
def _choose(
    run: Run, entries: Sequence[Arrays], tries: Sequence[_Try], latents: Sequence[Tensor], progress: Progress
) -> dict[int, tuple[int, Tensor]]:
    """Return candidate and image (3, side, side) of each item; of as good ones, the first."""
    networks, best, scores = run.networks, dict[int, tuple[int, Tensor]](), dict[int, float]()
    chooses = len(tries) > len({one.item for one in tries})
    with networks.on_device("autoencoder", *(["image_encoder"] if chooses else [])):
        for places, latent in zip(run.batches(range(len(tries))), latents, strict=True):
            progress.check()
            images = to_unit(_decode(networks, latent))
            told = stages.encode_images(networks, images) if chooses else None
            for row, place in enumerate(places):
                one = tries[place]
                score = 0.0 if told is None else _likeness(told[row], entries[one.item])
                if one.item not in best or score > scores[one.item]:
                    best[one.item], scores[one.item] = (one.candidate, images[row]), score
    return best


def _decode(networks: Networks, latents: Tensor) -> Tensor:
    autoencoder: Any = networks.parts["autoencoder"]
    raw: Tensor = autoencoder.decode(latents.to(networks.device), sliced=networks.plan.sliced_decode)
    return raw.cpu()


def _likeness(tokens: Tensor, entry: Arrays) -> float:
    if "retrieval" not in entry:
        return 0.0
    return float(F.cosine_similarity(tokens.flatten(), torch.from_numpy(np.array(entry["retrieval"])).flatten(), dim=0))
