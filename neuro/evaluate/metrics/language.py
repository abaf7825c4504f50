"""Scores of captions by networks: similarity of sentences, CLIPScore and the cosine of CLIP's text embeddings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.errors import BadInput
from voxelight.models.feature_weights import read_feature_weights
from voxelight.models.weights import load_into
from voxelight.neuro.evaluate.metrics.captions import Captions
from voxelight.neuro.evaluate.metrics.result import Conditions, MetricResult, average

Floats = NDArray[np.floating[Any]]

_AT_ONCE = 64
_LONGEST = 256
_CLIPSCORE_WEIGHT = 2.5


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A network that gives one vector a sentence.

    Parameters
    ----------
    name : what it is
    weights_sha256 : of its weights
    embed : sentences -> array (sentence, dim)
    """

    name: str
    weights_sha256: str
    embed: Callable[[Sequence[str]], Floats]


@dataclass(frozen=True, eq=False)
class ImageTextEncoder:
    """A network that gives pictures and sentences vectors of one space.

    Parameters
    ----------
    name : what it is; say so where it took part in the decoder's training
    weights_sha256 : of its weights
    preprocessing : what it does to pictures
    embed_pictures : array (picture, row, column, 3) in [0, 1] -> array (picture, dim)
    embed_texts : sentences -> array (sentence, dim)
    """

    name: str
    weights_sha256: str
    preprocessing: str
    embed_pictures: Callable[[Floats], Floats]
    embed_texts: Callable[[Sequence[str]], Floats]


def score_similarity(captions: Captions, encoder: TextEncoder, name: str = "sentence_similarity") -> MetricResult:
    """Score the cosine of the vectors of a caption and its references, the mean over references.

    With one reference a picture, as against GIT captions, it is the published figure.

    Parameters
    ----------
    captions : Captions
    encoder : TextEncoder
    name : ``sentence_similarity`` or ``clip_text_similarity``

    Raises
    ------
    BadInput
        A vector is zero or not finite.
    """
    cosines = _reference_cosines(_normalise(encoder.embed(captions.texts)), captions, encoder.embed)
    conditions = Conditions(
        "cosine, mean over references",
        network=encoder.name,
        weights_sha256=encoder.weights_sha256,
        reference_set=captions.references.name,
    )
    return average(name, np.array([own.mean() for own in cosines]), None, conditions)


def score_clip(captions: Captions, pictures: Floats, encoder: ImageTextEncoder) -> tuple[MetricResult, MetricResult]:
    r"""Score CLIPScore and RefCLIPScore (Hessel et al. 2021) of captions for the pictures that were seen.

    .. math::
        s = 2.5 \max(\cos(c, v), 0), \qquad
        s_\text{ref} = \frac{2}{1/s + 1/\max(\max_r \cos(c, r), 0)}

    Their prefix "A photo depicts" is put before every sentence, as in the published code.

    Parameters
    ----------
    captions : Captions
    pictures : array (picture, row, column, 3) in [0, 1]
    encoder : ImageTextEncoder

    Returns
    -------
    CLIPScore, RefCLIPScore

    Raises
    ------
    BadInput
        The numbers of pictures and captions differ, or a vector is zero or not finite.
    """
    if len(pictures) != len(captions.texts):
        raise BadInput(f"{len(captions.texts)} captions of {len(pictures)} pictures", "one a picture", "Align both.")

    def embed(texts: Sequence[str]) -> Floats:
        return encoder.embed_texts([f"A photo depicts {text}" for text in texts])

    told, shown = _normalise(embed(captions.texts)), _normalise(encoder.embed_pictures(pictures))
    direct = _CLIPSCORE_WEIGHT * np.clip((told * shown).sum(1), 0, None)
    best = np.array([max(float(own.max()), 0.0) for own in _reference_cosines(told, captions, embed)])
    total = direct + best
    harmonic = np.divide(2 * direct * best, total, out=np.zeros(len(total)), where=total > 0)
    conditions = Conditions(
        f"{encoder.preprocessing}; 'A photo depicts' before each sentence",
        network=encoder.name,
        weights_sha256=encoder.weights_sha256,
    )
    with_references = replace(conditions, reference_set=captions.references.name)
    return average("clip_score", direct, None, conditions), average("ref_clip_score", harmonic, None, with_references)


def load_sentence_encoder(weights_folder: Path | None = None) -> TextEncoder:
    """Load all-MiniLM-L6-v2 (Reimers and Gurevych 2019): mean of the tokens' last layer.

    Raises
    ------
    Unavailable
        Its weights are not here; the text says how they come.
    Conflict
        A file is another one than was published.
    """
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    weights = read_feature_weights("all-MiniLM-L6-v2", weights_folder)
    tokenizer = Tokenizer.from_str(read_feature_weights("all-MiniLM-L6-v2-tokenizer", weights_folder).text())
    tokenizer.enable_truncation(_LONGEST)
    tokenizer.enable_padding()
    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    network: nn.Module = BertModel(config, add_pooling_layer=False)
    skipped = ("pooler.", "embeddings.position_ids")
    load_into(network, {key: value for key, value in weights.tensors().items() if not key.startswith(skipped)})

    network.eval()

    def embed(texts: Sequence[str]) -> Tensor:
        encoded = tokenizer.encode_batch(list(texts))
        ids = torch.tensor([row.ids for row in encoded])
        mask = torch.tensor([row.attention_mask for row in encoded])
        hidden: Tensor = network(input_ids=ids, attention_mask=mask).last_hidden_state
        return (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)

    return TextEncoder("all-MiniLM-L6-v2", weights.sha256, embed_in_batches(embed))


def embed_in_batches(embed: Callable[[Sequence[str]], Tensor]) -> Callable[[Sequence[str]], Floats]:
    """Return what embeds any number of sentences, to vectors of length 1."""

    @torch.inference_mode()
    def embed_all(texts: Sequence[str]) -> Floats:
        parts = [embed(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]
        found: Floats = F.normalize(torch.cat(parts).float(), dim=1).numpy()
        return found

    return embed_all


def _reference_cosines(
    told: Floats, captions: Captions, embed: Callable[[Sequence[str]], Floats]
) -> list[NDArray[np.float64]]:
    """Return for every picture the cosines of its caption with each of its references."""
    texts = captions.references.texts
    vectors = _normalise(embed([text for group in texts for text in group]))
    groups = np.split(vectors, np.cumsum([len(group) for group in texts])[:-1])
    return [group @ own for group, own in zip(groups, told, strict=True)]


def _normalise(vectors: Floats) -> NDArray[np.float64]:
    rows = np.asarray(vectors, np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not bool(np.isfinite(norms).all() and (norms > 0).all()):
        raise BadInput("a vector that is zero or not finite", "vectors with a direction", "Leave out what gave it.")
    normalised: NDArray[np.float64] = rows / norms
    return normalised
