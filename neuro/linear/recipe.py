"""What a linear decoder is fitted to, and what is generated from its predictions. Imports no torch."""

from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from voxelight.models.decoders.ridge import RidgeConfig
from voxelight.models.errors import BadInput


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


WORDS, PIXELS = "clip-text", "pixels-64"
FIRST_GUESS = "first-guess"


class RandomNetwork(_Options):
    """A network with random weights.

    Parameters
    ----------
    network : a key of `models.registry.NETWORKS`
    config : fields of its configuration
    """

    network: str
    config: dict[str, Any] = Field(default_factory=dict)


class Target(_Options):
    """One space that betas are mapped to.

    Parameters
    ----------
    shape : of one target, e.g. (token, dim)
    alphas : the published penalty; several are chosen from by folds
    made_by : what makes the targets of training pictures
    encoder : published weights that do, where they are known here
    random : a network that does without having learnt anything
    """

    shape: tuple[PositiveInt, ...] = Field(min_length=1)
    alphas: tuple[PositiveFloat, ...] = Field(min_length=1)
    made_by: str
    encoder: str | None = None
    random: RandomNetwork | None = None

    @property
    def size(self) -> int:
        """Numbers of one target."""
        total = 1
        for side in self.shape:
            total *= side
        return total


class Generator(_Options):
    """How pictures are made of what was predicted.

    Parameters
    ----------
    kind : ``img2img`` and ``controlnet`` of Stable Diffusion, or ``dual-guided`` Versatile Diffusion
    checkpoint : a folder in diffusers' form, or a name on the hub; published ones may have been withdrawn, so any fits
    controls : checkpoints of ControlNets, depth first
    scales : weight of each ControlNet
    steps, guidance, strength : of the sampling; the strength where a first guess is the start
    text_share : weight of the words in dual guidance, the picture having the rest
    negative : what to avoid
    side : of the pictures, pixels
    """

    kind: Literal["img2img", "controlnet", "dual-guided"]
    checkpoint: str
    controls: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()
    steps: PositiveInt = 50
    guidance: float = Field(9.0, ge=0)
    strength: float = Field(0.6, gt=0, le=1)
    text_share: float = Field(0.4, ge=0, le=1)
    negative: str = ""
    side: PositiveInt = 512

    @model_validator(mode="after")
    def _has_controls(self) -> Self:
        if len(self.controls) != len(self.scales) or (self.kind == "controlnet") != bool(self.controls):
            raise ValueError(f"{len(self.controls)} controls with {len(self.scales)} scales for {self.kind}")
        return self


class LinearRecipe(_Options):
    """A published linear decoder.

    Parameters
    ----------
    name, title, summary : what a person reads
    targets : space -> Target
    generators : name -> Generator, the first being the published one
    captioner : published weights of what captions the space `git`
    random_captioner : a network that does without having learnt anything
    random_seed : of random weights, which no result hides
    caption_length : longest caption in vocabulary entries
    rescale : whether predictions are brought to mean and spread of the training targets, measured on held-out training
        rows. The published code takes the spread of the test set's predictions, and so needs it whole
    folds : of the training rows, by stimulus, which choose penalties and measure the spread
    """

    name: str
    title: str
    summary: str
    targets: dict[str, Target] = Field(min_length=1)
    generators: dict[str, Generator] = Field(default_factory=dict)
    captioner: str | None = None
    random_captioner: RandomNetwork | None = None
    random_seed: NonNegativeInt | None = None
    caption_length: PositiveInt = 25
    rescale: bool = True
    folds: PositiveInt = Field(5, ge=2)
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _says_what_is_random(self) -> Self:
        drawn = [self.random_captioner, *(target.random for target in self.targets.values())]
        if any(each is not None for each in drawn) != (self.random_seed is not None):
            raise ValueError("random networks take a random_seed, and nothing else does")
        return self

    @property
    def random_weights(self) -> bool:
        """Whether a network learnt nothing, so that results show the working of the software and nothing else."""
        return self.random_seed is not None

    @property
    def captions(self) -> bool:
        """Whether it says in words what was seen."""
        return self.captioner is not None or self.random_captioner is not None

    def makes(self, space: str) -> bool:
        """Whether targets of a space can be made here; those of the hierarchical VAE can't."""
        return space == PIXELS or any((self.targets[space].encoder, self.targets[space].random))

    def compared(self, spaces: Iterable[str]) -> str:
        """Return the space in which what was decoded is compared with pictures: the first that is made of pictures.

        Raises
        ------
        BadInput
            There is none.
        """
        found = [space for space in self.targets if space in set(spaces) and space != WORDS]
        if not found:
            raise BadInput(
                f"no space of {self.name} that pictures have", f"one besides {WORDS}", "Fit another one too."
            )
        return found[0]

    def ridge(self, space: str) -> RidgeConfig:
        """Return the options of the ridge of one space."""
        return RidgeConfig(alphas=self.targets[space].alphas, rescale=self.rescale)
