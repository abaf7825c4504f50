"""Generators of others in diffusers' form, from a folder or from the hub, whichever checkpoint one has."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from voxelight.models.diffusion.dual import join_unets
from voxelight.models.errors import Unavailable

_ELSEWHERE = "Published checkpoints were withdrawn or moved: name a folder, or a repository that still has them."


@dataclass(frozen=True, eq=False)
class DualGenerator:
    """Versatile Diffusion, guided by words and a picture at once.

    Parameters
    ----------
    unet : of `join_unets`
    autoencoder : diffusers' ``AutoencoderKL``
    scheduler : diffusers' ``DDIMScheduler``
    unconditional : words (1, 77, dim) and picture (1, 257, dim) that guidance leads away from
    """

    unet: nn.Module
    autoencoder: Any
    scheduler: Any
    unconditional: tuple[Tensor, Tensor]


def load_img2img(checkpoint: str, device: str, dtype: torch.dtype = torch.float16) -> Any:
    """Return Stable Diffusion that begins from a picture, on a device.

    Parameters
    ----------
    checkpoint : a folder in diffusers' form, or a name on the hub
    device : e.g. ``cuda:0``
    dtype : of the networks

    Raises
    ------
    Unavailable
        The checkpoint is not there.
    """
    from diffusers import StableDiffusionImg2ImgPipeline

    return _settle(_open(StableDiffusionImg2ImgPipeline, checkpoint, dtype, safety_checker=None), device)


def load_controlnet(checkpoint: str, controls: tuple[str, ...], device: str, dtype: torch.dtype = torch.float16) -> Any:
    """Return Stable Diffusion under ControlNets with UniPC, on a device; see `load_img2img`.

    Parameters
    ----------
    checkpoint : as for `load_img2img`
    controls : the same for each ControlNet
    device, dtype : as there
    """
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, UniPCMultistepScheduler

    scheduler: Any = UniPCMultistepScheduler
    nets = [_open(ControlNetModel, control, dtype) for control in controls]
    pipe = _open(StableDiffusionControlNetPipeline, checkpoint, dtype, controlnet=nets, safety_checker=None)
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    return _settle(pipe, device)


def load_dual(checkpoint: str, text_share: float, device: str, dtype: torch.dtype = torch.float16) -> DualGenerator:
    """Return Versatile Diffusion with the attention of both its flows; see `load_img2img`.

    Parameters
    ----------
    checkpoint : as for `load_img2img`
    text_share : weight of the words
    device, dtype : as there
    """
    from diffusers import DDIMScheduler
    from diffusers.pipelines.deprecated.versatile_diffusion.pipeline_versatile_diffusion_dual_guided import (
        VersatileDiffusionDualGuidedPipeline as Pipeline,
    )

    pipe = _open(Pipeline, checkpoint, dtype, text_unet=None)
    text = _open(_text_unet(), checkpoint, dtype, subfolder="text_unet")
    pipe.to(device)
    with torch.inference_mode():
        words = pipe._encode_text_prompt([""], device, 1, False)
        black = torch.zeros(1, 3, 224, 224, device=device, dtype=dtype)
        hidden = pipe.image_encoder.vision_model.post_layernorm(pipe.image_encoder.vision_model(black)[0])
        seen = pipe.image_encoder.visual_projection(hidden)
        seen = seen / seen[:, :1].norm(dim=-1, keepdim=True)
    unet = join_unets(pipe.image_unet, text.to(device), text_share).eval()
    ddim: Any = DDIMScheduler
    scheduler = ddim.from_config(pipe.scheduler.config)
    return DualGenerator(unet, pipe.vae, scheduler, (words, seen))


def _text_unet() -> Any:
    from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel

    return UNetFlatConditionModel


def _open(kind: Any, checkpoint: str, dtype: torch.dtype, **given: Any) -> Any:
    try:
        return kind.from_pretrained(checkpoint, torch_dtype=dtype, **given)
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"no {kind.__name__} in {checkpoint!r} ({str(error).splitlines()[0][:160]})",
            "a folder in diffusers' form, or a name on the hub and a way to it",
            _ELSEWHERE,
        ) from error


def _settle(pipe: Any, device: str) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)
