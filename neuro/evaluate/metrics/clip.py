"""OpenAI's CLIP (Radford et al. 2021) for caption scores: both towers, or that of text alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.clip.image_encoder import CLIP_MEAN, CLIP_STD
from voxelight.models.errors import BadInput
from voxelight.models.feature_weights import read_feature_weights
from voxelight.models.weights import load_into
from voxelight.neuro.evaluate.metrics.language import ImageTextEncoder, TextEncoder, embed_in_batches
from voxelight.neuro.evaluate.metrics.pictures import check_pictures

Floats = NDArray[np.floating[Any]]

_SIDE = 224
_AT_ONCE = 32


@dataclass(frozen=True)
class ClipSizes:
    """Sizes of both towers; heads of 64, inner layers four times as wide."""

    text_width: int
    image_width: int
    image_layers: int
    patch: int
    dim: int
    text_layers: int = 12
    head_width: int = 64


def load_clip_encoder(name: str, weights_folder: Path | None = None) -> ImageTextEncoder:
    """Load both towers, for `score_clip`; CLIPScore is published with ``clip-vit-base-patch32``.

    Parameters
    ----------
    name : ``clip-vit-base-patch32`` or ``clip-vit-large-patch14``
    weights_folder : of all weights

    Raises
    ------
    BadInput
        It is another name.
    Unavailable
        Its weights are not here; the text says how they come.
    Conflict
        The file is another one than was published.
    """
    sizes = _find_sizes(name)
    weights = read_feature_weights(name, weights_folder)
    tensors = weights.tensors()
    image = _fill(_build_image(sizes), tensors, ("vision_model.", "visual_projection."))
    text = _fill(_build_text(sizes), tensors, ("text_model.", "text_projection."))
    preprocessing = f"{_SIDE}x{_SIDE}, bicubic, antialiasing; CLIP's mean and std"
    return ImageTextEncoder(
        f"{name} of OpenAI", weights.sha256, preprocessing, _embed_pictures(image), _embed_texts(text)
    )


def load_clip_text_encoder(name: str, weights_folder: Path | None = None) -> TextEncoder:
    """Load the tower of text, for `score_similarity` under the name ``clip_text_similarity``.

    Parameters, result and errors are those of `load_clip_encoder`.
    """
    sizes = _find_sizes(name)
    weights = read_feature_weights(name, weights_folder)
    text = _fill(_build_text(sizes), weights.tensors(), ("text_model.", "text_projection."))
    return TextEncoder(f"{name} of OpenAI, text", weights.sha256, _embed_texts(text))


def _find_sizes(name: str) -> ClipSizes:
    if name not in SIZES:
        raise BadInput(f"the encoder {name!r}", f"one of {', '.join(SIZES)}", "Correct the name.")
    return SIZES[name]


def _build_image(sizes: ClipSizes) -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=sizes.image_width,
        intermediate_size=4 * sizes.image_width,
        num_hidden_layers=sizes.image_layers,
        num_attention_heads=sizes.image_width // sizes.head_width,
        patch_size=sizes.patch,
        image_size=_SIDE,
        projection_dim=sizes.dim,
    )
    network: nn.Module = CLIPVisionModelWithProjection(config)
    return network


def _build_text(sizes: ClipSizes) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        hidden_size=sizes.text_width,
        intermediate_size=4 * sizes.text_width,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=sizes.text_width // sizes.head_width,
        projection_dim=sizes.dim,
    )
    network: nn.Module = CLIPTextModelWithProjection(config)
    return network


def _fill(network: nn.Module, tensors: dict[str, Tensor], kept: tuple[str, ...]) -> nn.Module:
    found = {key: tensors[key] for key in tensors if key.startswith(kept) and not key.endswith("position_ids")}
    load_into(network, found)
    return network.eval().requires_grad_(False)


def _embed_texts(network: nn.Module) -> Callable[[Sequence[str]], Floats]:
    def embed(texts: Sequence[str]) -> Tensor:
        from open_clip import tokenize

        embedded: Tensor = network(input_ids=tokenize(list(texts))).text_embeds
        return embedded

    return embed_in_batches(embed)


def _embed_pictures(network: nn.Module) -> Callable[[Floats], Floats]:
    @torch.inference_mode()
    def embed(pictures: Floats) -> Floats:
        check_pictures(pictures)
        parts = []
        for start in range(0, len(pictures), _AT_ONCE):
            some = torch.from_numpy(np.asarray(pictures[start : start + _AT_ONCE], np.float32)).permute(0, 3, 1, 2)
            mean, std = (some.new_tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
            pixels = F.interpolate(some, (_SIDE, _SIDE), mode="bicubic", antialias=True).clamp(0, 1)
            parts.append(network(pixel_values=(pixels - mean) / std).image_embeds)
        found: Floats = F.normalize(torch.cat(parts).float(), dim=1).numpy()
        return found

    return embed


SIZES = {
    "clip-vit-base-patch32": ClipSizes(text_width=512, image_width=768, image_layers=12, patch=32, dim=512),
    "clip-vit-large-patch14": ClipSizes(text_width=768, image_width=1024, image_layers=24, patch=14, dim=768),
}
