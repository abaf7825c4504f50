"""Texts to what SDXL is conditioned on: its two CLIP text encoders (Podell et al. 2023, section 2.1)."""

from collections.abc import Sequence
from typing import cast

import torch
from open_clip import tokenize as tokenize_bpe
from open_clip.transformer import TextTransformer
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from voxelight.models.errors import BadInput
from voxelight.models.positions import keep_positions

VOCABULARY = 49408
END = VOCABULARY - 1

# What the refinement of MindEye2 is told to avoid: Scotti et al. 2024.
NEGATIVE_PROMPT = (
    "painting, extra fingers, mutated hands, poorly drawn hands, poorly drawn face, deformed, ugly, blurry, "
    "bad anatomy, bad proportions, extra limbs, cloned face, skinny, glitchy, double torso, extra arms, extra "
    "hands, mangled fingers, missing lips, ugly face, distorted face, extra legs, anime"
)


class TextEncoderConfig(BaseModel):
    """Sizes of the two encoders; those of SDXL by default. The vocabulary is CLIP's at any size.

    Parameters
    ----------
    clip_l_width, clip_l_layers, clip_l_heads : of the encoder of CLIP ViT-L/14
    bigg_width, bigg_layers, bigg_heads : of the encoder of OpenCLIP ViT-bigG-14
    pooled_dim : length of the pooled embedding, which bigG gives
    length : tokens of a text, with its start, its end and the padding
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_l_width: PositiveInt = 768
    clip_l_layers: PositiveInt = Field(12, ge=2)
    clip_l_heads: PositiveInt = 12
    bigg_width: PositiveInt = 1280
    bigg_layers: PositiveInt = Field(32, ge=2)
    bigg_heads: PositiveInt = 20
    pooled_dim: PositiveInt = 1280
    length: PositiveInt = Field(77, ge=3)

    @model_validator(mode="after")
    def _divides(self) -> "TextEncoderConfig":
        for name in ("clip_l", "bigg"):
            width, heads = getattr(self, f"{name}_width"), getattr(self, f"{name}_heads")
            if width % heads:
                raise ValueError(f"{name}_width {width} is no multiple of {name}_heads {heads}")
        return self

    @property
    def context_dim(self) -> int:
        """Width of the context, that of both encoders together."""
        return self.clip_l_width + self.bigg_width

    def build(self) -> "SdxlText":
        """Return both encoders with fresh weights."""
        return SdxlText(self)


class SdxlText(nn.Module):
    """Texts to a context for cross-attention and one pooled embedding each.

    Keys: ``clip_l.*`` as in transformers' `CLIPTextModel`, ``bigg.*`` as in the text tower of open_clip
    (``token_embedding``, ``positional_embedding``, ``transformer.resblocks``, ``ln_final``, ``text_projection``).
    """

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.clip_l = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=VOCABULARY,
                hidden_size=c.clip_l_width,
                intermediate_size=4 * c.clip_l_width,
                num_hidden_layers=c.clip_l_layers,
                num_attention_heads=c.clip_l_heads,
                max_position_embeddings=c.length,
            )
        )
        keep_positions(self.clip_l.embeddings, c.length)
        self.bigg = TextTransformer(
            context_length=c.length,
            vocab_size=VOCABULARY,
            width=c.bigg_width,
            heads=c.bigg_heads,
            layers=c.bigg_layers,
            output_dim=c.pooled_dim,
            no_causal_mask=True,  # it is a buffer that is not stored either; encode_bigg makes it
        )

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the penultimate layers of both encoders side by side, and bigG's pooled embedding.

        Parameters
        ----------
        texts : sequence of str
            What does not fit into the configured length is cut off.

        Returns
        -------
        context : tensor (b, length, clip_l_width + bigg_width)
        pooled : tensor (b, pooled_dim)

        Raises
        ------
        BadInput
            There is no text.
        """
        ids_clip_l, ids_bigg = tokenize(texts, self.config.length)
        device = self.bigg.positional_embedding.device
        hidden = encode_clip_l(self.clip_l, ids_clip_l.to(device))
        penultimate, pooled = encode_bigg(self.bigg, ids_bigg.to(device))
        return torch.cat([hidden, penultimate], dim=-1), pooled


def tokenize(texts: Sequence[str], length: int = 77) -> tuple[Tensor, Tensor]:
    """Return the token numbers of texts for each encoder: CLIP-L's padded with the end token, bigG's with 0.

    Parameters
    ----------
    texts : sequence of str
    length : tokens of a text, with start, end and padding

    Returns
    -------
    ids_clip_l, ids_bigg : int64 tensor (b, length)

    Raises
    ------
    BadInput
        There is no text, or one string was given in place of a sequence.
    """
    if isinstance(texts, str) or not texts:
        raise BadInput(f"{texts!r}", "a list of at least one text", "Put the text into a list.")
    ids = cast(Tensor, tokenize_bpe(list(texts), context_length=length))
    # The end token has the largest number; argmax finds the first.
    after_end = torch.arange(length) > ids.argmax(dim=1, keepdim=True)
    return ids.masked_fill(after_end, END), ids


def encode_clip_l(encoder: CLIPTextModel, ids: Tensor) -> Tensor:
    """Return the output of the last layer but one, without the final norm.

    Parameters
    ----------
    encoder : transformers' text model
    ids : int64 tensor (b, token)

    Returns
    -------
    tensor (b, token, width)
    """
    # The first of them is the embeddings.
    hidden = encoder(input_ids=ids, output_hidden_states=True).hidden_states
    return cast(Tensor, hidden[encoder.config.num_hidden_layers - 1])


def encode_bigg(tower: TextTransformer, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output of the last block but one without the final norm, and the pooled embedding of the last.

    Parameters
    ----------
    tower : open_clip's text tower
    ids : int64 tensor (b, token)

    Returns
    -------
    penultimate : tensor (b, token, width)
    pooled : tensor (b, pooled_dim)
        The end token after the final norm, projected, not normalised.
    """
    x = tower.token_embedding(ids) + tower.positional_embedding
    mask = torch.full((ids.shape[1], ids.shape[1]), -torch.inf, dtype=x.dtype, device=x.device).triu(1)
    *blocks, last = tower.transformer.resblocks
    for block in blocks:
        x = block(x, attn_mask=mask)
    final = tower.ln_final(last(x, attn_mask=mask))
    ends = final[torch.arange(len(ids), device=ids.device), ids.argmax(dim=1)]
    return x, ends @ tower.text_projection
