"""The token converter, and the caption model against transformers' own GIT with a vision encoder."""

import pytest
import torch
from pydantic import ValidationError
from transformers import BertTokenizer, GitConfig, GitForCausalLM

from voxelight.models.captioning.converter import ConverterConfig
from voxelight.models.captioning.git import Captioner, CaptionerConfig, spell
from voxelight.models.captioning.vocabulary import small_vocabulary
from voxelight.models.errors import BadInput

VOCABULARY = small_vocabulary()
START, END, PAD = (VOCABULARY.index(entry) for entry in ("[CLS]", "[SEP]", "[PAD]"))
SMALL = CaptionerConfig(
    width=32, layers=2, heads=4, mlp_width=64, vocabulary=len(VOCABULARY), positions=40, tokens=10, dim_in=24
)


@pytest.fixture(scope="module")
def stock() -> GitForCausalLM:
    """GIT as transformers builds it, with a vision encoder of 10 tokens; all of it random, the end made likely."""
    vision = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 48,
        "image_size": 12,
        "patch_size": 4,
    }
    config = GitConfig(
        vision_config=vision,
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    model = GitForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            scale = 0.3 if parameter.ndim > 1 else 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
        for name, module in model.named_modules():
            if "norm" in name.lower() or name.endswith("visual_projection.1"):
                module.weight += 1
        model.output.bias[END] += 2.5
    return model


@pytest.fixture(scope="module")
def captioner(stock: GitForCausalLM) -> Captioner:
    model = SMALL.build()
    tensors = {key: value for key, value in stock.state_dict().items() if not key.startswith("git.image_encoder.")}
    model.load_state_dict(tensors)
    model.use_vocabulary(VOCABULARY)
    return model


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def tokens(stock: GitForCausalLM, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return stock.git.image_encoder(images).last_hidden_state


def caption_by_stock(stock: GitForCausalLM, images: torch.Tensor, max_length: int) -> list[str]:
    # Without its cache: some releases place cached words wrongly.
    numbers = stock.generate(pixel_values=images, max_length=max_length, use_cache=False)
    tokenizer = BertTokenizer(vocab={entry: number for number, entry in enumerate(VOCABULARY)})
    return tokenizer.batch_decode(numbers, skip_special_tokens=True, clean_up_tokenization_spaces=True)


@pytest.mark.parametrize("max_length", [20, 5])
def test_captions_are_those_of_stock_git_whose_vision_encoder_gave_the_tokens(
    stock, captioner, images, tokens, max_length
):
    captions = captioner.caption(tokens, max_length)
    assert captions == caption_by_stock(stock, images, max_length)
    assert len(set(captions)) > 1


@torch.no_grad()
def test_logits_and_loss_of_a_given_text_are_those_of_stock_git(stock, captioner, images, tokens):
    words = torch.randint(5, len(VOCABULARY), (len(images), 7), generator=torch.Generator().manual_seed(2))
    ours = captioner(input_ids=words, pixel_values=tokens[:, None], labels=words)
    theirs = stock(input_ids=words, pixel_values=images, labels=words)
    torch.testing.assert_close(ours.logits, theirs.logits)
    torch.testing.assert_close(ours.loss, theirs.loss)


def test_captions_of_a_batch_are_those_of_each_image_whenever_each_ends(captioner, tokens):
    together = captioner.caption(tokens)
    assert together == [captioner.caption(one[None])[0] for one in tokens]
    assert len({len(caption.split()) for caption in together}) > 2
    assert not any("[" in caption for caption in together)


def test_a_caption_depends_on_the_tokens_alone_and_not_on_the_training_mode(captioner, tokens):
    expected = captioner.eval().caption(tokens)
    assert captioner.train().caption(tokens) == expected


def test_half_precision_captions_every_image(captioner, tokens):
    half = SMALL.build()
    half.load_state_dict(captioner.state_dict())
    half.use_vocabulary(VOCABULARY)
    captions = half.to(torch.bfloat16).caption(tokens)
    assert len(captions) == len(tokens)
    words = [(a.split()[:1], b.split()[:1]) for a, b in zip(captions, captioner.caption(tokens), strict=True)]
    assert sum(ours == theirs for ours, theirs in words) >= len(words) - 1


def test_the_released_captioner_has_gits_own_keys_and_no_vision_encoder():
    vision = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    with torch.device("meta"):
        ours = CaptionerConfig().build().state_dict()
        full = GitForCausalLM(GitConfig(vision_config={**vision, "patch_size": 14})).state_dict()
    kept = {key: tensor.shape for key, tensor in full.items() if not key.startswith("git.image_encoder.")}
    assert {key: tensor.shape for key, tensor in ours.items()} == kept
    assert sum(tensor.numel() for tensor in ours.values()) == 91_016_250
    assert sum(tensor.numel() for tensor in full.values()) == 394_196_026


def test_a_captioner_built_without_memory_takes_its_weights_and_says_the_same(captioner, tokens):
    with torch.device("meta"):
        empty = SMALL.build()
    empty.load_state_dict(captioner.state_dict(), assign=True)
    empty.use_vocabulary(VOCABULARY)
    assert not [name for name, buffer in empty.named_buffers() if buffer.is_meta]
    assert empty.caption(tokens) == captioner.caption(tokens)


def test_the_small_vocabulary_spells_what_it_does_not_list():
    tokenizer = BertTokenizer(vocab={entry: number for number, entry in enumerate(VOCABULARY)})
    text = "a zorblax, 42 feet tall, is standing near the mri scanner."
    numbers = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in numbers
    assert tokenizer.decode(numbers, skip_special_tokens=True) == text
    assert len(VOCABULARY) == len(set(VOCABULARY)) == 512


def test_captions_are_spelled_without_special_entries_and_loose_punctuation():
    tokenizer = BertTokenizer(vocab={entry: number for number, entry in enumerate(VOCABULARY)})
    texts = ["a man's dogs, two of them.", "isn't that a cat?"]
    numbers = tokenizer(texts, padding=True, return_tensors="pt").input_ids
    assert spell(tokenizer, numbers) == texts


@pytest.mark.parametrize(
    ("vocabulary", "says"),
    [
        (VOCABULARY[:-1], "511"),
        ((*VOCABULARY[:-1], VOCABULARY[-2]), "repeated"),
        (("[pad]", *VOCABULARY[1:]), r"without \[PAD\]"),
    ],
    ids=["too short", "repeated", "no padding"],
)
def test_a_vocabulary_that_does_not_fit_is_refused(vocabulary, says):
    with pytest.raises(BadInput, match=says):
        SMALL.build().use_vocabulary(vocabulary)


def test_captions_without_a_vocabulary_of_other_tokens_or_of_no_length_are_refused(captioner, tokens):
    with pytest.raises(BadInput, match="use_vocabulary"):
        SMALL.build().caption(tokens)
    with pytest.raises(BadInput, match=r"\(b, 10, 24\)"):
        captioner.caption(tokens[:, 1:])
    with pytest.raises(BadInput, match="2 to 40"):
        captioner.caption(tokens, max_length=1)


def test_the_converter_mixes_tokens_first_and_channels_second():
    converter = ConverterConfig(tokens_in=5, dim_in=7, tokens_out=6, dim_out=3).build()
    tokens = torch.randn(2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w = {key: value.double() for key, value in converter.double().state_dict().items()}
    mixed = torch.einsum("ot,btd->bod", w["linear1.weight"], tokens) + w["linear1.bias"][:, None]
    expected = torch.einsum("ed,bod->boe", w["linear2.weight"], mixed) + w["linear2.bias"]
    torch.testing.assert_close(converter(tokens), expected)


def test_the_released_converter_has_the_published_keys_and_size():
    with torch.device("meta"):
        tensors = ConverterConfig().build().state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == {
        "linear1.weight": (257, 256),
        "linear1.bias": (257,),
        "linear2.weight": (1024, 1664),
        "linear2.bias": (1024,),
    }
    assert sum(tensor.numel() for tensor in tensors.values()) == 1_771_009


@pytest.mark.parametrize("shape", [(2, 4, 7), (2, 7, 5), (5, 7)], ids=str)
def test_the_converter_refuses_tokens_of_another_encoder(shape):
    converter = ConverterConfig(tokens_in=5, dim_in=7, tokens_out=6, dim_out=3).build()
    with pytest.raises(BadInput, match=r"\(b, 5, 7\)"):
        converter(torch.zeros(shape))


def test_converter_and_captioner_refuse_unknown_options():
    with pytest.raises(ValidationError):
        ConverterConfig(activation="gelu")
    with pytest.raises(ValidationError):
        CaptionerConfig(width=30, heads=4)
