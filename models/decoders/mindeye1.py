"""MindEye1: the voxels of one subject to CLIP image tokens (Scotti et al. 2023)."""

from itertools import pairwise
from typing import Annotated, ClassVar, Self, cast

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from voxelight.models.decoders import low_level
from voxelight.models.decoders.mindeye2 import BrainOutput
from voxelight.models.diffusion.prior import PriorConfig
from voxelight.models.errors import BadInput

# The root of 768: image tokens are diffused at the variance of noise, and divided by it again when sampled.
PRIOR = PriorConfig(dim=768, tokens=257, heads=12, dim_head=64, image_scale=768**0.5)


class MindEye1Config(BaseModel):
    """Sizes of a MindEye1 decoder; the defaults are the released ones, for subject 1.

    The model of one token, whose retrieval vectors query an index of pictures, is ``tokens=1, prior=None``: the
    published prior of that model is another network, of which only the name is known here.

    Parameters
    ----------
    voxels : of the subject, a single number
    hidden, blocks : width and number of the residual layers
    tokens, dim : number and width of the tokens
    projector_width : of the network to retrieval tokens
    prior : of the diffusion prior; None leaves it out
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The residual layers are not linear, so the mean of repeats is decoded, not the repeats averaged (as published).
    averages_betas: ClassVar[bool] = True

    voxels: tuple[PositiveInt] = (15724,)
    hidden: PositiveInt = 4096
    blocks: PositiveInt = 4
    tokens: PositiveInt = 257
    dim: PositiveInt = 768
    projector_width: PositiveInt = 2048
    prior: PriorConfig | None = PRIOR

    @model_validator(mode="after")
    def _one_token_space(self) -> Self:
        if self.prior is not None:
            self.prior.check_tokens(self.tokens, self.dim)
        return self

    def build(self) -> "MindEye1":
        """Return the decoder with fresh weights."""
        return MindEye1(self)


class ResidualBackbone(nn.Module):
    """From voxels to tokens by residual layers, and from each token to its retrieval token."""

    def __init__(self, config: MindEye1Config) -> None:
        super().__init__()
        self.config = config
        (voxels,) = config.voxels
        self.lin0 = _layer(voxels, config.hidden, nn.GELU(), 0.5)
        self.mlp = nn.ModuleList(_layer(config.hidden, config.hidden, nn.GELU(), 0.15) for _ in range(config.blocks))
        self.lin1 = nn.Linear(config.hidden, config.tokens * config.dim)
        widths = (config.dim, config.projector_width, config.projector_width, config.dim)
        layers: list[nn.Module] = []
        for here, there in pairwise(widths):
            layers += [nn.LayerNorm(here), nn.GELU(), nn.Linear(here, there)]
        self.projector = nn.Sequential(*layers)

    def forward(self, voxels: Tensor) -> BrainOutput:
        """Decode voxels (b, voxel); see `MindEye1.forward`."""
        x = _residual(self.lin0, self.mlp, voxels)
        tokens = self.lin1(x).view(len(x), self.config.tokens, self.config.dim)
        return BrainOutput(tokens, self.projector(tokens), None, None)


class MindEye1(nn.Module):
    """Backbone and prior; the low-level branch is a network of its own, `LowLevelConfig`."""

    def __init__(self, config: MindEye1Config) -> None:
        super().__init__()
        self.config = config
        self.voxel2clip = ResidualBackbone(config)
        self.diffusion_prior = None if config.prior is None else config.prior.build()

    def forward(self, voxels: Tensor) -> BrainOutput:
        """Decode trials.

        Parameters
        ----------
        voxels : tensor (b, 1, voxel) or (b, voxel), in the type of the weights; the mean of the repeats

        Raises
        ------
        BadInput
            The number of voxels is another.
        """
        return cast(BrainOutput, self.voxel2clip(_flat(voxels, self.config.voxels[0])))


class LowLevelConfig(BaseModel):
    """Sizes of the low-level branch of MindEye1; the defaults are the released ones, for subject 1.

    Parameters
    ----------
    voxels : of the subject, a single number
    hidden, blocks : width and number of the residual layers
    decoder_widths : channels of the upsampler, finest first; it doubles 16 pixels for every width but one
    maps_width : channels of the maps that its training looks at
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    voxels: tuple[PositiveInt] = (15724,)
    hidden: PositiveInt = 4096
    blocks: PositiveInt = 4
    decoder_widths: tuple[Annotated[int, Field(gt=0, multiple_of=32)], ...] = Field((64, 128, 256), min_length=1)
    maps_width: PositiveInt = 512

    def build(self) -> "LowLevel":
        """Return the network with fresh weights."""
        return LowLevel(self)


class LowLevel(nn.Module):
    """Voxels to the latent of a blurry image, for the autoencoder of Stable Diffusion."""

    SIDE = 16

    def __init__(self, config: LowLevelConfig) -> None:
        super().__init__()
        self.config = config
        (voxels,) = config.voxels
        self.lin0 = _layer(voxels, config.hidden, nn.SiLU(inplace=True), 0.5, bias=False)
        self.mlp = nn.ModuleList(
            _layer(config.hidden, config.hidden, nn.SiLU(inplace=True), 0.25, bias=False) for _ in range(config.blocks)
        )
        self.lin1 = nn.Linear(config.hidden, low_level.CHANNELS * self.SIDE**2, bias=False)
        self.norm = nn.GroupNorm(1, low_level.CHANNELS)
        self.upsampler = low_level.build_upsampler(config.decoder_widths)
        self.maps_projector = low_level.build_maps_projector(config.maps_width)

    def forward(self, voxels: Tensor) -> tuple[Tensor, Tensor]:
        """Decode trials.

        Parameters
        ----------
        voxels : tensor (b, 1, voxel) or (b, voxel), in the type of the weights; the mean of the repeats

        Returns
        -------
        latent : tensor (b, 4, 64, 64), of the Stable Diffusion autoencoder, times 0.18215
        maps : tensor (b, 256, 512)

        Raises
        ------
        BadInput
            The number of voxels is another.
        """
        x = self.lin1(_residual(self.lin0, self.mlp, _flat(voxels, self.config.voxels[0])))
        x = self.norm(x.view(len(x), low_level.CHANNELS, self.SIDE, self.SIDE))
        return self.upsampler(x), self.maps_projector(x).flatten(2).transpose(1, 2)


def _layer(inputs: int, outputs: int, activation: nn.Module, dropout: float, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=bias), nn.LayerNorm(outputs), activation, nn.Dropout(dropout))


def _residual(first: nn.Module, blocks: nn.ModuleList, x: Tensor) -> Tensor:
    x = first(x)
    for block in blocks:
        x = x + block(x)
    return x


def _flat(voxels: Tensor, count: int) -> Tensor:
    flat = voxels[:, 0] if voxels.ndim == 3 and voxels.shape[1] == 1 else voxels
    if flat.ndim != 2 or flat.shape[1] != count:
        raise BadInput(
            f"voxels of shape {tuple(voxels.shape)}",
            f"(b, {count}), the mean of the repeats of each image",
            "Use the mask and the subject that the decoder was trained on.",
        )
    return flat
