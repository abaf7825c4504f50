"""What a profile of the generation pipeline holds. Imports no torch."""

from collections.abc import Sequence
from typing import Any, Literal, Self, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.registry import NETWORKS, find_config
from voxelight.neuro.profiles.options import PARTS_OF_STAGE, GenerationOptions

GalleryPart = Literal["image_encoder"]
PARTS = (*(part for parts in PARTS_OF_STAGE.values() for part in parts), *get_args(GalleryPart))
# A profile may do without a low-level branch, without captions, and without refinement as a whole.
SPARED = ({"blurry"}, {"low_level"}, {"converter", "captioner"}, set(PARTS_OF_STAGE["refined"]))
GENERATORS = {"unclip", "variation"}
Chosen = TypeVar("Chosen", bound=GenerationOptions)


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Options):
    """One network of a profile.

    Parameters
    ----------
    network : a key of `models.registry.NETWORKS`
    config : fields of its configuration that differ from the released size
    """

    network: str
    config: dict[str, Any] = Field(default_factory=dict)

    def build_config(self) -> Any:
        """Return the checked configuration of the network, which this call imports."""
        return find_config(NETWORKS, self.network)(**self.config)


class SubjectWeights(_Options):
    """The decoder of one subject.

    Parameters
    ----------
    weights : name of the published weights
    voxels : voxels that its first layer takes
    low_level : name of the published weights of the low-level branch, where it is a network of its own
    """

    weights: str
    voxels: PositiveInt
    low_level: str | None = None


