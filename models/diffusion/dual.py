"""Versatile Diffusion guided by words and an image at once (Xu et al. 2023).

diffusers' own pipeline for it is deprecated, and its attention no longer takes what its UNet hands on; the networks are
as they were.
"""

from typing import Any

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from voxelight.models.errors import BadInput

WORDS = 77


class DualAttention(nn.Module):
    """What an image and what words add to a feature map, weighted.

    Parameters
    ----------
    image, text : attention of the image UNet and of the text UNet at one place
    text_share : weight of the words, 0 to 1; the image has the rest
    """

    def __init__(self, image: nn.Module, text: nn.Module, text_share: float) -> None:
        super().__init__()
        self.image, self.text, self._share = image, text, text_share

    def forward(self, x: Tensor, encoder_hidden_states: Tensor, return_dict: bool = False, **_: Any) -> tuple[Tensor]:
        """Return x (b, c, h, w) after both; the context (b, 77 + 257, dim) has the words first."""
        words, seen = encoder_hidden_states[:, :WORDS], encoder_hidden_states[:, WORDS:]
        added = [
            weight * (attend(x, encoder_hidden_states=told, return_dict=return_dict)[0] - x)
            for weight, attend, told in ((self._share, self.text, words), (1 - self._share, self.image, seen))
            if weight  # a branch that counts for nothing costs half of the attention
        ]
        return (torch.stack(added).sum(0) + x,)


def join_unets(image_unet: nn.Module, text_unet: nn.Module, text_share: float) -> nn.Module:
    """Give an image UNet the attention of a text UNet beside its own, in place, and return it.

    Parameters
    ----------
    image_unet : diffusers' ``UNet2DConditionModel``
    text_unet : diffusers' ``UNetFlatConditionModel``, of the same structure
    text_share : weight of the words, 0 to 1

    Raises
    ------
    BadInput
        The share is no share, or the text UNet has no attention where the image UNet has.
    """
    if not 0 <= text_share <= 1:
        raise BadInput(f"a share of {text_share} for the words", "0 to 1", "Give another mixing ratio.")
    places = [name for name, module in image_unet.named_modules() if isinstance(module, Transformer2DModel)]
    theirs = dict(text_unet.named_modules())
    missing = [name for name in places if not isinstance(theirs.get(name), Transformer2DModel)]
    if missing or not places:
        raise BadInput(
            f"a text UNet without attention at {', '.join(missing[:3]) or 'any place'}",
            "the two UNets of one Versatile Diffusion",
            "Take both from the same checkpoint.",
        )
    for name in places:
        parent, _, last = name.rpartition(".")
        owner: Any = image_unet.get_submodule(parent)
        owner[int(last)] = DualAttention(owner[int(last)], theirs[name], text_share)
    return image_unet
