"""The UNet of SDXL in diffusers' clothes, and the denoiser that it makes of a noise estimate."""

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from voxelight.models.diffusion.schedules import all_sigmas, edm_timesteps
from voxelight.models.diffusion.step_cache import StepCache
from voxelight.models.errors import BadInput

GROUPS = 32
SIZE_CHANNELS = 256


class UNetConfig(BaseModel):
    """Sizes of an SDXL UNet; the defaults are the released SDXL-unCLIP.

    The refiner is the same network with ``context_dim=2048, vector_dim=2816``.

    Parameters
    ----------
    channels : of each level, finest first
    depth : transformer blocks of each level's attention; unused where a level has none
    layers : residual blocks of a level
    head_dim : channels of an attention head
    context_dim : channels of a context token
    vector_dim : channels of the vector condition (sizes, and the pooled text of SDXL base)
    attention : whether a level attends to the context
    latent_channels : of the latent
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[PositiveInt, ...] = Field((320, 640, 1280), min_length=1)
    depth: tuple[PositiveInt, ...] = (1, 2, 10)
    layers: PositiveInt = 2
    head_dim: PositiveInt = 64
    context_dim: PositiveInt = 1664
    vector_dim: PositiveInt = 1024
    attention: tuple[bool, ...] = (False, True, True)
    latent_channels: PositiveInt = 4

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not len(self.channels) == len(self.depth) == len(self.attention):
            raise ValueError(
                f"depth {self.depth} and attention {self.attention} must have an entry for each of {self.channels}"
            )
        if any(width % GROUPS for width in self.channels):
            raise ValueError(f"channels {self.channels} must be multiples of {GROUPS}")
        # The block in the middle attends whatever the last level does.
        attended = [width for width, attends in zip(self.channels, self.attention, strict=True) if attends]
        if any(width % self.head_dim for width in [*attended, self.channels[-1]]):
            raise ValueError(
                f"channels {self.channels} of attended levels must be multiples of head_dim {self.head_dim}"
            )
        return self

    @classmethod
    def from_sgm(cls, config: Mapping[str, Any]) -> Self:
        """Read the sizes from the UNet's ``params`` of an sgm configuration.

        Parameters
        ----------
        config : ``model_channels``, ``channel_mult``, ``num_res_blocks``, ``attention_resolutions``,
            ``transformer_depth``, ``num_head_channels``, ``context_dim``, ``adm_in_channels``, ``in_channels``,
            ``out_channels``; keys that are no sizes are passed over

        Raises
        ------
        BadInput
            The configuration is of another family of UNets.
        """
        family = {"num_classes": "sequential", "use_linear_in_transformer": True, "out_channels": config["in_channels"]}
        for key, expected in family.items():
            if config.get(key, expected) != expected:
                raise BadInput(f"{key} = {config[key]!r}", f"{expected!r}", "Only UNets of SDXL's family are read.")
        mult = config["channel_mult"]
        depth = config["transformer_depth"]
        return cls(
            channels=tuple(config["model_channels"] * factor for factor in mult),
            depth=(depth,) * len(mult) if isinstance(depth, int) else tuple(depth),
            layers=config["num_res_blocks"],
            head_dim=config["num_head_channels"],
            context_dim=config["context_dim"],
            vector_dim=config["adm_in_channels"],
            attention=tuple(2**level in config["attention_resolutions"] for level in range(len(mult))),
            latent_channels=config["in_channels"],
        )

    def build(self) -> nn.Module:
        """Return diffusers' ``UNet2DConditionModel`` with fresh weights.

        It is called ``unet(x, timesteps, encoder_hidden_states=context, class_labels=vector)``. The vector enters as
        the class, projected, because diffusers' other entrance takes it apart into sizes and pooled text.
        """
        down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in self.attention]
        up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(self.attention)]
        unet: nn.Module = UNet2DConditionModel(
            in_channels=self.latent_channels,
            out_channels=self.latent_channels,
            down_block_types=down,
            up_block_types=up,
            block_out_channels=self.channels,
            layers_per_block=self.layers,
            transformer_layers_per_block=self.depth,
            attention_head_dim=[max(1, width // self.head_dim) for width in self.channels],  # a number of heads
            cross_attention_dim=self.context_dim,
            use_linear_projection=True,
            norm_num_groups=GROUPS,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=self.vector_dim,
        )
        return unet


def size_vector(*sizes: float) -> Tensor:
    """Return the vector condition of sizes and crops, one sinusoid of 256 channels for each number.

    ``[cos(s f_k), sin(s f_k)]`` with ``f_k = 10000^(-k / 128)``, k = 0..127 (Podell et al. 2023, section 2.2).
    SDXL-unCLIP has (768, 768, 0, 0); SDXL base ends with the target size, (768, 768, 0, 0, 1024, 1024).

    Parameters
    ----------
    sizes : pixels

    Returns
    -------
    (1, 256 * number of sizes) float32
    """
    half = SIZE_CHANNELS // 2
    exponents = -math.log(10000) * torch.arange(half, dtype=torch.float32) / half
    # The last bit of exp differs between processors, and a size of 1024 makes 6e-5 of it: round it right on all.
    frequencies = exponents.double().exp().float()
    angles = torch.tensor(sizes, dtype=torch.float32)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1).reshape(1, -1)


def scale_to_input(x: Tensor, sigma: Tensor) -> Tensor:
    """Return ``x / sqrt(sigma^2 + 1)``, what the UNet sees of a latent (Karras et al. 2022, table 1, c_in of VP)."""
    return x / (sigma**2 + 1).sqrt().to(x.device)


class EpsDenoiser:
    """A denoiser from a UNet that estimates noise: ``D(x, sigma) = x - sigma * unet(c_in x, t(sigma))``.

    As published, sigma is first rounded to the nearest of the 1000 that the network was trained at; samplers should
    therefore step on those alone. The UNet runs in the dtype of its weights, everything around it in float32.

    Parameters
    ----------
    unet : what `UNetConfig.build` returns, or a module that is called alike
    cache_every : steps from one full evaluation to the next, see `StepCache`; for one run of a sampler only
    """

    def __init__(self, unet: nn.Module, cache_every: int = 1) -> None:
        self._unet = unet if cache_every == 1 else StepCache(unet, cache_every)
        self._dtype = next(unet.parameters()).dtype
        self._sigmas = all_sigmas()

    def __call__(self, x: Tensor, sigma: Tensor, context: Tensor, vector: Tensor) -> Tensor:
        """Return the denoised latent.

        Parameters
        ----------
        x : (b, 4, h, w)
        sigma : () or (b,), best on the CPU
        context : (b, token, context_dim)
        vector : (b, vector_dim)

        Returns
        -------
        (b, 4, h, w) float32
        """
        timesteps = edm_timesteps(sigma.cpu().expand(len(x)))
        level = self._sigmas[timesteps].to(x.device)[:, None, None, None]
        noisy = scale_to_input(x.float(), level).to(self._dtype)
        (eps,) = self._unet(
            noisy,
            timesteps.to(x.device),
            encoder_hidden_states=context.to(self._dtype),
            class_labels=vector.to(self._dtype),
            return_dict=False,
        )
        denoised: Tensor = x.float() - level * eps.float()
        return denoised
