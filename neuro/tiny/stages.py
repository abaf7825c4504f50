"""The stages of a training of the `tiny` profile, one after the other: each keeps its weights and tells its figures."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from voxelight.models.errors import NotFound
from voxelight.neuro.simulation import TEXTURE, Encoder
from voxelight.neuro.tiny.autoencoder import build_autoencoder, fit_autoencoder, score_autoencoder
from voxelight.neuro.tiny.captions import Speaker, build_speaker, fit_captions, score_captions
from voxelight.neuro.tiny.descent import Sitting, State, to_cpu
from voxelight.neuro.tiny.encoding import build_encoder
from voxelight.neuro.tiny.imagetext import ImageText, build_image_text, classify, encode_pixels, fit_image_text
from voxelight.neuro.tiny.pictures import Pictures
from voxelight.neuro.tiny.recipe import TinyRecipe
from voxelight.neuro.tiny.subjects import Recording, fit_subject, record_subject
from voxelight.neuro.tiny.teacher import TEACHER, Teacher, build_teacher, fit_teacher, score_classes
from voxelight.neuro.tiny.unclip import encode_views, fit_unclip

Figures = dict[str, Any]
_AT_ONCE = 1000


class Kept(Protocol):
    """Where the weights of stages are kept between runs."""

    def find(self, stage: str) -> State | None:
        """Return the weights of a stage that is finished, or None."""

    def keep(self, stage: str, state: State, record: dict[str, Any]) -> None:
        """Keep weights with what they were made from."""

    def sit(self, stage: str, steps: int) -> Sitting:
        """Return what a run of a stage is given: checkpoints, curve and interruption."""


@dataclass(frozen=True, eq=False)
class Bench:
    """What every stage works on.

    Parameters
    ----------
    training, held_out : pictures that are trained on, and those that none of the stages sees
    recipe : sizes, options and seed
    device : to compute on
    kept : where the weights of stages are kept
    published : reads the weights of a network from ImageNet, with their hash; None begins the teacher at random
    """

    training: Pictures
    held_out: Pictures
    recipe: TinyRecipe
    device: str
    kept: Kept
    published: Callable[[str], tuple[State, str]] | None = None

    @cached_property
    def pixels(self) -> Tensor:
        """Training pictures on the device."""
        return torch.from_numpy(self.training.pixels).to(self.device)

    @cached_property
    def labels(self) -> Tensor:
        """Their classes."""
        return torch.from_numpy(self.training.labels).to(self.device)

    @cached_property
    def unseen(self) -> Tensor:
        """Held-out pictures on the device."""
        return torch.from_numpy(self.held_out.pixels).to(self.device)

    @cached_property
    def unseen_labels(self) -> Tensor:
        """Their classes."""
        return torch.from_numpy(self.held_out.labels).to(self.device)

    def read(self, stage: str) -> State:
        """Return the weights of an earlier stage.

        Raises
        ------
        NotFound
            It was not finished.
        """
        found = self.kept.find(stage)
        if found is None:
            raise NotFound(f"no weights of the stage {stage}", "those of the stages before", f"Run {stage} first.")
        return found

    def image_text(self) -> ImageText:
        """Return the fitted image-text model."""
        return build_image_text(self.read("image_text"), self.recipe, self.training.names, self.device)

    def teacher(self) -> Teacher | None:
        """Return the fitted teacher, if there is one."""
        state = self.kept.find("teacher")
        return None if state is None else build_teacher(state, len(self.training.names), self.device)

    def speaker(self) -> Speaker:
        """Return the fitted converter and caption model."""
        states: dict[str, State] = {"converter": {}, "captioner": {}}
        for name, value in self.read("captions").items():
            part, _, key = name.partition(".")
            states[part][key] = value
        return build_speaker(states, self.recipe, self.training.names, self.device)

    @cached_property
    def late(self) -> tuple[Encoder, str]:
        """What late voxels of the subject answer to, and the hash of its weights, empty where it has none."""
        name = self.recipe.subject.encoder
        if name == TEXTURE.name:
            return TEXTURE, ""
        if self.published is None:
            raise NotFound(f"no weights of {name}", "those of the late voxels", "Hand in `published`.")
        state, sha256 = self.published(name)
        return build_encoder(state), sha256

    def record(self, companion: int = 0) -> Recording:
        """Return what the simulated subject saw and how it answered, or one of its companions."""
        return record_subject(self.training, self.held_out, self.recipe, self.late[0], companion)

    def fit(self, stage: str, fit: Callable[[Sitting], State | None], **facts: str) -> bool:
        """Fit a stage unless it is finished; return whether it is."""
        if self.kept.find(stage) is not None:
            return True
        pictures = {"training": self.training.sha256(), "held_out": self.held_out.sha256()}
        sitting = self.kept.sit(stage, count_steps(self.recipe, stage))
        state = fit(replace(sitting, pictures=pictures["training"]))
        if state is None:
            return False
        options = getattr(self.recipe, stage).model_dump()
        record = {"stage": stage, "seed": self.recipe.seed, "pictures": pictures, "options": options, **facts}
        self.kept.keep(stage, to_cpu(state), record)
        return True


def count_steps(recipe: TinyRecipe, stage: str) -> int:
    """Return the gradient steps of a stage."""
    if stage != "subject":
        return int(getattr(recipe, stage).descent.steps)
    decoder = recipe.subject.find_decoder(recipe.seed)
    return decoder.epochs * decoder.steps_an_epoch(recipe.subject.companions + 1)


def train_teacher(bench: Bench) -> Figures | None:
    """Fit the teacher."""
    start, sha256 = bench.published(TEACHER) if bench.published is not None else (None, "")
    classes, recipe = len(bench.training.names), bench.recipe

    def fit(sitting: Sitting) -> State | None:
        return fit_teacher(bench.pixels, bench.labels, classes, recipe, start, sitting)

    if not bench.fit("teacher", fit, start_sha256=sha256):
        return None
    model = build_teacher(bench.read("teacher"), classes, bench.device)
    with torch.inference_mode():
        logits = [model(part.float() / 255)[0] for part in torch.split(bench.unseen, _AT_ONCE)]
    return {"teacher_top1": score_classes(logits, bench.unseen_labels)}


def train_image_text(bench: Bench) -> Figures | None:
    """Fit the image-text model, by the teacher where there is one."""

    def fit(sitting: Sitting) -> State | None:
        names, teacher = bench.training.names, bench.teacher()
        return fit_image_text(bench.pixels, bench.labels, names, bench.recipe, teacher, sitting)

    if not bench.fit("image_text", fit):
        return None
    by_text, by_tokens = classify(bench.image_text(), bench.unseen)
    return {
        "top1_by_text": score_classes([by_text], bench.unseen_labels),
        "top1_linear_on_mean_token": score_classes([by_tokens], bench.unseen_labels),
    }


def train_autoencoder(bench: Bench) -> Figures | None:
    """Fit the autoencoder."""
    if not bench.fit("autoencoder", lambda sitting: fit_autoencoder(bench.pixels, bench.recipe, sitting)):
        return None
    autoencoder = build_autoencoder(bench.read("autoencoder"), bench.recipe, bench.device)
    return {"autoencoder": score_autoencoder(autoencoder, bench.unseen)}


def train_unclip(bench: Bench) -> Figures | None:
    """Fit the UNet that draws from image tokens."""
    stage, recipe = bench.recipe.unclip, bench.recipe

    def fit(sitting: Sitting) -> State | None:
        autoencoder = build_autoencoder(bench.read("autoencoder"), recipe, bench.device)
        encoder = bench.image_text().image
        views = encode_views(bench.pixels, encoder, autoencoder, stage.views, stage.augmentation, recipe.seed)
        return fit_unclip(views, recipe, sitting)

    return {"unclip_views": stage.views} if bench.fit("unclip", fit) else None


def train_captions(bench: Bench) -> Figures | None:
    """Fit the token converter and the caption model."""
    stage, recipe, names = bench.recipe.captions, bench.recipe, bench.training.names

    def fit(sitting: Sitting) -> State | None:
        encoder = bench.image_text().image
        tokens = encode_views(bench.pixels, encoder, None, stage.views, stage.augmentation, recipe.seed).tokens
        states = fit_captions(tokens, bench.labels, names, recipe, sitting)
        if states is None:
            return None
        return {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}

    if not bench.fit("captions", fit):
        return None
    said = bench.speaker().caption(encode_pixels(bench.image_text().image, bench.unseen))
    return {"captions_right": score_captions(said, bench.held_out.labels.tolist(), names)}


def train_subject(bench: Bench) -> Figures | None:
    """Fit the decoder of a simulated subject."""

    def fit(sitting: Sitting) -> State | None:
        tokens = encode_pixels(bench.image_text().image, bench.pixels)
        recordings = [bench.record(companion) for companion in range(bench.recipe.subject.companions + 1)]
        fitted = fit_subject(recordings, bench.training.keys, tokens, bench.recipe, bench.device, sitting)
        return dict(fitted.weights) if fitted.finished else None

    encoder, sha256 = bench.late
    done = bench.fit("subject", fit, encoder=encoder.name, encoder_sha256=sha256)
    return {"subject_steps": count_steps(bench.recipe, "subject")} if done else None


STAGES: dict[str, Callable[[Bench], Figures | None]] = {
    "teacher": train_teacher,
    "image_text": train_image_text,
    "autoencoder": train_autoencoder,
    "unclip": train_unclip,
    "captions": train_captions,
    "subject": train_subject,
}
"""Stage -> what does it and returns its figures on held-out pictures, None where it was paused."""
