"""Both towers of CLIP from a file with the hub's names, against transformers' own whole model at small size."""

import numpy as np
import pytest
import torch
from open_clip import tokenize
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms.functional import pil_to_tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from voxelight.models.errors import BadInput, Unavailable
from voxelight.neuro.evaluate.metrics import clip
from voxelight.neuro.evaluate.metrics.captions import Captions, References
from voxelight.neuro.evaluate.metrics.clip import SIZES, ClipSizes, load_clip_encoder, load_clip_text_encoder
from voxelight.neuro.evaluate.metrics.language import score_clip

NAME = "clip-vit-base-patch32"
SMALL = ClipSizes(text_width=16, image_width=24, image_layers=2, patch=56, dim=12, text_layers=3, head_width=8)
TEXTS = ["a dog", "two cats on a sofa"]


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A small CLIP whose file lies where the published one would."""
    monkeypatch.setitem(clip.SIZES, NAME, SMALL)
    heads = {"num_attention_heads": 2, "intermediate_size": 64, "hidden_size": 16, "num_hidden_layers": 3}
    text = CLIPTextConfig(**heads, projection_dim=12)
    image = CLIPVisionConfig(
        num_attention_heads=3,
        intermediate_size=96,
        hidden_size=24,
        num_hidden_layers=2,
        patch_size=56,
        projection_dim=12,
    )
    config = CLIPConfig(text_config=text.to_dict(), vision_config=image.to_dict(), projection_dim=12)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(config).eval()
    tensors = {**model.state_dict(), "text_model.embeddings.position_ids": torch.arange(77)[None]}
    path = tmp_path / "fetched" / NAME / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_file(tensors, str(path))
    return model


def test_sentences_and_pictures_get_the_vectors_of_the_whole_model(model, tmp_path, photographs):
    encoder = load_clip_encoder(NAME, tmp_path)
    eight_bit = np.round(photographs[:2] * 255).astype(np.uint8)
    resized = [pil_to_tensor(Image.fromarray(each).resize((224, 224), Image.Resampling.BICUBIC)) for each in eight_bit]
    pixels = torch.stack(resized).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (clip.CLIP_MEAN, clip.CLIP_STD))
    with torch.inference_mode():
        given = model(input_ids=tokenize(TEXTS), pixel_values=(pixels - mean) / std)
    assert np.allclose(encoder.embed_texts(TEXTS), given.text_embeds.numpy(), atol=1e-5)
    assert np.allclose(encoder.embed_pictures(photographs[:2]), given.image_embeds.numpy(), atol=2e-3)
    assert np.allclose(load_clip_text_encoder(NAME, tmp_path).embed(TEXTS), given.text_embeds.numpy(), atol=1e-5)


def test_clip_score_names_the_network_and_its_file(model, tmp_path, photographs):
    captions = Captions(tuple(TEXTS), References("coco captions", (("a puppy",), ("cats",))))
    encoder = load_clip_encoder(NAME, tmp_path)
    direct, with_references = score_clip(captions, photographs[:2], encoder)
    assert direct.conditions.network == f"{NAME} of OpenAI"
    assert len(direct.conditions.weights_sha256) == 64
    assert with_references.conditions.reference_set == "coco captions"


@pytest.mark.parametrize("name", SIZES)
def test_encoders_that_are_not_here_say_how_they_come(name, tmp_path):
    for load in (load_clip_encoder, load_clip_text_encoder):
        with pytest.raises(Unavailable, match=name):
            load(name, tmp_path)
        with pytest.raises(BadInput, match=NAME):
            load("clip-vit-huge", tmp_path)
