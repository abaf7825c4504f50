"""Captions to the tokens that brain-diffuser predicts: CLIP ViT-L/14's text, every token projected (Xu et al. 2023)."""

from collections.abc import Sequence

import torch
from open_clip import tokenize
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from voxelight.models.clip.text import END, VOCABULARY
from voxelight.models.positions import keep_positions


class WordsConfig(BaseModel):
    """Sizes of the text encoder; those of Versatile Diffusion by default. The vocabulary is CLIP's at any size.

    Parameters
    ----------
    width, layers, heads, mlp_width : of the transformer
    dim : of a token after its projection
    length : tokens of a text, with its start, its end and the padding
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: PositiveInt = 768
    layers: PositiveInt = 12
    heads: PositiveInt = 12
    mlp_width: PositiveInt = 3072
    dim: PositiveInt = 768
    length: PositiveInt = Field(77, ge=3)

    @model_validator(mode="after")
    def _divides(self) -> "WordsConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self

    def build(self) -> "Words":
        """Return the encoder with fresh weights."""
        return Words(self)


class Words(nn.Module):
    """Texts to tokens: normed, projected, and divided by the length of the pooled one, which is at the text's end.

    The keys are those of transformers, ``text_model.*`` and ``text_projection``.
    """

    def __init__(self, config: WordsConfig) -> None:
        super().__init__()
        self.config = config
        whole = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=VOCABULARY,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.mlp_width,
                max_position_embeddings=config.length,
                projection_dim=config.dim,
                eos_token_id=END,
            )
        )
        self.text_model, self.text_projection = whole.text_model, whole.text_projection
        keep_positions(self.text_model.embeddings, config.length)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return the tokens (b, token, dim) of texts; what is too long is cut."""
        weight = self.text_projection.weight
        numbers = tokenize(list(texts), context_length=self.config.length).to(weight.device)
        # transformers pads with the end, open_clip with zeros; what stands after the end reaches no token before it.
        ends = numbers.argmax(dim=1)
        behind = torch.arange(self.config.length, device=weight.device) > ends[:, None]
        hidden = self.text_model(input_ids=numbers.masked_fill(behind, END)).last_hidden_state
        tokens: Tensor = self.text_projection(hidden)
        pooled = tokens[torch.arange(len(tokens), device=weight.device), ends]
        length: Tensor = pooled.norm(dim=-1)
        return tokens / length[:, None, None]
