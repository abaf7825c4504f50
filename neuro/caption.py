"""Tokens to words: the converter and the caption model."""

from collections.abc import Sequence

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
    with torch.inference_mode(), networks.on_device("converter", "captioner"):
        converted = networks.parts["converter"](networks.place(tokens))
        captions: list[str] = networks.parts["captioner"].caption(converted, max_length=MAX_LENGTH)
    return captions
