"""Tokens to words: the converter and the caption model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from voxelight.neuro.networks import Networks

MAX_LENGTH = 20


def caption_tokens(networks: Networks, tokens: Tensor) -> Sequence[str]:
    """Describe what tokens show.

    Parameters
    ----------
    networks : Networks with the parts `converter` and `captioner`
    tokens : tensor (image, token, dim), what the diffusion prior gives

    Returns
    -------
    one caption an image, special tokens left out; the same whatever the batch
    """
    with networks.on_device("converter", "captioner"), torch.inference_mode():
        captioner: Any = networks.parts["captioner"]
        converted = networks.parts["converter"](networks.place(tokens))
        captions: list[str] = captioner.caption(converted, max_length=MAX_LENGTH)
    return captions
