"""Fit the UNet that draws latents from image tokens, at the sigmas and with the offset noise of SDXL-unCLIP."""

from typing import NamedTuple, cast

import torch
from torch import Generator, Tensor, nn

from voxelight.models.clip.image_encoder import ClipImageEncoder
from voxelight.models.diffusion.autoencoder import Autoencoder, to_unit
from voxelight.models.diffusion.noise import SeededNoise
from voxelight.models.diffusion.presets import SamplingPreset
from voxelight.models.diffusion.samplers import OFFSET_NOISE, SAMPLERS, Guided, start_latent
from voxelight.models.diffusion.schedules import SDXL_STEPS, all_sigmas
from voxelight.models.diffusion.unet import EpsDenoiser, scale_to_input, size_vector
from voxelight.neuro.tiny.augment import augment, to_unit_floats
from voxelight.neuro.tiny.descent import Sitting, State, Walk, compute_dtype, descend, place, step_generator
from voxelight.neuro.tiny.guesses import find_components, guess_tokens
from voxelight.neuro.tiny.recipe import Augmentation, TinyRecipe

_ENCODED_AT_ONCE, _DRAWN_AT_ONCE = 1000, 500
_COMPONENTS_STEP = 10**9  # beyond those of training, whose draws are others


class Views(NamedTuple):
    """Frozen targets of several versions of every picture, computed once.

    tokens : tensor (view, picture, token, dim); latents : tensor (view, picture, 4, h, w), or None
    """

    tokens: Tensor
    latents: Tensor | None


@torch.inference_mode()
def encode_views(
    pixels: Tensor,
    encoder: ClipImageEncoder,
    autoencoder: Autoencoder | None,
    views: int,
    options: Augmentation,
    seed: int,
) -> Views:
    """Encode pictures and changed versions of them.

    Parameters
    ----------
    pixels : uint8 tensor (picture, 3, side, side), on the device to compute on
    encoder, autoencoder : fitted; latents are left out without an autoencoder
    views : versions of a picture; the first is the picture itself
    options : how the others are changed
    seed : of the changes

    Returns
    -------
    Views on the same device, in the dtype that networks are trained in
    """
    dtype = compute_dtype(pixels.device)
    tokens, latents = [], []
    for view in range(views):
        for number, part in enumerate(torch.split(pixels, _ENCODED_AT_ONCE)):
            chance = step_generator(seed, 10**6 * view + number, pixels.device)
            x = augment(part, options, chance) if view else to_unit_floats(part)
            tokens.append(encoder(x).to(dtype))
            if autoencoder is not None:
                latents.append(autoencoder.encode(x).to(dtype))

    def stack(parts: list[Tensor]) -> Tensor:
        whole = torch.cat(parts)
        return whole.reshape(views, len(pixels), *whole.shape[1:])

    return Views(stack(tokens), stack(latents) if latents else None)


def fit_unclip(views: Views, recipe: TinyRecipe, sitting: Sitting) -> State | None:
    """Fit the UNet to estimate the noise in latents, given the tokens of their picture.

    A share of the pictures is given fresh normal noise in place of tokens, which is what the unconditional half of the
    guidance sees (`voxelight.neuro.stages.sample_unclip`), and another share a guess at their tokens.

    Parameters
    ----------
    views : of `encode_views`, with latents
    recipe : sizes, options and seed
    sitting : checkpoints, curve and interruption

    Returns
    -------
    state of the UNet; None where it was paused
    """
    stage, device = recipe.unclip, views.tokens.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        unet: nn.Module = recipe.build_config("unclip").build()
    place(unet, device).to(memory_format=torch.channels_last).train()
    latents = cast(Tensor, views.latents)
    sigmas = all_sigmas().to(device)
    vector = size_vector(recipe.side, recipe.side, 0, 0).to(device)
    components = None
    if stage.guessed:
        components = find_components(views.tokens[0], step_generator(recipe.seed, _COMPONENTS_STEP, device))

    def loss(rows: Tensor, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=device)

        view = torch.randint(len(latents), rows.shape, generator=generator, device=device)
        z, context = latents[view, rows].float(), views.tokens[view, rows]
        timesteps = torch.randint(SDXL_STEPS, rows.shape, generator=generator, device=device)
        sigma = sigmas[timesteps][:, None, None, None]
        noise = draw(*z.shape) + OFFSET_NOISE * draw(len(z), 1, 1, 1)
        chance = torch.rand((len(z), 1, 1), generator=generator, device=device)
        if components is not None:
            guessed = guess_tokens(context, components, generator)
            context = torch.where(chance >= 1 - stage.guessed, guessed, context)
        context = torch.where(chance < stage.uncond, draw(*context.shape).to(context.dtype), context)
        x = scale_to_input(z + sigma * noise, sigma).to(context.dtype)
        (estimate,) = unet(
            x,
            timesteps,
            encoder_hidden_states=context,
            class_labels=vector.expand(len(x), -1).to(x.dtype),
            return_dict=False,
        )
        error = ((estimate.float() - noise) ** 2).mean((1, 2, 3))
        # At large sigmas little of the noise's error is left in pixels' units; there the composition is decided.
        weighted = (error * (1 + sigma.flatten() ** 2).clamp(max=stage.heaviest)).mean()
        return weighted, {"noise": error.mean()}

    made_by = recipe.made_by("unclip", sitting.pictures)
    return descend(Walk(unet, latents.shape[1], loss, stage.descent, recipe.seed, made_by), sitting)


def build_unclip(state: State, recipe: TinyRecipe, device: torch.device | str) -> nn.Module:
    """Return a fitted UNet, ready to be asked."""
    unet: nn.Module = recipe.build_config("unclip").build()
    unet.load_state_dict(state)
    place(unet, device).to(memory_format=torch.channels_last)
    return unet.eval().requires_grad_(False)


@torch.inference_mode()
def draw_pictures(
    unet: nn.Module, autoencoder: Autoencoder, tokens: Tensor, side: int, preset: SamplingPreset, seed: int
) -> Tensor:
    """Draw pictures from tokens as `voxelight.neuro.stages.sample_unclip` does: the same seeds give the same noise.

    Parameters
    ----------
    unet, autoencoder : fitted, on one device
    tokens : tensor (picture, token, dim)
    side : pixels of a side of a picture
    preset : sampler, steps and guidance
    seed : of the first picture; the others count up

    Returns
    -------
    float32 tensor (picture, 3, side, side) in [0, 1]
    """
    levels = len(autoencoder.config.channels) - 1
    device = tokens.device
    pictures = []
    for start in range(0, len(tokens), _DRAWN_AT_ONCE):
        part = tokens[start : start + _DRAWN_AT_ONCE].float()
        seeds = range(seed + start, seed + start + len(part))
        latent = (autoencoder.config.latent_channels, side >> levels, side >> levels)

        def draw(stage: str, *shape: int, seeds: range = seeds) -> Tensor:
            return SeededNoise(seeds, f"unclip {stage}", device).draw(*shape)

        vector = size_vector(side, side, 0, 0).to(device)
        uncond = draw("unconditional tokens", *part.shape[1:])
        guided = Guided(EpsDenoiser(unet), part, vector, uncond, vector, preset.guidance, preset.interval)
        sigmas = preset.sigmas()
        x = start_latent(draw("start", *latent), draw("noise", *latent), draw("offset"), sigmas[0])
        pictures.append(to_unit(autoencoder.decode(SAMPLERS[preset.sampler](guided, x, sigmas, None))))
    return torch.cat(pictures)
