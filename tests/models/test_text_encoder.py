"""SDXL's text encoders and their tokens against transformers and open_clip."""

import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from pydantic import ValidationError
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from voxelight.models.clip.text import NEGATIVE_PROMPT, SdxlText, TextEncoderConfig, tokenize
from voxelight.models.errors import BadInput

SMALL = TextEncoderConfig(
    clip_l_width=16, clip_l_layers=12, clip_l_heads=2, bigg_width=24, bigg_layers=4, bigg_heads=3, pooled_dim=20
)
TEXTS = [
    "a man riding a wave on top of a surfboard.",
    "",
    NEGATIVE_PROMPT,
    "Two dogs, 12 cats & a café!!  the giraffe's neck isn't short... #3",
    "many words " * 60,
]


def fill(module: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter random values, norms and biases too, so that none of them goes unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


@pytest.fixture(scope="module")
def text() -> SdxlText:
    encoder = SMALL.build().eval()
    fill(encoder)
    return encoder


@pytest.fixture(scope="module")
def their_clip_l(text: SdxlText) -> CLIPTextModel:
    model = CLIPTextModel(
        CLIPTextConfig(hidden_size=16, intermediate_size=64, num_hidden_layers=12, num_attention_heads=2)
    ).eval()
    model.load_state_dict(text.clip_l.state_dict())
    return model


@pytest.fixture(scope="module")
def their_bigg(text: SdxlText) -> open_clip.CLIP:
    vision = {"image_size": 8, "patch_size": 8, "width": 8, "layers": 1, "head_width": 8}
    model = open_clip.CLIP(20, vision, {"width": 24, "heads": 3, "layers": 4}).eval()
    missing = model.load_state_dict(text.bigg.state_dict(), strict=False)
    assert all(key.startswith(("visual.", "logit_scale")) for key in missing.missing_keys)
    assert not missing.unexpected_keys
    return model


@pytest.fixture(scope="module")
def their_tokenizer() -> CLIPTokenizer:
    bpe = SimpleTokenizer()
    vocabulary = dict(bpe.encoder)
    vocabulary["<|startoftext|>"] = vocabulary.pop("<start_of_text>")
    vocabulary["<|endoftext|>"] = vocabulary.pop("<end_of_text>")
    return CLIPTokenizer(vocab=vocabulary, merges=list(bpe.bpe_ranks))


@pytest.mark.parametrize("length", [77, 12])
def test_tokens_and_padding_are_those_of_transformers(their_tokenizer, length):
    options = {"padding": "max_length", "truncation": True, "max_length": length, "return_tensors": "pt"}
    clip_l, bigg = tokenize(TEXTS, length)
    assert torch.equal(clip_l, their_tokenizer(TEXTS, **options).input_ids)
    their_tokenizer.pad_token = "!"  # as the second tokenizer of SDXL has it
    try:
        assert torch.equal(bigg, their_tokenizer(TEXTS, **options).input_ids)
    finally:
        their_tokenizer.pad_token = "<|endoftext|>"
    assert clip_l[1].tolist() == [49406] + [49407] * (length - 1)
    assert bigg[1].tolist() == [49406, 49407] + [0] * (length - 2)


@torch.no_grad()
def test_context_is_hidden_layer_11_of_clip_l_beside_the_penultimate_of_bigg(text, their_clip_l, their_bigg):
    clip_l, bigg = tokenize(TEXTS)
    hidden = their_clip_l(input_ids=clip_l, output_hidden_states=True).hidden_states
    layers = their_bigg.forward_intermediates(text=bigg)["text_intermediates"]
    context, _ = text(TEXTS)
    assert context.shape == (len(TEXTS), 77, SMALL.context_dim)
    assert len(hidden) == 13
    torch.testing.assert_close(context[..., :16], hidden[11])
    torch.testing.assert_close(context[..., 16:], layers[-2])
    for other in (hidden[12], hidden[10], their_clip_l.final_layer_norm(hidden[11])):
        assert (context[..., :16] - other).abs().max() > 0.05
    for other in (layers[-1], layers[-3], their_bigg.ln_final(layers[-2])):
        assert (context[..., 16:] - other).abs().max() > 0.05


@torch.no_grad()
def test_pooled_embedding_is_open_clips_own(text, their_bigg):
    torch.testing.assert_close(text(TEXTS)[1], their_bigg.encode_text(tokenize(TEXTS)[1]))


@torch.no_grad()
def test_a_text_is_encoded_alike_alone_and_among_others(text):
    together = text(TEXTS)
    alone = [text([one]) for one in TEXTS]
    for at in (0, 1):
        torch.testing.assert_close(together[at], torch.cat([one[at] for one in alone]))


def test_released_encoders_are_those_that_transformers_and_open_clip_build():
    with torch.device("meta"):
        ours = TextEncoderConfig().build().state_dict()
        clip_l = CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        ).state_dict()
        bigg = open_clip.CLIP(**open_clip.get_model_config("ViT-bigG-14")).state_dict()
    expected = {f"clip_l.{key}": tensor.shape for key, tensor in clip_l.items()}
    expected |= {
        f"bigg.{key}": tensor.shape for key, tensor in bigg.items() if not key.startswith(("visual.", "logit_scale"))
    }
    assert {key: tensor.shape for key, tensor in ours.items()} == expected
    assert sum(tensor.numel() for tensor in ours.values()) == 123_060_480 + 694_659_840
    assert TextEncoderConfig().context_dim == 2048


def test_encoders_built_without_memory_take_their_weights_and_give_the_same_context(text):
    with torch.device("meta"):
        empty = SMALL.build().eval()
    empty.load_state_dict(text.state_dict(), assign=True)
    assert not [name for name, buffer in empty.named_buffers() if buffer.is_meta]
    with torch.no_grad():
        for got, expected in zip(empty(TEXTS), text(TEXTS), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=0)


@torch.no_grad()
def test_half_precision_stays_close(text):
    half = SMALL.build().eval()
    half.load_state_dict(text.state_dict())
    for got, expected in zip(half.to(torch.bfloat16)(TEXTS), text(TEXTS), strict=True):
        assert got.dtype == torch.bfloat16
        assert (got.float() - expected).norm() / expected.norm() < 0.05


@pytest.mark.parametrize("wrong", ["a dog", []], ids=["a string", "nothing"])
def test_a_lone_string_and_no_text_are_refused(text, wrong):
    with pytest.raises(BadInput, match="list"):
        text(wrong)


@pytest.mark.parametrize("wrong", [{"bigg_heads": 7}, {"clip_l_layers": 1}, {"vocabulary": 10}], ids=str)
def test_text_sizes_that_do_not_divide_and_unknown_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        TextEncoderConfig(**wrong)
