"""What decides a training of MindEye2, and the packaged recipes. No torch."""

from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from voxelight.models.errors import BadInput
from voxelight.models.packaged import list_packaged, read_packaged

_PACKAGE = "voxelight.neuro.training"


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Losses(_Options):
    r"""Weights and temperatures of :math:`L = 30 L_p + L_c + \tfrac12 (L_1 + 0.1 L_s)` (Scotti et al. 2024).

    A weight of 0 leaves its term out: it is not computed, and parameters that serve it alone are not trained.

    Parameters
    ----------
    prior : weight of the squared error of the diffusion prior
    clip : weight of the contrast between retrieval tokens and image tokens
    low_level : weight of the branch to a blurry latent, both its terms
    contrast : weight of that branch's second term, the soft contrast of its maps, beside the absolute error
    mixing_share : share of epochs, the first ones, with mixed voxels (BiMixCo); SoftCLIP follows
    mixing_beta, mixing_chosen : both parameters of the Beta distribution, and the share of samples that are mixed
    mixing_temperature : of BiMixCo
    soft_low, soft_high : first and last temperature of SoftCLIP
    contrast_temperature : of the soft contrast
    """

    prior: NonNegativeFloat = 30.0
    clip: NonNegativeFloat = 1.0
    low_level: NonNegativeFloat = 0.5
    contrast: NonNegativeFloat = 0.1
    mixing_share: float = Field(0.33, ge=0, le=1)
    mixing_beta: PositiveFloat = 0.15
    mixing_chosen: float = Field(0.5, ge=0, le=1)
    mixing_temperature: PositiveFloat = 0.006
    soft_low: PositiveFloat = 0.004
    soft_high: PositiveFloat = 0.0075
    contrast_temperature: PositiveFloat = 0.2


class Defects(_Options):
    """What the released code does and hardly means to; each is repaired unless it is switched on here.

    Parameters
    ----------
    shared_permutation : the partners of mixed samples are numbered from 0 for every subject of a batch, so that the
        targets of all but the first subject point at samples of the first. Repaired: numbered through the batch
    unmixed_latents : where voxels are mixed, the low-level branch is still compared with the latent of one image.
        Repaired: with latents mixed alike
    inherited_ridge_bias : a new subject starts with the bias, but not the weights, of the first subject of the
        pretraining. Repaired: with a fresh bias
    decayed_norms : weight decay reaches the gains of norms. Repaired: it does not
    overwritten_partners : a sample that is its own partner loses its target, or a part of it. Repaired: it keeps it
    skipped_batches : a batch that shows an image twice is thrown away. Repaired: only the second trial waits for the
        next batch
    idle_blocks : blocks of the mixer that reach no output are computed, decayed and kept by the optimiser. Repaired:
        they stay as they are; no output differs
    """

    shared_permutation: bool = False
    unmixed_latents: bool = False
    inherited_ridge_bias: bool = False
    decayed_norms: bool = False
    overwritten_partners: bool = False
    skipped_batches: bool = False
    idle_blocks: bool = False

    @classmethod
    def published(cls) -> Self:
        """Return all of them, as released."""
        return cls(**dict.fromkeys(cls.model_fields, True))


class TrainingRecipe(_Options):
    """A training of a MindEye2 decoder, but for the subjects and the device.

    Parameters
    ----------
    name, title, summary : what a person reads
    config : fields of `MindEye2Config` other than the voxels, which the subjects decide
    start : ``fresh`` weights, or those of a ``multisubject`` decoder, to which one new subject is fitted
    sessions : of every subject, the first in time; a subject of a pretraining may have fewer
    trials_a_session : so many trials a session are counted as an epoch, whichever of them are held out
    batch : samples of every subject in a batch
    epochs : passes, each of `steps_an_epoch`
    learning_rate : the peak of one cycle, two epochs after the start
    weight_decay : of AdamW
    losses, defects : see there
    precision : ``bf16``, ``fp16`` with scaled gradients as published, or ``fp32``; weights, losses and the optimiser
        are float32 in any case
    micro_batches : parts that a batch is computed in, one after the other, for smaller cards
        The gradient is that of the whole batch: contrasts are taken over all of it.
    adapter_rank : rank of a low-rank map of every subject in place of a full one, see `AdapterRidge`
    frozen : parts that keep their weights
    seed : of every random draw
    """

    name: str
    title: str
    summary: str
    config: dict[str, Any] = Field(default_factory=dict)
    start: Literal["fresh", "multisubject"] = "fresh"
    sessions: PositiveInt = 40
    trials_a_session: PositiveInt = 750
    batch: PositiveInt = 24
    epochs: int = Field(150, ge=2)
    learning_rate: PositiveFloat = 3e-4
    weight_decay: NonNegativeFloat = 1e-2
    losses: Losses = Losses()
    defects: Defects = Defects()
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    micro_batches: PositiveInt = 1
    adapter_rank: PositiveInt | None = None
    frozen: tuple[Literal["backbone", "diffusion_prior"], ...] = ()
    seed: NonNegativeInt = 42

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.batch % self.micro_batches:
            raise ValueError(f"a batch of {self.batch} samples can't be cut into {self.micro_batches} equal parts")
        return self

    def steps_an_epoch(self, subjects: int) -> int:
        """Return the steps of an epoch: 1250 for 40 sessions in batches of 24, 31 for one, 714 for 7 subjects by 6.

        Raises
        ------
        BadInput
            A batch is larger than an epoch.
        """
        steps = self.trials_a_session * self.sessions // (self.batch * subjects)
        if not steps:
            raise BadInput(
                f"a batch of {self.batch * subjects} samples for an epoch of {self.trials_a_session * self.sessions}",
                "at least one batch an epoch",
                "Take smaller batches or more sessions.",
            )
        return steps

    def as_published(self) -> Self:
        """Return the recipe with every defect of the released code and in its precision.

        What differs still: losses are taken in float32; every trial comes once before any comes again, where the
        released code draws files of sessions with replacement; betas are not rounded to half precision; and augmented
        pictures come in a few fixed copies, unless targets are computed at every step.
        """
        return self.model_copy(update={"defects": Defects.published(), "precision": "fp16"})


def list_training_recipes() -> tuple[str, ...]:
    """Return the names of the packaged recipes, sorted."""
    return list_packaged(_PACKAGE)


def find_training_recipe(name: str) -> TrainingRecipe:
    """Return a packaged recipe.

    Parameters
    ----------
    name : one of `list_training_recipes`

    Raises
    ------
    NotFound
        No recipe has this name.
    """
    return TrainingRecipe(name=name, **read_packaged(_PACKAGE, name, "training recipe"))
