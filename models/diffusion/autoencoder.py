"""The autoencoder of latent diffusion: image <-> latent."""

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor, nn


class AutoencoderConfig(BaseModel):
    """Sizes of an autoencoder; the defaults are SDXL's. That of Stable Diffusion 1 differs by ``scale=0.18215``.

    Parameters
    ----------
    channels : of each level, finest first; an image shrinks by two between levels
    layers : residual blocks of a level of the encoder; the decoder has one more
    scale : factor that gives latents about unit variance
    latent_channels : of the latent
    groups : of each group norm
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[PositiveInt, ...] = Field((128, 256, 512, 512), min_length=1)
    layers: PositiveInt = 2
    scale: PositiveFloat = 0.13025
    latent_channels: PositiveInt = 4
    groups: PositiveInt = 32

    def build(self) -> "Autoencoder":
        """Return the network with fresh weights."""
        return Autoencoder(self)


class Autoencoder(nn.Module):
    """Images in [0, 1] <-> latents at about unit variance, around diffusers' ``AutoencoderKL`` (Rombach et al. 2022).

    Networks run in the dtype of their weights; what goes in and comes out is float32.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        levels = len(config.channels)
        self.vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=config.channels,
            layers_per_block=config.layers,
            latent_channels=config.latent_channels,
            norm_num_groups=config.groups,
            scaling_factor=config.scale,
        )

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return the latents of images.

        Parameters
        ----------
        images : (b, 3, h, w) in [0, 1]
        noise : (b, 4, h / 8, w / 8) standard normal, with which the posterior is sampled; its mode without

        Returns
        -------
        (b, 4, h / 8, w / 8) float32
        """
        posterior = self.vae.encode((2 * images.float() - 1).to(self.vae.dtype)).latent_dist
        latents: Tensor = posterior.mean.float()
        if noise is not None:
            latents = latents + posterior.std.float() * noise.float()
        return latents * self.config.scale

    def decode(self, latents: Tensor, sliced: bool = False) -> Tensor:
        """Return the raw output of the decoder, about [-1, 1]; `to_unit` and `unclip_to_unit` map it to pictures.

        Parameters
        ----------
        latents : (b, 4, h / 8, w / 8)
        sliced : decode one image at a time, in the memory that one needs

        Returns
        -------
        (b, 3, h, w) float32
        """
        scaled = (latents.float() / self.config.scale).to(self.vae.dtype)
        parts = torch.split(scaled, 1) if sliced else (scaled,)
        return torch.cat([self.vae.decode(part, return_dict=False)[0].float() for part in parts])


def to_unit(raw: Tensor) -> Tensor:
    """Map what a decoder gives to [0, 1]: ``clamp((x + 1) / 2)``."""
    return ((raw + 1) / 2).clamp(0, 1)


def unclip_to_unit(raw: Tensor) -> Tensor:
    """Map what SDXL-unCLIP's decoder gives to [0, 1]: ``clamp(0.8 x + 0.2)``, as published.

    Its tokens were made from images in [0.5, 1] by mistake, and the published code maps its pictures back by this.
    """
    return (0.8 * raw + 0.2).clamp(0, 1)
