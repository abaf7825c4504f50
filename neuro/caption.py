"""Tokens to words: the converter and the caption model."""

from typing import Any

import torch
from torch import Tensor

from voxelight.neuro.memory import TOKEN_BATCH
from voxelight.neuro.networks import Networks
from voxelight.neuro.stages import pad_rows

MAX_LENGTH = 20


def caption_tokens(networks: Networks, tokens: Tensor) -> list[str]:
    """Describe what tokens show.

    Parameters
    ----------
    networks : Networks with the parts `converter` and `captioner`
    tokens : tensor (image, token, dim), what the diffusion prior gives

    Returns
    -------
    one caption an image, special tokens left out; the same whatever the batch
    """
    captions: list[str] = []
    with networks.on_device("converter", "captioner"), torch.inference_mode():
        captioner: Any = networks.parts["captioner"]
        for some in torch.split(tokens, TOKEN_BATCH):
            converted = networks.parts["converter"](pad_rows(networks.place(some), TOKEN_BATCH))
            captions += captioner.caption(converted, max_length=MAX_LENGTH)[: len(some)]
    return captions
