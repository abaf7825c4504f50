"""Captions from image tokens: the text half of GIT (Wang et al. 2022)."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn
from transformers import BertTokenizer, GitConfig, GitForCausalLM

from voxelight.models.captioning.vocabulary import check_vocabulary
from voxelight.models.errors import BadInput
from voxelight.models.positions import keep_positions


class CaptionerConfig(BaseModel):
    """Sizes of the caption model; those of ``git-large-coco`` by default.

    Parameters
    ----------
    width, layers, heads, mlp_width : of the transformer
    vocabulary : entries that a caption is made of
    positions : longest text
    tokens, dim_in : tokens of an image and their width
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: PositiveInt = 768
    layers: PositiveInt = 6
    heads: PositiveInt = 12
    mlp_width: PositiveInt = 3072
    vocabulary: PositiveInt = Field(30522, ge=5)
    positions: PositiveInt = 1024
    tokens: PositiveInt = 257
    dim_in: PositiveInt = 1024

    @model_validator(mode="after")
    def _divides(self) -> "CaptionerConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self

    def build(self) -> "Captioner":
        """Return the caption model with fresh weights and without a vocabulary."""
        return Captioner(self)

    def git_config(self) -> GitConfig:
        """Return transformers' configuration, with a vision encoder of no layers: it is replaced."""
        vision = {"hidden_size": self.dim_in, "num_hidden_layers": 0, "num_attention_heads": 1, "intermediate_size": 1}
        return GitConfig(
            vision_config={**vision, "image_size": 1, "patch_size": 1},
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.mlp_width,
            max_position_embeddings=self.positions,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )


class TokensAsTheyAre(nn.Module):
    """Stands where GIT encodes an image: the tokens (b, 1, token, dim) are there already."""

    def forward(self, pixel_values: Tensor, **_: object) -> SimpleNamespace:
        """Return the tokens (b, token, dim) as transformers reads them."""
        return SimpleNamespace(last_hidden_state=pixel_values[:, 0])


class Captioner(GitForCausalLM):  # type: ignore[no-untyped-call]
    """GIT that reads tokens in place of an image.

    Keys: GIT's own (``git.embeddings``, ``git.encoder``, ``git.visual_projection``, ``output``), without its vision
    encoder ``git.image_encoder``, which is not there.
    """

    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__(config.git_config())
        self.sizes = config
        self.git.register_module("image_encoder", TokensAsTheyAre())
        keep_positions(self.git.embeddings, config.positions)
        self.git.embeddings.register_forward_pre_hook(self._place_words, with_kwargs=True)
        for layer in self.git.encoder.layer:
            cast(Any, layer).attention.self.image_patch_tokens = config.tokens
        self.tokenizer: BertTokenizer | None = None

    def use_vocabulary(self, vocabulary: Sequence[str]) -> None:
        """Take the words that the numbers of a caption stand for.

        Parameters
        ----------
        vocabulary : sequence of str
            WordPiece entries in the order of their numbers, such as the lines of BERT's ``vocab.txt``.

        Raises
        ------
        BadInput
            It has another size than the model's, an entry twice, or lacks a special entry.
        """
        check_vocabulary(vocabulary, self.sizes.vocabulary)
        self.tokenizer = BertTokenizer(vocab={entry: number for number, entry in enumerate(vocabulary)})

    @torch.inference_mode()
    def caption(self, tokens: Tensor, max_length: int = 20) -> list[str]:
        """Return one caption for each image, by greedy search.

        Parameters
        ----------
        tokens : tensor (b, token, dim)
            As GIT's own vision encoder gives them: after its last norm, with the class token.
        max_length : int
            Longest caption in vocabulary entries; its start and its end count.

        Returns
        -------
        list of str, b of them
            Without special entries.

        Raises
        ------
        BadInput
            The tokens have another shape, the length is below 2 or above the model's, or there is no vocabulary.
        """
        tokenizer = self._check(tokens, max_length)
        start, end, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
        numbers = self.generate(
            input_ids=torch.full((len(tokens), 1), start, device=tokens.device),
            pixel_values=tokens[:, None].to(self.output.weight.dtype),
            max_length=max_length,
            do_sample=False,
            num_beams=1,
            bos_token_id=start,
            eos_token_id=end,
            pad_token_id=pad,
        )
        return spell(tokenizer, numbers)

    def _place_words(self, embeddings: nn.Module, _: object, given: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
        """Count positions from the first word; some releases of transformers count the image's tokens too (5.17)."""
        cached = given["cache_length"] if "cache_length" in given else given["past_key_values_length"]
        first = max(cached - self.sizes.tokens, 0)
        places = cast(Tensor, embeddings.position_ids)[:, first : first + given["input_ids"].shape[1]]
        return (), {**given, "position_ids": places}

    def _check(self, tokens: Tensor, max_length: int) -> BertTokenizer:
        """Return the tokenizer, or refuse what `caption` can't work with."""
        sizes = self.sizes
        if tokens.ndim != 3 or tokens.shape[1:] != (sizes.tokens, sizes.dim_in):
            raise BadInput(
                f"tokens of shape {tuple(tokens.shape)}",
                f"(b, {sizes.tokens}, {sizes.dim_in})",
                "Convert the tokens to those of the caption model first.",
            )
        if not 2 <= max_length <= sizes.positions:
            raise BadInput(f"a longest caption of {max_length}", f"2 to {sizes.positions}", "Give another max_length.")
        if self.tokenizer is None:
            raise BadInput("a caption model without a vocabulary", "one", "Call use_vocabulary first.")
        return self.tokenizer


def spell(tokenizer: BertTokenizer, numbers: Tensor) -> list[str]:
    """Return the texts that rows of vocabulary numbers stand for, as transformers 4 wrote them.

    Parameters
    ----------
    tokenizer : knows the vocabulary
    numbers : int64 tensor (b, entry)

    Returns
    -------
    list of str
        Without special entries, and without spaces before a point or around an apostrophe.
    """
    texts: list[str] = tokenizer.batch_decode(numbers, skip_special_tokens=True, clean_up_tokenization_spaces=True)
    return texts
