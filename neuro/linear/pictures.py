"""Pictures from captions, first guesses, depth and tokens, as Brain Captioning and brain-diffuser make them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional as F

from voxelight.models.diffusion.noise import SeededNoise, stage_generator
from voxelight.models.errors import BadInput
from voxelight.models.generators import DualGenerator
from voxelight.neuro.linear.recipe import Generator

Pictures = NDArray[np.floating[Any]]

_COLOURS = 64
_BLUR = 5


def prepare_depth(picture: Pictures, side: int = 512) -> Image.Image:
    """Return a decoded depth map as ControlNet is shown it: blurred, scaled, grey, smoothed, in 64 tones.

    Parameters
    ----------
    picture : array (row, column, 3) in [0, 1]
    side : of the result, pixels
    """
    image = (
        _to_image(picture)
        .filter(ImageFilter.GaussianBlur(_BLUR))
        .resize((side, side), Image.Resampling.BILINEAR)
        .convert("L")
    )
    return image.filter(ImageFilter.SMOOTH_MORE).quantize(_COLOURS).convert("RGB").filter(ImageFilter.SMOOTH_MORE)


def vary_guesses(
    pipe: Any, guesses: Pictures, captions: Sequence[str], seeds: Sequence[int], generator: Generator
) -> NDArray[np.float32]:
    """Make pictures from first guesses and captions, one by one.

    Parameters
    ----------
    pipe : of `models.generators.load_img2img`
    guesses : array (picture, row, column, 3) in [0, 1]
    captions, seeds : one a picture
    generator : Generator of the kind ``img2img``

    Returns
    -------
    array (picture, side, side, 3) in [0, 1]

    Raises
    ------
    BadInput
        There is not one guess, caption and seed a picture.
    """
    _check(len(guesses), captions, seeds)
    made = []
    for guess, caption, seed in zip(guesses, captions, seeds, strict=True):
        start = _to_image(guess).resize((generator.side, generator.side), Image.Resampling.BILINEAR)
        made.append(_draw(pipe, caption, seed, generator, image=start, strength=generator.strength))
    return np.stack(made).astype(np.float32)


def control_by_depth(
    pipe: Any, depths: Pictures, captions: Sequence[str], seeds: Sequence[int], generator: Generator
) -> NDArray[np.float32]:
    """Make pictures from captions under ControlNets, which all see the depth map; see `vary_guesses`.

    Parameters
    ----------
    pipe : of `models.generators.load_controlnet`
    depths : array (picture, row, column, 3) in [0, 1], decoded depth maps
    captions, seeds : one a picture
    generator : Generator of the kind ``controlnet``
    """
    _check(len(depths), captions, seeds)
    made = []
    for depth, caption, seed in zip(depths, captions, seeds, strict=True):
        shown = [prepare_depth(depth, generator.side)] * len(generator.controls)
        scales = list(generator.scales)
        made.append(_draw(pipe, caption, seed, generator, image=shown, controlnet_conditioning_scale=scales))
    return np.stack(made).astype(np.float32)


@torch.inference_mode()
def guide_dual(
    dual: DualGenerator, words: Tensor, seen: Tensor, guesses: Pictures, seeds: Sequence[int], generator: Generator
) -> NDArray[np.float32]:
    """Make pictures under predicted words and predicted picture at once, from first guesses, by DDIM without noise.

    Parameters
    ----------
    dual : DualGenerator
    words : tensor (picture, 77, dim), of the space `clip-text`
    seen : tensor (picture, 257, dim), of the space `clip-vision`
    guesses : array (picture, row, column, 3) in [0, 1]
    seeds : one a picture
    generator : Generator of the kind ``dual-guided``

    Returns
    -------
    array (picture, side, side, 3) in [0, 1]

    Raises
    ------
    BadInput
        There is not one of each a picture.
    """
    _check(len(guesses), words, seeds)
    _check(len(guesses), seen, seeds)
    weight = next(dual.unet.parameters())
    scale = float(dual.autoencoder.config.scaling_factor)
    dual.scheduler.set_timesteps(generator.steps)
    kept = dual.scheduler.timesteps[generator.steps - int(generator.steps * generator.strength) :]
    made = []
    for place, seed in enumerate(seeds):
        guess = torch.from_numpy(np.ascontiguousarray(guesses[place], np.float32)).permute(2, 0, 1)[None]
        shown = F.interpolate(guess, size=(generator.side,) * 2, mode="bilinear", align_corners=False)
        start = dual.autoencoder.encode((2 * shown - 1).to(weight)).latent_dist.mean.float() * scale
        noise = SeededNoise([seed], "dual noise", weight.device).draw(*start.shape[1:])
        x = dual.scheduler.add_noise(start, noise, kept[:1])
        told = torch.cat([words[place : place + 1], seen[place : place + 1]], dim=1).to(weight)
        context = torch.cat([torch.cat([part.to(weight) for part in dual.unconditional], dim=1), told])
        for step in kept:
            both = dual.unet(
                torch.cat([x, x]).to(weight), step.to(weight.device), encoder_hidden_states=context, return_dict=False
            )[0]
            plain, guided = both.float().chunk(2)
            x = dual.scheduler.step(plain + generator.guidance * (guided - plain), step, x, eta=0.0).prev_sample
        image = dual.autoencoder.decode((x / scale).to(weight), return_dict=False)[0].float()
        made.append(((image[0] + 1) / 2).clamp(0, 1).permute(1, 2, 0).cpu().numpy())
    return np.stack(made).astype(np.float32)


def _draw(pipe: Any, caption: str, seed: int, generator: Generator, **given: Any) -> NDArray[np.float32]:
    """Return one picture (side, side, 3) of a pipeline of diffusers."""
    drawn: NDArray[np.float32] = pipe(
        prompt=caption,
        negative_prompt=generator.negative or None,
        guidance_scale=generator.guidance,
        num_inference_steps=generator.steps,
        generator=_seed(seed),
        output_type="np",
        **given,
    ).images[0]
    return drawn


def _to_image(picture: Pictures) -> Image.Image:
    return Image.fromarray(np.round(picture.clip(0, 1) * 255).astype(np.uint8))


def _seed(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(int(stage_generator(seed, "linear").integers(2**63)))


def _check(count: int, told: Sequence[Any] | Tensor, seeds: Sequence[int]) -> None:
    if not count == len(told) == len(seeds) or not count:
        raise BadInput(
            f"{len(told)} captions or tokens and {len(seeds)} seeds for {count} first guesses",
            "one of each a picture",
            "Give all in one order.",
        )
