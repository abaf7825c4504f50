"""cDAL: a label drawn in a few steps of diffusion, conditioned on the image (Hejrati et al. 2024)."""

from collections.abc import Callable
from typing import ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator
from torch import Generator, Tensor, nn

from voxelight.models.segmentation import cdal_generator
from voxelight.models.segmentation.cdal_diffusion import as_probability, make_schedule, sample
from voxelight.models.segmentation.cdal_discriminator import Discriminator
from voxelight.models.segmentation.grid import cut_to, pad_to_multiple
from voxelight.models.segmentation.slices import through_slices

_AT_ONCE = 32
_SMALLEST = 1e-6


class CDALConfig(BaseModel):
    """Sizes and switches of a cDAL.

    The paper form is ``attention="label"`` with ``adversarial_weight=0``: a discriminator is trained, the label is
    multiplied with where it looks before noise is added, which never happens at sampling, and the generator learns by
    the squared error alone. Repaired: ``attention="loss"`` weighs the squared error by where the discriminator looks
    and leaves the label alone, so that training sees what sampling sees; the generator answers to the discriminator.
    ``attention="none"`` with ``adversarial_weight=0`` trains by the squared error without a discriminator.

    Parameters
    ----------
    in_channels : image channels of one slice
    classes : labels, background included; two are drawn as one map, more as one map each
    context : slices that are seen at once, as channels; an odd number
    width, multipliers : channels of the finest level, and of each level in multiples of it
    blocks : residual blocks of each level
    attention_levels : levels with self-attention, 0 the finest
    encoder_blocks : residual blocks at full resolution that encode the image, once for all steps and votes
    latent, embedding, mapping_layers : of the latent that normalisations read
    dropout : share of activations dropped
    steps : T, steps of diffusion
    beta_min, beta_max, geometric : of `cdal_diffusion.make_schedule`
    votes : labels that are drawn of an image; their mean is the probability
    seed : of the votes, the same for every image
    adversarial_weight : of the generator's loss against the discriminator
    attention : what the discriminator's attention changes in training
    supervision_weight : of the recipe's loss on the drawn label, beside the squared error
    discriminator, discriminator_width, discriminator_time : of `cdal_discriminator.Discriminator`
    discriminator_rate : its learning rate relative to that of the generator
    attention_scale : which features say where it looks, 0 the first convolution
    r1_gamma, r1_interval : penalty on the slope of the discriminator, and steps from one to the next
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    spatial_dims: ClassVar[int] = 2

    in_channels: PositiveInt = 1
    classes: int = Field(2, ge=2)
    context: int = Field(1, ge=1)
    width: int = Field(32, ge=4, multiple_of=4)
    multipliers: tuple[PositiveInt, ...] = Field((1, 2, 2, 2), min_length=1)
    blocks: PositiveInt = 1
    attention_levels: tuple[int, ...] = (1,)
    encoder_blocks: PositiveInt = 6
    latent: PositiveInt = 50
    embedding: PositiveInt = 128
    mapping_layers: PositiveInt = 3
    dropout: float = Field(0.0, ge=0, lt=1)
    steps: PositiveInt = 4
    beta_min: PositiveFloat = 0.1
    beta_max: PositiveFloat = 20.0
    geometric: bool = False
    votes: PositiveInt = 5
    seed: int = 0
    adversarial_weight: float = Field(0.01, ge=0)
    attention: Literal["loss", "label", "none"] = "loss"
    supervision_weight: float = Field(0.0, ge=0)
    discriminator: Literal["small", "large"] = "small"
    discriminator_width: PositiveInt = 32
    discriminator_time: int = Field(256, ge=4)
    discriminator_rate: PositiveFloat = 0.5
    attention_scale: int = Field(2, ge=0)
    r1_gamma: float = Field(1.0, ge=0)
    r1_interval: PositiveInt = 10

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.context % 2 == 0:
            raise ValueError("context: an odd number of slices, so that one is in the middle")
        if not set(self.attention_levels) <= set(range(len(self.multipliers))):
            raise ValueError(f"attention_levels {self.attention_levels} of {len(self.multipliers)} levels")
        if self.attention_scale > {"small": 4, "large": 6}[self.discriminator]:
            raise ValueError(f"attention_scale {self.attention_scale} of a {self.discriminator} discriminator")
        return self

    @property
    def label_channels(self) -> int:
        """Maps that a label is drawn as."""
        return 1 if self.classes == 2 else self.classes

    @property
    def needs_discriminator(self) -> bool:
        """Whether training takes one."""
        return self.attention != "none" or self.adversarial_weight > 0

    @property
    def sizes(self) -> cdal_generator.GeneratorSizes:
        """Sizes of the generator."""
        return cdal_generator.GeneratorSizes(
            image_channels=self.in_channels * self.context,
            label_channels=self.label_channels,
            width=self.width,
            multipliers=self.multipliers,
            blocks=self.blocks,
            attention_levels=self.attention_levels,
            encoder_blocks=self.encoder_blocks,
            latent=self.latent,
            embedding=self.embedding,
            mapping_layers=self.mapping_layers,
            dropout=self.dropout,
        )

    def build(self) -> "CDAL":
        """Return the network with fresh weights."""
        return CDAL(self)

    def build_discriminator(self) -> Discriminator:
        """Return what training needs beside the network."""
        return Discriminator(self.label_channels, self.discriminator_width, self.discriminator_time, self.discriminator)


class CDAL(nn.Module):
    """Image (b, c, i, j) or volume (b, c, i, j, k) -> logits of the mean of several votes, for any grid."""

    objective = "denoising"

    def __init__(self, config: CDALConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple = 2 ** (len(config.multipliers) - 1)
        self.generator = cdal_generator.Generator(config.sizes)
        self.schedule = make_schedule(config.steps, config.beta_min, config.beta_max, config.geometric)

    def pad(self, image: Tensor) -> Tensor:
        """Return the image on a grid that every level can halve."""
        return pad_to_multiple(image, self.multiple)

    def encode_labels(self, reference: Tensor) -> Tensor:
        """Return the clean label in [-1, 1], tensor (b, label channel, i, j), of shares (b, label, i, j)."""
        return 2 * (reference[:, 1:] if self.config.label_channels == 1 else reference).float() - 1

    def probabilities(self, label: Tensor) -> Tensor:
        """Return the share of each label (..., label, i, j) that a drawn one (..., label channel, i, j) stands for."""
        p = as_probability(label.float())
        if self.config.label_channels == 1:
            return torch.cat([1 - p, p], dim=-3)
        return (p + _SMALLEST) / (p + _SMALLEST).sum(dim=-3, keepdim=True)

    def draw_votes(
        self,
        image: Tensor,
        votes: int,
        generator: Generator,
        at_once: int = _AT_ONCE,
        see: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Draw labels of each image; the image is encoded once, and votes are computed together.

        Every image gets the same noise, so that a label does not depend on what else is in the batch.

        Parameters
        ----------
        image : tensor (b, context * c, i, j)
        votes : labels of each image
        generator : source of the noise, on the device of the image
        at_once : labels that are computed together
        see : what the generator is shown in place of the noisy labels, for an audit

        Returns
        -------
        tensor (vote, b, label channel, i, j) in [-1, 1]
        """
        padded = self.pad(image)
        condition = self.generator.encode(padded)
        noises = [self._draw_noise(padded, votes, generator) for _ in range(self.config.steps + 1)]
        found = []
        for part in torch.split(torch.arange(votes * len(image), device=image.device), at_once):
            vote, item = part // len(image), part % len(image)
            found.append(
                sample(
                    self.schedule,
                    lambda x, t, z, of=condition[item]: self.generator(x if see is None else see(x), t, z, of),  # type: ignore[misc]
                    noises[-1][1][vote],
                    lambda step, of=vote: (noises[step][0][of], noises[step][1][of]),  # type: ignore[misc]
                )
            )
        drawn = torch.cat(found).reshape(votes, len(image), -1, *padded.shape[2:])
        return drawn[..., : image.shape[2], : image.shape[3]]

    def _draw_noise(self, padded: Tensor, votes: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return a latent (vote, n) and noise (vote, label channel, i, j)."""
        shape = (votes, self.config.label_channels, *padded.shape[2:])
        latent = torch.randn(votes, self.config.latent, generator=generator, device=padded.device)
        noise = torch.randn(shape, generator=generator, device=padded.device)
        return latent.to(padded.dtype), noise.to(padded.dtype)

    def core(self, image: Tensor) -> Tensor:
        """Return probabilities (b, label, i, j) by one pass of the generator, without a noisy label or a latent."""
        padded = self.pad(image)
        x = padded.new_zeros(len(image), self.config.label_channels, *padded.shape[2:])
        t = torch.full((len(image),), self.config.steps - 1, device=image.device)
        z = padded.new_zeros(len(image), self.config.latent)
        found = self.generator(x, t, z, self.generator.encode(padded))
        return cut_to(self.probabilities(found), image.shape[2:])

    def vote(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of the votes as probabilities, and their spread.

        Parameters
        ----------
        image : tensor (b, context * c, i, j)

        Returns
        -------
        mean : tensor (b, label, i, j)
        spread : tensor (b, i, j), the largest standard deviation of a label over the votes
        """
        generator = Generator(image.device).manual_seed(self.config.seed)
        votes = self.probabilities(self.draw_votes(image, self.config.votes, generator))
        return votes.mean(dim=0), votes.std(dim=0, unbiased=False).amax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logarithm of the vote mean, which softmax turns back into it."""
        if x.ndim == 5:
            return through_slices(self, x, self.config.context)
        return self.vote(x)[0].clamp(min=_SMALLEST).log()
