"""MindEye2: voxels of any of several subjects to CLIP image tokens (Scotti et al. 2024)."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple, Self, cast

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from voxelight.models.decoders import low_level
from voxelight.models.decoders.mixer import mix, mixer_block, shift
from voxelight.models.decoders.wide import WideLinear
from voxelight.models.diffusion.prior import PriorConfig
from voxelight.models.errors import BadInput


class MindEye2Config(BaseModel):
    """Sizes of a MindEye2 decoder; the defaults are the released ones, for subject 1.

    Parameters
    ----------
    voxels : voxels of each subject
    hidden : width of the space that all subjects share
    blocks : of the mixer
    seq_len : entries of the mixer's sequence; 1 in every released model
    tokens, dim : number and width of the tokens
    low_level : whether there is a branch to a blurry latent
    decoder_widths : channels of that branch's upsampler, finest first
    maps_width : channels of the maps that its training looks at
    prior : of the diffusion prior; None leaves it out
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    voxels: tuple[PositiveInt, ...] = Field((15724,), min_length=1)
    hidden: PositiveInt = 4096
    blocks: PositiveInt = 4
    seq_len: PositiveInt = 1
    tokens: PositiveInt = 256
    dim: PositiveInt = 1664
    low_level: bool = True
    decoder_widths: tuple[Annotated[int, Field(gt=0, multiple_of=32)], ...] = Field((32, 64, 128), min_length=1)
    maps_width: PositiveInt = 512
    prior: PriorConfig | None = PriorConfig()

    @model_validator(mode="after")
    def _one_token_space(self) -> Self:
        if self.prior is not None:
            self.prior.check_tokens(self.tokens, self.dim)
        return self

    def build(self) -> "MindEye2":
        """Return the decoder with fresh weights."""
        return MindEye2(self)


class BrainOutput(NamedTuple):
    """What a decoder says of each trial.

    Parameters
    ----------
    tokens : tensor (b, token, dim), the condition of the prior; linear in the voxels where the sequence has one entry
    retrieval : tensor (b, token, dim), to be compared with the tokens of images
    blurry_latent : tensor (b, 4, 28, 28), of the Stable Diffusion autoencoder, times 0.18215
    maps : tensor (b, 49, 512)
    """

    tokens: Tensor
    retrieval: Tensor
    blurry_latent: Tensor | None
    maps: Tensor | None


class Ridge(nn.Module):
    """One linear map a subject, into the space that all share."""

    def __init__(self, voxels: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(count, hidden) for count in voxels)

    def forward(self, voxels: Tensor, subject: int = 0) -> Tensor:
        """Return (b, n, hidden) of voxels (b, n, voxel).

        Raises
        ------
        BadInput
            There is no such subject, or it has another number of voxels.
        """
        if not 0 <= subject < len(self.linears):
            raise BadInput(
                f"subject index {subject}",
                f"0 to {len(self.linears) - 1}",
                "Count the subjects as in the list of voxels that the decoder was built with.",
            )
        linear = cast(nn.Linear, self.linears[subject])
        if voxels.ndim != 3 or voxels.shape[-1] != linear.in_features:
            raise BadInput(
                f"voxels of shape {tuple(voxels.shape)}",
                f"(b, n, {linear.in_features}) for subject index {subject}",
                "Use the mask and the subject that the decoder was trained on.",
            )
        return cast(Tensor, linear(voxels))


def build_projector(dim: int) -> nn.Sequential:
    """Return the network from each token to its retrieval token: three times norm, GELU, linear."""
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.LayerNorm(dim), nn.GELU(), nn.Linear(dim, dim)]
    return nn.Sequential(*layers)


class Backbone(nn.Module):
    """From the shared space to tokens, to retrieval tokens and to the low-level branch.

    Attributes
    ----------
    shortcut : with a sequence of one entry, add what the mixer amounts to: one number, in training one an entry, as
        its dropout has it; `mixer_blocks1` is not computed then
    """

    def __init__(self, config: MindEye2Config) -> None:
        super().__init__()
        self.config = config
        self.shortcut = True
        flat = config.hidden * config.seq_len
        self.mixer_blocks1 = nn.ModuleList(mixer_block(config.hidden) for _ in range(config.blocks))
        self.mixer_blocks2 = nn.ModuleList(mixer_block(config.seq_len) for _ in range(config.blocks))
        self.backbone_linear = WideLinear(flat, config.tokens * config.dim)
        self.clip_proj = build_projector(config.dim)
        if config.low_level:
            self.blin1 = nn.Linear(flat, low_level.CHANNELS * low_level.SIDE**2)
            self.bdropout = nn.Dropout(0.3)
            self.bnorm = nn.GroupNorm(1, low_level.CHANNELS)
            self.bupsampler = low_level.build_upsampler(config.decoder_widths)
            self.b_maps_projector = low_level.build_maps_projector(config.maps_width)

    def forward(self, x: Tensor) -> BrainOutput:
        """Decode what the ridge returned.

        Parameters
        ----------
        x : tensor (b, n, hidden), n the length of the sequence

        Raises
        ------
        BadInput
            The shape is another.
        """
        config = self.config
        if x.shape[1:] != (config.seq_len, config.hidden):
            raise BadInput(
                f"an input of shape {tuple(x.shape)}",
                f"(b, {config.seq_len}, {config.hidden})",
                "Give as many entries a trial as the decoder was trained with.",
            )
        flat = self.mixed(x).flatten(1)
        tokens = self.backbone_linear(flat).view(len(x), config.tokens, config.dim)
        latent, maps = self.low_level(flat) if config.low_level else (None, None)
        return BrainOutput(tokens, self.clip_proj(tokens), latent, maps)

    def mixed(self, x: Tensor) -> Tensor:
        """Return the mixer's output (b, n, hidden)."""
        if self.shortcut and self.config.seq_len == 1:
            return x + shift(self.mixer_blocks2, x, each=self.training)
        return mix(x, self.mixer_blocks1, self.mixer_blocks2)

    def low_level(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Return the blurry latent (b, 4, 28, 28) and the maps (b, 49, 512) of what the mixer returned, flattened."""
        x = self.bdropout(self.blin1(flat)).view(len(flat), low_level.CHANNELS, low_level.SIDE, low_level.SIDE)
        x = self.bnorm(x)
        return self.bupsampler(x), self.b_maps_projector(x).flatten(2).transpose(1, 2)


class MindEye2(nn.Module):
    """Ridge, backbone and prior under the names of the published file.

    At a sequence of one entry the blocks of `backbone.mixer_blocks1` reach no output; they are held because the file
    holds them.
    """

    def __init__(self, config: MindEye2Config) -> None:
        super().__init__()
        self.config = config
        self.ridge = Ridge(config.voxels, config.hidden)
        self.backbone = Backbone(config)
        self.diffusion_prior = None if config.prior is None else config.prior.build()

    def forward(self, voxels: Tensor, subject: int = 0) -> BrainOutput:
        """Decode trials of one subject.

        Parameters
        ----------
        voxels : tensor (b, n, voxel), in the type of the weights, n the length of the sequence (1 in released models)
        subject : its place in the configuration's list of voxels

        Raises
        ------
        BadInput
            There is no such subject, or the shape is another.
        """
        return cast(BrainOutput, self.backbone(self.ridge(voxels, subject)))
