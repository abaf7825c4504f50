"""Image variation by Versatile Diffusion: its image UNet, which is Stable Diffusion 1's (Xu et al. 2023)."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn

from voxelight.models.clip.image_encoder import normalise
from voxelight.models.diffusion.presets import VariationPreset

OnStep = Callable[[int, int], None]


class VariationConfig(BaseModel):
    """Sizes of the UNet; those of Versatile Diffusion's image flow by default.

    Parameters
    ----------
    channels : of each level, finest first; all but the last attend to the context
    layers : residual blocks of a level
    heads : of every attention
    context_dim : channels of a context token
    latent_channels : of the latent
    groups : of each group norm
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[PositiveInt, ...] = Field((320, 640, 1280, 1280), min_length=2)
    layers: PositiveInt = 2
    heads: PositiveInt = 8
    context_dim: PositiveInt = 768
    latent_channels: PositiveInt = 4
    groups: PositiveInt = 32

    def build(self) -> nn.Module:
        """Return diffusers' ``UNet2DConditionModel`` with fresh weights."""
        levels = len(self.channels)
        unet: nn.Module = UNet2DConditionModel(
            in_channels=self.latent_channels,
            out_channels=self.latent_channels,
            down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
            block_out_channels=self.channels,
            layers_per_block=self.layers,
            attention_head_dim=self.heads,  # a number of heads, as diffusers has it
            cross_attention_dim=self.context_dim,
            norm_num_groups=self.groups,
        )
        return unet


def build_scheduler(steps: int) -> Any:
    """Return UniPC (Zhao et al. 2023) on the schedule that Versatile Diffusion was trained on."""
    scheduler: Any = UniPCMultistepScheduler(  # type: ignore[no-untyped-call]
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    scheduler.set_timesteps(steps)
    return scheduler


def sample_variation(
    unet: nn.Module,
    tokens: Tensor,
    noise: Tensor,
    start: Tensor | None,
    preset: VariationPreset,
    on_step: OnStep | None = None,
) -> Tensor:
    """Draw latents that show what tokens say, guided away from tokens of zeros.

    The published code mixes in a text branch at a ratio of 0 and throws its half of the attention away; the image
    branch alone gives the same.

    Parameters
    ----------
    unet : of `VariationConfig.build`
    tokens : tensor (b, token, dim), of which the first has length one, as Versatile Diffusion's own have
    noise : tensor (b, 4, h, w), standard normal
    start : tensor (b, 4, h, w), the latent that is noised to where the first kept step begins; without one, all
        steps are done and begin from noise alone
    preset : VariationPreset
    on_step : called before each step

    Returns
    -------
    tensor (b, 4, h, w), float32
    """
    scheduler, dtype = build_scheduler(preset.steps), next(unet.parameters()).dtype
    steps = scheduler.timesteps if start is None else scheduler.timesteps[preset.skip :]
    x = noise.float()
    if start is not None:
        x = scheduler.add_noise(start.float(), x, steps[:1])
    context = torch.cat([torch.zeros_like(tokens), tokens]).to(dtype)
    for done, step in enumerate(steps):
        if on_step is not None:
            on_step(done, len(steps))
        both = unet(torch.cat([x, x]).to(dtype), step.to(x.device), encoder_hidden_states=context, return_dict=False)[0]
        plain, told = both.float().chunk(2)
        x = scheduler.step(plain + preset.guidance * (told - plain), step, x, return_dict=False)[0]
    return x


def unit_first(tokens: Tensor) -> Tensor:
    """Divide the tokens (b, token, dim) of each image by the length of its first, as Versatile Diffusion does."""
    length: Tensor = tokens[:, :1].norm(dim=-1, keepdim=True)
    return tokens / (length + 1e-6)


def to_init(blurry: Tensor) -> Tensor:
    """Return images to be encoded as the published code does: normalised as for CLIP, not to [-1, 1].

    Parameters
    ----------
    blurry : tensor (b, 3, h, w), about [0, 1] and not clamped

    Returns
    -------
    tensor (b, 3, h, w), such that an autoencoder that maps x to 2x - 1 sees (blurry - mean) / std
    """
    return (normalise(blurry) + 1) / 2
