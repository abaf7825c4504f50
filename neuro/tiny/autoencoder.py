"""Fit the autoencoder, and bring its latents to mean 0 and variance 1."""

from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from voxelight.models.diffusion.autoencoder import Autoencoder, to_unit
from voxelight.neuro.tiny.augment import augment, to_unit_floats
from voxelight.neuro.tiny.descent import Sitting, State, Walk, descend, place
from voxelight.neuro.tiny.recipe import TinyRecipe

_WINDOW = 7


def fit_autoencoder(pixels: Tensor, recipe: TinyRecipe, sitting: Sitting) -> State | None:
    """Fit the autoencoder by absolute error, structural similarity and a little divergence.

    No network judges the pictures, so they come out smooth rather than sharp.

    Parameters
    ----------
    pixels : uint8 tensor (picture, 3, side, side), on the device to compute on
    recipe : sizes, options and seed
    sitting : checkpoints, curve and interruption

    Returns
    -------
    state of an `Autoencoder` whose latents have mean 0 and variance 1 in every channel over the
        pictures; None where it was paused
    """
    stage = recipe.autoencoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        autoencoder: Autoencoder = recipe.build_config("autoencoder").build()
    place(autoencoder, pixels.device).to(memory_format=torch.channels_last).train()
    vae: Any = autoencoder.vae

    def loss(rows: Tensor, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        x = augment(pixels[rows], stage.augmentation, generator)
        posterior = vae.encode((2 * x - 1).to(vae.dtype)).latent_dist
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        noise = torch.randn(mean.shape, generator=generator, device=x.device)
        latent = mean + (log_variance / 2).exp() * noise
        output = (vae.decode(latent.to(vae.dtype), return_dict=False)[0].float() + 1) / 2
        parts = {
            "absolute": F.l1_loss(output, x),
            "structure": stage.structure * (1 - ssim(output, x).mean()),
            "divergence": stage.divergence * 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean(),
        }
        return torch.stack(list(parts.values())).sum(), parts

    made_by = recipe.made_by("autoencoder", sitting.pictures)
    state = descend(Walk(autoencoder, len(pixels), loss, stage.descent, recipe.seed, made_by), sitting)
    return None if state is None else _standardise(state, pixels, recipe)


def build_autoencoder(state: State, recipe: TinyRecipe, device: torch.device | str) -> Autoencoder:
    """Return a fitted autoencoder, ready to be asked."""
    autoencoder: Autoencoder = recipe.build_config("autoencoder").build()
    autoencoder.load_state_dict(state)
    place(autoencoder, device).to(memory_format=torch.channels_last)
    return autoencoder.eval().requires_grad_(False)


@torch.inference_mode()
def encode_latents(autoencoder: Autoencoder, pixels: Tensor, batch: int = 1000) -> Tensor:
    """Return the latents, float32, of uint8 pictures (picture, 3, side, side), where they lie."""
    return torch.cat([autoencoder.encode(to_unit_floats(part)) for part in torch.split(pixels, batch)])


@torch.inference_mode()
def score_autoencoder(autoencoder: Autoencoder, pixels: Tensor, batch: int = 1000) -> dict[str, float]:
    """Return how well pictures come back: peak signal-to-noise ratio (dB, mean over pictures) and SSIM.

    Parameters
    ----------
    autoencoder : fitted
    pixels : uint8 tensor (picture, 3, side, side)
    batch : pictures at once
    """
    noise, likeness = [], []
    for part in torch.split(pixels, batch):
        x = to_unit_floats(part)
        back = to_unit(autoencoder.decode(autoencoder.encode(x)))
        noise.append(((back - x) ** 2).mean((1, 2, 3)))
        likeness.append(ssim(back, x))
    psnr = -10 * torch.cat(noise).clamp(min=1e-10).log10()
    return {"psnr_db": float(psnr.mean()), "ssim": float(torch.cat(likeness).mean())}


def ssim(one: Tensor, other: Tensor) -> Tensor:
    """Return the structural similarity of pictures in [0, 1] over windows of 7 x 7, unweighted (Wang et al. 2004).

    Parameters
    ----------
    one, other : tensor (b, 3, h, w)

    Returns
    -------
    tensor (b,), 1 where they are the same
    """

    def blur(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, _WINDOW, stride=1)

    mean_one, mean_other = blur(one), blur(other)
    # The sample covariance, as scikit-image has it.
    scale = _WINDOW**2 / (_WINDOW**2 - 1)
    variance_one = scale * (blur(one * one) - mean_one**2)
    variance_other = scale * (blur(other * other) - mean_other**2)
    covariance = scale * (blur(one * other) - mean_one * mean_other)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_one * mean_other + c1) / (mean_one**2 + mean_other**2 + c1)
    contrast = (2 * covariance + c2) / (variance_one + variance_other + c2)
    return (luminance * contrast).mean((1, 2, 3))


def _standardise(state: State, pixels: Tensor, recipe: TinyRecipe) -> State:
    """Move mean and deviation of the latents into the two 1x1 convolutions beside them."""
    scale = recipe.build_config("autoencoder").scale
    latents = encode_latents(build_autoencoder(state, recipe, pixels.device), pixels)
    mean = latents.mean((0, 2, 3)).cpu() / scale
    deviation = latents.std((0, 2, 3)).cpu() / scale
    state = {name: value.clone() for name, value in state.items()}
    weight, bias = state["vae.quant_conv.weight"], state["vae.quant_conv.bias"]
    channels = len(mean)
    # What the decoder's side saw as z is now (z - mean) / deviation, times the scale.
    target = deviation * scale
    weight[:channels] /= target[:, None, None, None]
    bias[:channels] = (bias[:channels] - mean) / target
    bias[channels:] -= 2 * target.log()
    back = state["vae.post_quant_conv.weight"]
    state["vae.post_quant_conv.bias"] += back[:, :, 0, 0] @ mean
    back *= target[None, :, None, None]
    return state