class Profile(_Options):
    """The networks of the pipeline, their sizes and their weights.

    Parameters
    ----------
    name, title, summary : what a person reads
    space : of the CLIP tokens, model and layer
    parts : part -> network and configuration; those of the low-level branch and of the refinement may be left out
    weights : part -> name of published weights; empty with random weights
    random_seed : of random weights, which no result hides
    subjects : subject -> decoder weights, the first being the one that `weights` and `parts` name
    prior_steps : of the diffusion prior, of 100
    side : of the generated image, pixels
    result_side : of the result, pixels, to which the others are brought first
    target_side : the size that the refinement is asked for, pixels
    refined_share : weight of the refined image in the blend with the blurry one
    candidates : images of which the one is kept whose tokens are nearest to the brain's retrieval tokens
    guidance : of the generator in place of the preset's, where a smaller one wants another
    expected_tokens : take the tokens that the prior expects, not a sample, for a generator that learnt from guesses
    simulated : whether the subjects that its decoders were fitted to are simulated; such a decoder reads no other betas
    """

    name: str
    title: str
    summary: str
    space: str
    parts: dict[str, Part]
    weights: dict[str, str] = Field(default_factory=dict)
    random_seed: NonNegativeInt | None = None
    subjects: dict[str, SubjectWeights] = Field(default_factory=dict)
    prior_steps: PositiveInt = 20
    side: PositiveInt = 768
    result_side: PositiveInt = 256
    target_side: PositiveInt = 1024
    refined_share: float = Field(default=0.75, ge=0, le=1)
    guidance: float | None = Field(default=None, ge=0)
    simulated: bool = False
    expected_tokens: bool = False
    candidates: PositiveInt = 1

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        missing = set(PARTS) - set(self.parts) - GENERATORS
        spared = set().union(*(group for group in SPARED if group <= missing))
        if missing != spared or not set(self.parts) <= set(PARTS) or len(GENERATORS & set(self.parts)) != 1:
            raise ValueError(f"parts {sorted(self.parts)} are not {sorted(PARTS)}, one generator of them")
        if self.candidates > 1 and "variation" not in self.parts:
            raise ValueError(f"{self.candidates} candidates, which only image variation makes")
        if (self.random_seed is None) == (not self.weights):
            raise ValueError("give either weights or random_seed")
        if self.weights and set(self.weights) != set(self.parts):
            raise ValueError(f"weights for {sorted(self.weights)} are not for {sorted(self.parts)}")
        return self

    @property
    def random_weights(self) -> bool:
        """Whether the weights are random, so that results show the working of the pipeline and nothing else."""
        return self.random_seed is not None

    def draws(self, part: str) -> bool:
        """Whether the weights of a part are random; a decoder may be trained for networks that are not."""
        return part not in self.weights

    @property
    def trainable(self) -> bool:
        """Whether a decoder for its tokens can be trained here."""
        return self.parts["decoder"].network == "mindeye2"

    @property
    def voxels(self) -> int:
        """Voxels of a trial."""
        return int(self.parts["decoder"].config["voxels"][0])

    def limit(self, options: Chosen) -> Chosen:
        """Return options that stop where the profile does, if they would go further."""
        refines = set(PARTS_OF_STAGE["refined"]) <= set(self.parts)
        if refines or not options.reaches("refined"):
            return options
        return options.model_copy(update={"stop": "unrefined"})

    def list_parts(self, options: GenerationOptions) -> tuple[str, ...]:
        """Return the parts that a run with these options needs, in the order of their use."""
        needed = tuple(part for part in self.limit(options).parts if part in self.parts)
        chooses = self.count_candidates(options) > 1 and self.limit(options).reaches("unrefined")
        return (*needed, "image_encoder") if chooses else needed

    def count_candidates(self, options: GenerationOptions) -> int:
        """Return how many images each result is chosen from."""
        return (options.candidates or self.candidates) if "variation" in self.parts else 1

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the latent of a generated image; imports the autoencoder's configuration."""
        config = self.parts["autoencoder"].build_config()
        side = self.side >> (len(config.channels) - 1)
        return int(config.latent_channels), side, side

    def select_subject(self, subject: str) -> "Profile":
        """Return the profile with the decoder of one subject.

        Parameters
        ----------
        subject : a key of `subjects`

        Raises
        ------
        NotFound
            The profile has no decoder for the subject.
        """
        if subject not in self.subjects:
            raise NotFound(
                f"no decoder of {self.name} for {subject!r}",
                f"one of {', '.join(self.subjects) or '(none)'}",
                "Choose a subject, or train a decoder for this one.",
            )
        chosen = self.subjects[subject]
        named = {"decoder": chosen.weights, "low_level": chosen.low_level}
        weights = {part: name for part, name in named.items() if name is not None}
        resized = {
            part: self.parts[part].model_copy(update={"config": {**self.parts[part].config, "voxels": [chosen.voxels]}})
            for part in weights
        }
        return self.model_copy(update={"parts": {**self.parts, **resized}, "weights": {**self.weights, **weights}})


def check_trials(profile: Profile, trials: Sequence[NDArray[np.float32]]) -> None:
    """Refuse trials that the decoder of a profile can't take, before anything is loaded.

    Parameters
    ----------
    profile : Profile
    trials : one array (repeat, voxel) an image, normalised betas

    Raises
    ------
    BadInput
        An image has no repeat, another number of voxels, or betas that are NaN or infinite.
    """
    for number, betas in enumerate(trials):
        if betas.ndim != 2 or not len(betas):
            raise BadInput(
                f"betas of shape {betas.shape} for image {number}",
                "(repeat, voxel) with at least one repeat",
                "Give every image the rows of all its trials.",
            )
        if betas.shape[1] != profile.voxels:
            raise BadInput(
                f"{betas.shape[1]} voxels for image {number}",
                f"the {profile.voxels} voxels that the decoder of {profile.name} was made for",
                "Choose the weights of this subject, and the mask that its betas were taken with.",
            )
        unfit = int(np.count_nonzero(~np.isfinite(betas)))
        if unfit:
            raise BadInput(
                f"{unfit} betas of image {number} that are NaN or infinite",
                "finite values",
                "Leave out trials without a signal, or repair the normalisation of voxels without variance.",
            )
