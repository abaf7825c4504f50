"""The stages after the tokens, for all images of a call before the next stage, in batches."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from voxelight.neuro import stages, variation
from voxelight.neuro.caption import caption_tokens
from voxelight.neuro.memory import TOKEN_BATCH
from voxelight.neuro.run import Arrays, Progress, Run


class Generated(NamedTuple):
    """What the stages gave, None beyond the stop.

    captions : one an image; blurry, unrefined, refined, image : tensor (image, 3, h, w) in [0, 1]
    tokens : tensor (image, token, dim), what the image was made from, where it is one of several candidates
    """

    captions: list[str] | None
    blurry: Tensor | None
    unrefined: Tensor | None
    refined: Tensor | None
    image: Tensor | None
    tokens: Tensor | None = None


def count_image_steps(run: Run, unrefined: Sequence[Arrays | None]) -> int:
    """Return the denoising steps after the tokens, of items whose unrefined images are known or not."""
    missing, steps = sum(entry is None for entry in unrefined), 0
    if run.options.reaches("unrefined"):
        varies = "variation" in run.networks.profile.parts
        each = len(run.preset.sigmas()) - 1
        steps += variation.count_steps(run, missing) if varies else each * run.count_batches(missing)
    if run.options.reaches("refined"):
        steps += (len(run.refinement.sigmas()) - 1) * run.count_batches(len(run.items))
    return steps


def generate(run: Run, entries: Sequence[Arrays], known: Sequence[Arrays | None], progress: Progress) -> Generated:
    """Do the stages after the tokens, each for all images before the next, so that a part moves in once.

    Parameters
    ----------
    run : Run
    entries : `tokens` (token, dim) of each item, and `blurry_latent` (4, 28, 28) where there is one
    known : unrefined `image` (3, side, side) of each item, where an earlier run kept it
    progress : Progress
    """
    tokens, profile = _stack(entries, "tokens"), run.networks.profile
    captions = None
    if run.options.reaches("caption") and "captioner" in profile.parts:
        captions = _caption(run, tokens, progress)
    if not run.options.reaches("unrefined"):
        return Generated(captions, None, None, None, None)
    if "variation" in profile.parts:
        raw = _decode_blurry(run, entries, progress)
        images, tokens = variation.vary(run, entries, raw, known, progress)
        blurry, side = None if raw is None else raw.clamp(0, 1), profile.result_side
        return Generated(captions, blurry, images, None, stages.resize(images, side), tokens)
    unrefined = _sample_unrefined(run, tokens, known, progress)
    raw = _decode_blurry(run, entries, progress)
    blurry = None if raw is None else raw.clamp(0, 1)
    if captions is None or not run.options.reaches("refined"):
        return Generated(captions, blurry, unrefined, None, stages.resize(unrefined, profile.result_side))
    refined = _refine(run, unrefined, captions, progress)
    return Generated(captions, blurry, unrefined, refined, _finish(run, refined, blurry))


def _caption(run: Run, tokens: Tensor, progress: Progress) -> list[str]:
    captions: list[str] = []
    with run.networks.on_device("converter", "captioner"):
        for some in run.batches(range(len(tokens)), TOKEN_BATCH):
            progress.check()
            captions += caption_tokens(run.networks, tokens[some])
    return captions


def _sample_unrefined(run: Run, tokens: Tensor, known: Sequence[Arrays | None], progress: Progress) -> Tensor:
    missing = [number for number, entry in enumerate(known) if entry is None]
    found: dict[int, Tensor] = {
        number: torch.from_numpy(np.array(entry["image"])) for number, entry in enumerate(known) if entry is not None
    }
    latents: list[Tensor] = []
    with run.networks.on_device("unclip"):
        for some in run.batches(missing):
            progress.check()
            latents.append(
                stages.sample_unclip(run.networks, tokens[some], run.seeds(some), run.preset, progress.advance)
            )
    with run.networks.on_device("autoencoder"):
        for some, latent in zip(run.batches(missing), latents, strict=True):
            progress.check()
            for number, image in zip(some, stages.decode_unclip(run.networks, latent), strict=True):
                run.keep("unrefined", run.items[number], {"image": image.numpy()})
                found[number] = image
    return torch.stack([found[number] for number in range(len(run.items))])


def _decode_blurry(run: Run, entries: Sequence[Arrays], progress: Progress) -> Tensor | None:
    if "blurry" not in run.networks.parts or any("blurry_latent" not in entry for entry in entries):
        return None
    latents = _stack(entries, "blurry_latent")
    images = []
    with run.networks.on_device("blurry"):
        for some in run.batches(range(len(entries))):
            progress.check()
            images.append(stages.decode_blurry(run.networks, latents[some]))
    return torch.cat(images)


def _refine(run: Run, images: Tensor, captions: Sequence[str], progress: Progress) -> Tensor:
    networks, everything = run.networks, range(len(run.items))
    with networks.on_device("text"):
        texts = [
            stages.condition_on_text(networks, [captions[number] for number in some])
            for some in run.batches(everything)
        ]
    starts, latents, refined = [], [], []
    with networks.on_device("refiner_autoencoder"):
        for some in run.batches(everything):
            progress.check()
            starts.append(stages.encode_unrefined(networks, images[some], run.seeds(some)))
    with networks.on_device("refiner"):
        for some, start, text in zip(run.batches(everything), starts, texts, strict=True):
            latents.append(
                stages.sample_refined(networks, start, text, run.seeds(some), run.refinement, progress.advance)
            )
    with networks.on_device("refiner_autoencoder"):
        for latent in latents:
            progress.check()
            refined.append(stages.decode_refined(networks, latent))
    return torch.cat(refined)


def _finish(run: Run, refined: Tensor, blurry: Tensor | None) -> Tensor:
    profile = run.networks.profile
    if blurry is None:
        return stages.resize(refined, profile.result_side)
    return stages.blend(refined, blurry, profile.result_side, profile.refined_share)


def _stack(entries: Sequence[Arrays], name: str) -> Tensor:
    return torch.from_numpy(np.stack([entry[name] for entry in entries]))
