"""What stages gave, as the files that ship: half precision, without what only training needs."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from voxelight.neuro.tiny.descent import State
from voxelight.neuro.tiny.pictures import Pictures
from voxelight.neuro.tiny.recipe import TinyRecipe
from voxelight.neuro.tiny.sample import choose_sample, crop_sample, show_new
from voxelight.neuro.tiny.subjects import Recording
from voxelight.neuro.tiny.words import build_vocabulary

# File -> the stage that it comes from.
FILES = {
    "tiny-image-text": "image_text",
    "tiny-autoencoder": "autoencoder",
    "tiny-unclip": "unclip",
    "tiny-captions": "captions",
    "tiny-decoder": "subject",
}
SAMPLE = "tiny-sample"
_OF_TRAINING = {"image_text": ("guide.", "pixels.")}


def halve(state: Mapping[str, Tensor], stage: str) -> State:
    """Return the weights of a stage in half precision, without heads that serve training alone.

    Parameters
    ----------
    state : name -> tensor
    stage : that it comes from
    """
    left_out = _OF_TRAINING.get(stage, ())
    return {
        name: (value.half() if value.is_floating_point() else value).detach().cpu().clone().contiguous()
        for name, value in state.items()
        if not name.startswith(left_out)
    }


def list_words(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the classes, and the vocabulary that their captions are spelled with, each in the order of its numbers."""
    return {"classes": list(names), "vocabulary": list(build_vocabulary(names))}


def take_sample(recording: Recording, training: Pictures, recipe: TinyRecipe) -> tuple[State, dict[str, list[str]]]:
    """Return betas of a few pictures, and which pictures these are.

    Parameters
    ----------
    recording : of `record_subject`
    training : pictures among which the photographs are shown
    recipe : its stage `subject` and seed

    Returns
    -------
    ``held_out`` and ``photographs`` : float16 tensor (picture, repeat, voxel) each
    the same names : ids of the pictures
    """
    rows, crops = choose_sample(recording), crop_sample()
    betas = {
        "held_out": recording.betas.values[recording.test[rows]],
        "photographs": show_new(recording, training, crops, recipe),
    }
    ids = {"held_out": [recording.shown[row] for row in rows], "photographs": crops.ids.tolist()}
    return {name: torch.from_numpy(values).half() for name, values in betas.items()}, ids
