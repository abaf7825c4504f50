"""Fit the token converter and the caption model to say the class of a picture, "a photo of a <class>"."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from voxelight.models.captioning.converter import TokenConverter
from voxelight.models.captioning.git import Captioner
from voxelight.neuro.tiny.descent import Sitting, State, Walk, descend, place
from voxelight.neuro.tiny.recipe import TinyRecipe
from voxelight.neuro.tiny.words import build_vocabulary, caption_class, spell_numbers


class Speaker(nn.Module):
    """Converter and caption model as one network to fit.

    Parameters
    ----------
    recipe : sizes
    names : of the classes
    """

    def __init__(self, recipe: TinyRecipe, names: Sequence[str]) -> None:
        super().__init__()
        self.converter: TokenConverter = recipe.build_config("converter").build()
        self.captioner: Captioner = recipe.build_config("captioner").build()
        self.captioner.use_vocabulary(build_vocabulary(names))

    def forward(self, tokens: Tensor, words: Tensor) -> Tensor:
        """Return the scores of the word after each, float32 tensor (b, word, entry).

        Parameters
        ----------
        tokens : tensor (b, token, dim)
        words : int64 tensor (b, word)
        """
        images: Any = self.converter(tokens)[:, None]
        logits: Tensor = self.captioner(input_ids=words, pixel_values=images, use_cache=False).logits
        return logits[:, -words.shape[1] :].float()

    @torch.inference_mode()
    def caption(self, tokens: Tensor, batch: int = 1000) -> list[str]:
        """Return a caption for the tokens (b, token, dim) of each picture."""
        dtype = self.converter.linear1.weight.dtype
        parts = torch.split(tokens.to(dtype), batch)
        return [text for part in parts for text in self.captioner.caption(self.converter(part))]


def fit_captions(
    tokens: Tensor, labels: Tensor, names: Sequence[str], recipe: TinyRecipe, sitting: Sitting
) -> dict[str, State] | None:
    """Fit converter and caption model.

    Parameters
    ----------
    tokens : tensor (view, picture, token, dim), of `encode_views`, on the device to compute on
    labels : int64 tensor (picture,)
    names : of the classes
    recipe : sizes, options and seed
    sitting : checkpoints, curve and interruption

    Returns
    -------
    states of the parts `converter` and `captioner`; None where it was paused
    """
    stage, device = recipe.captions, tokens.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        speaker = Speaker(recipe, names)
    place(speaker, device).train()
    rows_of_words = spell_numbers([caption_class(name) for name in names], build_vocabulary(names))
    words = torch.tensor(rows_of_words, device=device)

    def loss(rows: Tensor, generator: Generator) -> tuple[Tensor, dict[str, Tensor]]:
        view = torch.randint(len(tokens), rows.shape, generator=generator, device=device)
        said = words[labels[rows]]
        logits = speaker(tokens[view, rows], said[:, :-1])
        value = F.cross_entropy(
            logits.flatten(0, 1), said[:, 1:].flatten(), ignore_index=0, label_smoothing=stage.smoothing
        )
        return value, {}

    made_by = recipe.made_by("captions", sitting.pictures)
    state = descend(Walk(speaker, tokens.shape[1], loss, stage.descent, recipe.seed, made_by), sitting)
    if state is None:
        return None
    return {
        part: {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
        for part in ("converter", "captioner")
    }


def build_speaker(
    states: dict[str, State], recipe: TinyRecipe, names: Sequence[str], device: torch.device | str
) -> Speaker:
    """Return fitted converter and caption model, ready to be asked."""
    speaker = Speaker(recipe, names)
    for part, state in states.items():
        speaker.get_submodule(part).load_state_dict(state)
    place(speaker, device)
    return speaker.eval().requires_grad_(False)


def score_captions(captions: Sequence[str], labels: Sequence[int], names: Sequence[str]) -> float:
    """Return the share of captions that name the class of their picture, word for word."""
    right = [caption == caption_class(names[label]) for caption, label in zip(captions, labels, strict=True)]
    return sum(right) / len(right)
