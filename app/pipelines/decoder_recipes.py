"""What a training of a decoder is asked for by: the packaged recipe, and what differs from it. No torch."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voxelight.models.errors import BadInput, Unavailable
from voxelight.models.published import PUBLISHED
from voxelight.neuro.profiles import Profile, find_profile, list_profiles
from voxelight.neuro.training.recipe import TrainingRecipe, find_training_recipe
from voxelight.neuro.training.recorded import HeldOutWay
from voxelight.storage.decoders import TrainedDecoders

PREFIX = "train-"
PREFERRED = ("tiny", "mindeye2")
_OWN = frozenset({"name", "title", "summary", "config", "start", "sessions", "adapter_rank", "seed"})
_TEACHER = "convnext_xlarge_alpha0.75_fullckpt"
_NO_TEACHER = "Left out of the losses: the soft contrast of low-level maps, whose teacher can't be had here."
_NO_BLURRY = "Left out of the losses: the low-level branch, for which the profile has no autoencoder."


class DecoderOptions(BaseModel):
    """What a training of a decoder can set beside its recipe.

    Parameters
    ----------
    name : of the model that comes out
    profile : whose image tokens are predicted; left out, the one that ships with its weights
    start_from : a decoder of this installation or published weights, to which one new subject is fitted
    subjects : labels of those that are trained on together; left out, all that the data set or the query has
    sessions : of each subject, the first in time: 1 (one hour), 2, 5, 10, 40; left out, the recipe's, as far as there
        are so many
    adapter_rank : rank of a low-rank map of every subject in place of a full one
    held_out : pictures that are kept for the test: ``shared`` by a label of the trials, ``random``, or what there is
    held_out_share : of the pictures, where they are drawn at random
    normalisation : of the betas; left out, by training trials of each session where sessions are known
    config, training : fields of the network and of the training recipe that differ
    mask : id of the volume that marks the region, where the data set holds several
    checkpoint_steps : steps from one checkpoint to the next; two minutes without
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(None, max_length=120)
    profile: str | None = None
    start_from: str | None = Field(None, max_length=120)
    subjects: list[str] | None = Field(None, min_length=1)
    sessions: int | None = Field(None, ge=1)
    adapter_rank: int | None = Field(None, ge=1)
    held_out: HeldOutWay = "auto"
    held_out_share: float = Field(0.1, gt=0, lt=1)
    normalisation: Literal["training-rows", "training-rows-per-session", "as-stored"] | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    mask: uuid.UUID | None = None
    checkpoint_steps: int | None = Field(None, ge=1)

    def find_profile(self) -> Profile:
        """Return the profile whose tokens are predicted.

        Raises
        ------
        NotFound
            There is none of this name.
        BadInput
            Its decoder is another network than what is trained.
        """
        known = list_profiles()
        profile = find_profile(self.profile or next(name for name in PREFERRED if name in known))
        if not profile.trainable:
            raise BadInput(
                f"the profile {profile.name}, whose decoder is of the kind {profile.parts['decoder'].network}",
                "one whose decoder is a MindEye2",
                "Choose another profile; decoders of this kind are read, not trained.",
            )
        return profile

    def find_normalisation(self, by_session: bool) -> str:
        """Return what betas are standardised by, given whether their sessions are known."""
        return self.normalisation or ("training-rows-per-session" if by_session else "training-rows")


@dataclass(frozen=True)
class Amount:
    """What there is to train on: subjects, and of the first of them sessions and trials in all."""

    subjects: int
    sessions: int
    trials: int


def make_recipe(
    name: str, options: DecoderOptions, profile: Profile, amount: Amount, seed: int
) -> tuple[TrainingRecipe, tuple[str, ...]]:
    """Return the recipe of a training, fitted to a profile and to what there is, and in words what was left out.

    Parameters
    ----------
    name : of a packaged recipe
    options, profile : what was asked for
    amount : what there is
    seed : 0: the recipe's

    Raises
    ------
    NotFound
        There is no such recipe.
    BadInput
        An option has no use, or recipe and start do not fit.
    Unavailable
        The soft contrast is asked for by name, and its teacher is not here.
    """
    base = find_training_recipe(name)
    if forbidden := sorted(_OWN & set(options.training)):
        raise BadInput(f"training options {', '.join(forbidden)}", "those that are no options by themselves",
                       "Give them by their own names.")  # fmt: skip
    _refuse_start(base, options, amount)
    sizes = {key: value for key, value in profile.parts["decoder"].config.items() if key != "voxels"}
    config = sizes | dict(base.config) | options.config
    asked = dict(options.training.get("losses", {}))
    losses, notes = base.losses.model_dump() | asked, []
    if asked.get("contrast"):
        raise Unavailable(
            f"no weights of {_TEACHER}, the teacher of the soft contrast of low-level maps",
            "a teacher that gives 49 x 512 maps of every picture; it has no converted form here",
            "Leave `losses.contrast` out: the branch is then trained by its absolute error alone, and the job says so.",
        )
    if config.get("low_level", True) and "blurry" not in profile.parts:
        config["low_level"], losses["low_level"] = False, 0.0
        notes.append(_NO_BLURRY)
    if not config.get("low_level", True):
        losses["low_level"] = 0.0
    if losses["low_level"] and losses["contrast"]:
        losses["contrast"] = 0.0
        notes.append(_NO_TEACHER)
    told = {
        **base.model_dump(),
        "trials_a_session": max(1, amount.trials // amount.sessions),
        **options.training,
        "config": config,
        "losses": losses,
        "sessions": options.sessions or min(base.sessions, amount.sessions),
        "adapter_rank": options.adapter_rank,
        "seed": seed or base.seed,
    }
    try:
        return TrainingRecipe.model_validate(told), tuple(notes)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadInput(f"training option {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}",
                       "fields of a training recipe", "Correct or leave out the option.") from None  # fmt: skip


def refuse_start(weights: Path, options: DecoderOptions, profile: Profile) -> None:
    """Refuse to start from what is not here or predicts other tokens, before anything is read.

    Raises
    ------
    NotFound
        Nothing has the name.
    BadInput
        It was trained for another profile.
    """
    if options.start_from is None or options.start_from in PUBLISHED:
        return
    start = TrainedDecoders(weights).find(options.start_from)
    if start.profile != profile.name:
        raise BadInput(
            f"the decoder {start.name}, which predicts tokens of {start.profile}",
            f"one that predicts those of {profile.name}",
            "Start from another decoder, or train for its profile.",
        )


def count_steps(recipe: TrainingRecipe, subjects: int) -> int:
    """Return the gradient steps of a training."""
    return recipe.epochs * recipe.steps_an_epoch(subjects)


def _refuse_start(base: TrainingRecipe, options: DecoderOptions, amount: Amount) -> None:
    if (base.start == "multisubject") == (options.start_from is None):
        found = "no decoder to start from" if options.start_from is None else f"the start {options.start_from}"
        raise BadInput(
            f"{found} for the recipe {base.name}, which starts {base.start}",
            "`start_from` for a recipe that starts from a decoder, and none for another",
            "Name a decoder of many subjects, or choose another recipe.",
        )
    if base.start == "multisubject" and amount.subjects != 1:
        raise BadInput(f"{amount.subjects} subjects for the recipe {base.name}", "one new subject",
                       "Name one in `subjects`.")  # fmt: skip
