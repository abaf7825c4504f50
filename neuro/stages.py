"""The stages of the pipeline, one batch of images each. What passes between them is float32 on the CPU."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from voxelight.models.diffusion.autoencoder import to_unit, unclip_to_unit
from voxelight.models.diffusion.noise import SeededNoise
from voxelight.models.diffusion.presets import SamplingPreset
from voxelight.models.diffusion.samplers import SAMPLERS, Guided, img2img_start, start_latent
from voxelight.models.diffusion.schedules import ddim_time_pairs
from voxelight.models.diffusion.unet import EpsDenoiser, size_vector
from voxelight.models.errors import BadInput
from voxelight.neuro.memory import TOKEN_BATCH
from voxelight.neuro.networks import Networks, TextCondition

OnStep = Callable[[int, int], None]

# Rows of three repeats an image.
DECODER_ROWS = 3 * TOKEN_BATCH

# One repeat stands for all three; of two, the first stands for the missing third (Scotti et al. 2024, their code).
_REPEAT_WEIGHTS = {2: (2 / 3, 1 / 3)}


class BrainTokens(NamedTuple):
    """What the decoder says of a batch, averaged over repeats.

    tokens, retrieval : tensor (image, token, dim); blurry_latent : tensor (image, 4, 28, 28) or None
    """

    tokens: Tensor
    retrieval: Tensor
    blurry_latent: Tensor | None


def find_repeat_weights(repeats: int) -> tuple[float, ...]:
    """Return the weights that outputs of repeats are averaged with, in the order of the trials."""
    return _REPEAT_WEIGHTS.get(repeats, (1 / repeats,) * repeats)


@torch.inference_mode()
def decode_voxels(networks: Networks, trials: Sequence[NDArray[np.float32]]) -> BrainTokens:
    """Decode every repeat by itself and average what comes out; a decoder that asks for it decodes their mean.

    Parameters
    ----------
    networks : Networks with the part `decoder`, and `low_level` where the profile has it
    trials : array (repeat, voxel), one an image
    """
    if getattr(networks.parts["decoder"].config, "averages_betas", False):
        trials = [np.asarray(betas, np.float32).mean(axis=0, keepdims=True) for betas in trials]
    rows = np.concatenate([np.asarray(betas, np.float32) for betas in trials])
    weights = [torch.tensor(find_repeat_weights(len(betas))) for betas in trials]
    outputs = [
        networks.parts["decoder"](pad_rows(networks.place(some)[:, None], DECODER_ROWS))
        for some in torch.split(torch.from_numpy(rows), DECODER_ROWS)
    ]

    def average(name: str) -> Tensor:
        values = torch.cat([getattr(output, name).float().cpu() for output in outputs])[: len(rows)]
        parts = torch.split(values, [len(one) for one in weights])
        return torch.stack([torch.tensordot(one, part, dims=1) for one, part in zip(weights, parts, strict=True)])

    blurry = None if outputs[0].blurry_latent is None else average("blurry_latent")
    if "low_level" in networks.parts:  # a network of its own, which like its decoder reads the mean of the repeats
        latents = [
            networks.parts["low_level"](pad_rows(networks.place(some), DECODER_ROWS))[0].float().cpu()[: len(some)]
            for some in torch.split(torch.from_numpy(rows), DECODER_ROWS)
        ]
        blurry = torch.cat(latents)
    return BrainTokens(average("tokens"), average("retrieval"), blurry)


def count_prior_calls(networks: Networks, steps: int) -> int:
    """Return how often the prior calls its network."""
    if networks.profile.expected_tokens:
        return 1
    timesteps = _prior(networks).config.timesteps
    return int(timesteps) if steps == timesteps else len(ddim_time_pairs(steps, timesteps))


@torch.inference_mode()
def sample_tokens(
    networks: Networks, brain: Tensor, seeds: Sequence[int], steps: int, on_step: OnStep | None
) -> Tensor:
    """Draw image tokens from the diffusion prior, or take those that it expects, as the profile says.

    Parameters
    ----------
    networks : Networks with the part `decoder`
    brain : tensor (image, token, dim), averaged tokens of the decoder, at most `TOKEN_BATCH` images
    seeds : one an image
    steps : of the prior
    on_step : called before each call of the network

    Returns
    -------
    tensor (image, token, dim)
    """
    noise, prior = SeededNoise(seeds, "prior", networks.device), _prior(networks)
    shape, padded = brain.shape[1:], pad_rows(brain.to(networks.device), TOKEN_BATCH)

    def draw(_: int) -> Tensor:
        return pad_rows(noise.draw(*shape), TOKEN_BATCH)

    if networks.profile.expected_tokens:
        if on_step is not None:
            on_step(0, 1)
        sampled = prior.expect(padded)
    else:
        sampled = prior.sample(padded, draw, steps, on_step=on_step)
    tokens: Tensor = sampled[: len(brain)].float().cpu()
    return tokens


@torch.inference_mode()
def sample_unclip(
    networks: Networks, tokens: Tensor, seeds: Sequence[int], preset: SamplingPreset, on_step: OnStep | None
) -> Tensor:
    """Draw latents from SDXL-unCLIP; as published, the unconditional tokens are normal noise.

    Parameters
    ----------
    networks : Networks with the part `unclip`
    tokens : tensor (image, token, dim)
    seeds : one an image
    preset : SamplingPreset
    on_step : called before each step

    Returns
    -------
    tensor (image, *latent_shape of the profile)
    """
    side = networks.profile.side
    latent = networks.profile.latent_shape

    def draw(stage: str, *shape: int) -> Tensor:
        return SeededNoise(seeds, f"unclip {stage}", networks.device).draw(*shape)

    vector = networks.place(size_vector(side, side, 0, 0))
    guided = Guided(
        EpsDenoiser(networks.parts["unclip"], preset.cache_every),
        networks.place(tokens),
        vector,
        networks.place(draw("unconditional tokens", *tokens.shape[1:])),
        vector,
        preset.guidance,
        preset.interval,
    )
    sigmas = preset.sigmas()
    start = start_latent(draw("start", *latent), draw("noise", *latent), draw("offset"), sigmas[0])
    return SAMPLERS[preset.sampler](guided, start, sigmas, on_step).cpu()


@torch.inference_mode()
def decode_unclip(networks: Networks, latents: Tensor) -> Tensor:
    """Return images (image, 3, side, side) in [0, 1] of latents of `sample_unclip`."""
    # What the published generator was trained on was washed out; a profile whose encoder sees plain images is not.
    washed_out = networks.profile.parts["image_encoder"].build_config().washed_out
    return (unclip_to_unit if washed_out else to_unit)(_decode(networks, "autoencoder", latents))


@torch.inference_mode()
def decode_blurry(networks: Networks, latents: Tensor) -> Tensor:
    """Return blurry images (image, 3, h, w), about [0, 1] and not clamped, of the latents of the low-level branch."""
    # The branch predicts latents as the autoencoder scales them.
    return (_decode(networks, "blurry", latents) + 1) / 2


@torch.inference_mode()
def condition_on_text(networks: Networks, captions: Sequence[str]) -> TextCondition:
    """Return context (image, word, dim) and pooled embedding (image, dim) of captions, by the original encoders."""
    context, pooled = networks.parts["text"](list(captions))
    return context.float().cpu(), pooled.float().cpu()


@torch.inference_mode()
def encode_unrefined(networks: Networks, images: Tensor, seeds: Sequence[int]) -> Tensor:
    """Return latents of unrefined images, drawn from the posterior.

    As published, the image is first brought to the size that results are kept at, then to that of the refinement.

    Parameters
    ----------
    networks : Networks with the part `refiner_autoencoder`
    images : tensor (image, 3, h, w) in [0, 1]
    seeds : one an image
    """
    side = networks.profile.side
    images = resize(resize(images, networks.profile.result_side), side)
    noise = SeededNoise(seeds, "refinement posterior", networks.device).draw(*networks.profile.latent_shape)
    autoencoder: Any = networks.parts["refiner_autoencoder"]
    size = 1 if networks.plan.sliced_decode else len(images)
    pieces = zip(torch.split(images, size), torch.split(noise, size), strict=True)
    return torch.cat([autoencoder.encode(piece.to(networks.device), drawn).cpu() for piece, drawn in pieces])


@torch.inference_mode()
def sample_refined(
    networks: Networks,
    latents: Tensor,
    text: TextCondition,
    seeds: Sequence[int],
    preset: SamplingPreset,
    on_step: OnStep | None,
) -> Tensor:
    """Refine latents under guidance by the captions and against the negative prompt.

    Parameters
    ----------
    networks : Networks with the parts `refiner` and `refiner_text`
    latents : tensor (image, 4, h, w), of `encode_unrefined`
    text : of `condition_on_text`
    seeds : one an image
    preset : of `REFINEMENT_PRESETS`
    on_step : called before each step

    Returns
    -------
    tensor (image, 4, h, w)

    Raises
    ------
    BadInput
        The networks were loaded without `refiner_text`.
    """
    side, target = networks.profile.side, networks.profile.target_side
    sizes = size_vector(side, side, 0, 0, target, target)
    context, pooled = text
    if networks.negative is None:
        raise BadInput("networks that know nothing to avoid", "the part refiner_text", "Load them with that part too.")
    avoided_context, avoided_pooled = networks.negative
    guided = Guided(
        EpsDenoiser(networks.parts["refiner"], preset.cache_every),
        networks.place(context),
        networks.place(torch.cat([pooled, sizes.expand(len(pooled), -1)], dim=1)),
        networks.place(avoided_context),
        networks.place(torch.cat([avoided_pooled, sizes.expand(len(avoided_pooled), -1)], dim=1)),
        preset.guidance,
        preset.interval,
    )
    sigmas = preset.sigmas()
    noise = SeededNoise(seeds, "refinement noise", networks.device).draw(*latents.shape[1:])
    start = img2img_start(latents.to(networks.device), noise, sigmas[0])
    return SAMPLERS[preset.sampler](guided, start, sigmas, on_step).cpu()


@torch.inference_mode()
def decode_refined(networks: Networks, latents: Tensor) -> Tensor:
    """Return images (image, 3, side, side) in [0, 1] of latents of `sample_refined`."""
    return to_unit(_decode(networks, "refiner_autoencoder", latents))


@torch.inference_mode()
def encode_images(networks: Networks, images: Tensor) -> Tensor:
    """Return the tokens (image, token, dim) of images (image, 3, h, w) in [0, 1], to be found by what a brain predicts.

    Parameters
    ----------
    networks : Networks with the part `image_encoder`
    images : any size; as published, they were 256 x 256 before
    """
    tokens: Tensor = networks.parts["image_encoder"](images.to(networks.device)).float().cpu()
    return tokens


def blend(refined: Tensor, blurry: Tensor, side: int, refined_share: float) -> Tensor:
    """Return ``share * refined + (1 - share) * blurry``, both brought to one size first.

    Parameters
    ----------
    refined, blurry : tensor (image, 3, h, w) in [0, 1]
    side : pixels of the result
    refined_share : 0.75 as published
    """
    return refined_share * resize(refined, side) + (1 - refined_share) * resize(blurry, side)


def resize(images: Tensor, side: int) -> Tensor:
    """Bring images (image, 3, h, w) to a square, bilinearly and without antialiasing, as every published score was."""
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=False)


def pad_rows(rows: Tensor, count: int) -> Tensor:
    """Return as many rows, zeros after those that are given."""
    return F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, count - len(rows)))


def _prior(networks: Networks) -> Any:
    return networks.parts["decoder"].diffusion_prior


def _decode(networks: Networks, part: str, latents: Tensor) -> Tensor:
    autoencoder: Any = networks.parts[part]
    raw: Tensor = autoencoder.decode(latents.to(networks.device), sliced=networks.plan.sliced_decode)
    return raw.cpu()
