"""How latents are sampled, by name. Importing this file imports no network."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

if TYPE_CHECKING:
    from torch import Tensor


class SamplingPreset(BaseModel):
    """A sampler, the sigmas that it steps on and its guidance.

    Parameters
    ----------
    sampler : a key of `voxelight.models.diffusion.samplers.SAMPLERS`
    spacing : a key of `voxelight.models.diffusion.spacing.SPACINGS`
    steps : of the whole schedule
    skip : steps left out at its start, where latents are refined and not made
    guidance : scale of classifier-free guidance
    interval : (low, high), guided where ``low < sigma <= high``; everywhere without one
    cache_every : steps from one full evaluation of the UNet to the next, deep features being reused between; 1 for none
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampler: Literal["euler", "dpmpp_2m"] = "euler"
    spacing: Literal["uniform", "align"] = "uniform"
    steps: PositiveInt = 38
    skip: NonNegativeInt = 0
    guidance: float = Field(5.0, ge=0)
    interval: tuple[float, float] | None = None
    cache_every: PositiveInt = 1

    @model_validator(mode="after")
    def _leaves_steps(self) -> Self:
        if self.skip >= self.steps:
            raise ValueError(f"{self.skip} steps left out of {self.steps} leave none")
        return self

    def sigmas(self) -> "Tensor":
        """Return the sigmas, (steps - skip + 1,) float32, falling to 0."""
        from voxelight.models.diffusion.spacing import SPACINGS

        return SPACINGS[self.spacing](self.steps)[self.skip :]

    def evaluations(self) -> int:
        """Return how often the network sees each image; a guided step counts twice, one that reuses features whole."""
        from voxelight.models.diffusion.samplers import is_guided

        return sum(1 + is_guided(sigma, self.guidance, self.interval) for sigma in self.sigmas()[:-1].tolist())


class VariationPreset(BaseModel):
    """How an image is made by image variation.

    Parameters
    ----------
    steps : of UniPC
    strength : share of the steps that are done where a blurry image is the start
    guidance : scale of classifier-free guidance
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: PositiveInt = 20
    strength: float = Field(0.85, gt=0, le=1)
    guidance: float = Field(3.5, ge=0)

    @property
    def skip(self) -> int:
        """Steps left out where there is a start."""
        return self.steps - int(self.steps * self.strength)


VARIATION_PRESETS: dict[str, VariationPreset] = {
    "published": VariationPreset(),
    "fast": VariationPreset(steps=10),
}

# The fast presets were chosen from the literature and not yet by trained weights. Guidance is left out below sigma 0.3
# (Kynkäänniemi et al. 2024 find it to do nothing below 0.28), and kept above, where it decides what the image shows.
PRESETS: dict[str, SamplingPreset] = {
    "published": SamplingPreset(),
    "fast": SamplingPreset(sampler="dpmpp_2m", spacing="align", steps=9, interval=(0.3, 15.0)),
}

REFINEMENT_PRESETS: dict[str, SamplingPreset] = {
    "published": SamplingPreset(steps=25, skip=13),
    # Starts where the published one does: 1.5 both.
    "fast": SamplingPreset(sampler="dpmpp_2m", spacing="align", steps=8, skip=3, interval=(0.3, 15.0)),
}
