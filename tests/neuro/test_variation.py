"""MindEye1 from betas to the chosen picture, at a small size with random weights."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.transformers.dual_transformer_2d import DualTransformer2DModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from voxelight.models.clip.vision import ClipVisionConfig
from voxelight.models.diffusion.dual import join_unets
from voxelight.models.diffusion.presets import VARIATION_PRESETS, VariationPreset
from voxelight.models.diffusion.variation import (
    VariationConfig,
    build_scheduler,
    sample_variation,
    to_init,
    unit_first,
)
from voxelight.models.values import ClipTokens
from voxelight.neuro.networks import load_networks
from voxelight.neuro.profiles import GenerationOptions, Profile, find_profile
from voxelight.neuro.reconstruct import reconstruct, reconstruct_tokens
from voxelight.storage.cache import StageCache

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "decoder": {
        "network": "mindeye1",
        "config": {
            "voxels": [30],
            "hidden": 24,
            "blocks": 2,
            "tokens": 5,
            "dim": 16,
            "projector_width": 20,
            "prior": {"dim": 16, "depth": 1, "dim_head": 8, "heads": 2, "tokens": 5, "timesteps": 4, "image_scale": 4},
        },
    },
    "low_level": {
        "network": "mindeye1-low-level",
        "config": {"voxels": [30], "hidden": 16, "blocks": 1, "decoder_widths": [32, 32], "maps_width": 8},
    },
    "blurry": {"network": "autoencoder", "config": {"channels": [32, 32], "layers": 1, "scale": 0.18215}},
    "variation": {
        "network": "variation-unet",
        "config": {"channels": [32, 32], "layers": 1, "heads": 2, "context_dim": 16},
    },
    "autoencoder": {"network": "autoencoder", "config": {"channels": [32, 32], "layers": 1, "scale": 0.18215}},
    "image_encoder": {
        "network": "clip-vision",
        "config": {"width": 16, "layers": 1, "heads": 2, "mlp_width": 16, "patch": 14, "side": 28, "dim": 16},
    },
}
OPTIONS = GenerationOptions(dtype="float32", preset="fast")


@pytest.fixture(scope="module")
def profile():
    facts = {"name": "small", "title": "random", "summary": "random", "space": "small", "random_seed": 0}
    return Profile(**facts, parts=SMALL, side=32, result_side=32, prior_steps=4, candidates=3)


@pytest.fixture(scope="module")
def networks(profile):
    return load_networks(profile, Path("nowhere"), OPTIONS, "cpu")


@pytest.fixture(scope="module")
def trials():
    random = np.random.default_rng(0)
    return [random.standard_normal((repeats, 30), dtype=np.float32) for repeats in (3, 1)]


@pytest.fixture(scope="module")
def decoded(networks, trials):
    return reconstruct(networks, trials, [1, 2], OPTIONS)


def test_the_picture_kept_is_the_one_whose_tokens_are_nearest_to_the_brains(networks, trials, decoded):
    """Of more candidates a better one is kept, by the encoder's own tokens of the picture that came out."""
    kept = decoded[0]
    alone = [reconstruct(networks, trials[:1], [1], OPTIONS.model_copy(update={"candidates": n}))[0] for n in (1, 3, 8)]
    wanted = torch.from_numpy(kept.retrieval).flatten()

    def score(image):
        tokens = networks.parts["image_encoder"](torch.from_numpy(image).permute(2, 0, 1)[None])
        return float(F.cosine_similarity(tokens.flatten(), wanted, dim=0))

    scores = [score(result.unrefined) for result in alone]
    assert min(np.diff(scores)) > -1e-5, "the best of more is no worse, to rounding, which differs between processors"
    assert len({round(value, 6) for value in scores}) > 1, "candidates differ"
    np.testing.assert_allclose(kept.unrefined, alone[1].unrefined, atol=1e-4)


def test_what_a_result_holds(decoded):
    for result in decoded:
        assert result.image.shape == result.unrefined.shape == (32, 32, 3)
        assert result.blurry.shape == (64, 64, 3)
        assert result.tokens.shape == result.retrieval.shape == (5, 16)
        assert result.caption is None
        assert result.random_weights
        for picture in (result.image, result.blurry):
            assert picture.min() >= 0
            assert picture.max() <= 1
            assert picture.std() > 0.01


def test_the_mean_of_the_repeats_is_decoded(networks, trials, decoded):
    (averaged,) = reconstruct(networks, [trials[0].mean(axis=0, keepdims=True)], [1], OPTIONS)
    np.testing.assert_allclose(averaged.retrieval, decoded[0].retrieval, rtol=1e-5, atol=1e-6)
    each = reconstruct(
        networks, [row[None] for row in trials[0]], [1, 1, 1], OPTIONS.model_copy(update={"stop": "tokens"})
    )
    assert np.abs(np.mean([one.retrieval for one in each], axis=0) - decoded[0].retrieval).max() > 1e-3


def test_a_result_depends_neither_on_its_neighbours_nor_on_the_cache(networks, trials, decoded, tmp_path):
    cache = StageCache(tmp_path)
    for _ in range(2):
        (alone,) = reconstruct(networks, trials[1:], [2], OPTIONS, cache=cache)
        assert np.abs(alone.unrefined - decoded[1].unrefined).max() < 1e-4
        np.testing.assert_allclose(alone.tokens, decoded[1].tokens, atol=1e-5)


def test_tokens_alone_are_varied_from_noise(networks, decoded):
    tokens = ClipTokens(decoded[0].tokens[None], "small")
    (result,) = reconstruct_tokens(networks, tokens, [1], OPTIONS)
    assert result.blurry is None
    assert np.abs(result.unrefined - decoded[0].unrefined).max() > 0.01


def test_every_step_is_counted_before_it_is_taken(networks, trials):
    seen = []
    reconstruct(networks, trials, [1, 2], OPTIONS, on_step=lambda done, total: seen.append((done, total)))
    prior, variation = 4 * 3, 8 * -(-6 // networks.plan.batch)  # of 3 candidates; 0.85 of 10 steps for 2 images of 3
    assert {total for _, total in seen} == {prior + variation}
    assert max(done for done, _ in seen) == prior + variation


@pytest.mark.parametrize("text_share", [0.0, 0.4, 1.0])
def test_words_and_image_together_are_versatile_diffusions_own(text_share):
    """At a share of 0 the image branch alone, which is MindEye1's; at any, diffusers' own module for it."""
    torch.manual_seed(0)
    config = VariationConfig(channels=(32, 64), layers=1, heads=2, context_dim=16)
    image_unet = config.build().eval()
    text_unet = UNetFlatConditionModel(
        down_block_types=("CrossAttnDownBlockFlat", "DownBlockFlat"),
        up_block_types=("UpBlockFlat", "CrossAttnUpBlockFlat"),
        block_out_channels=config.channels,
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=16,
        mid_block_type="UNetMidBlockFlatCrossAttn",
    ).eval()
    x, words, told = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 16), torch.randn(2, 257, 16)
    with torch.no_grad():
        alone = image_unet(x, torch.tensor(500), encoder_hidden_states=told, return_dict=False)[0]
        theirs = copy.deepcopy(image_unet)
        for name in [name for name, module in theirs.named_modules() if isinstance(module, Transformer2DModel)]:
            parent, _, place = name.rpartition(".")
            image, text = theirs.get_submodule(name), text_unet.get_submodule(name)
            sizes = {key: image.config[key] for key in ("num_attention_heads", "attention_head_dim", "in_channels")}
            dual = DualTransformer2DModel(**sizes, cross_attention_dim=16)
            dual.transformers[0], dual.transformers[1], dual.mix_ratio = image, text, text_share
            whole = dual.forward
            # What its UNet hands on and it does not take, is None here.
            dual.forward = lambda *given, whole=whole, encoder_attention_mask=None, **more: whole(*given, **more)
            theirs.get_submodule(parent)[int(place)] = dual
        both = torch.cat([words, told], dim=1)
        expected = theirs(x, torch.tensor(500), encoder_hidden_states=both, return_dict=False)[0]
        joined = join_unets(image_unet, text_unet, text_share)
        ours = joined(x, torch.tensor(500), encoder_hidden_states=both, return_dict=False)[0]
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    assert bool((ours - alone).abs().max() < 1e-5) == (text_share == 0)


def test_a_start_is_noised_to_the_first_kept_step_and_published_steps_are_kept():
    preset = VARIATION_PRESETS["published"]
    assert (preset.steps, preset.skip, preset.guidance) == (20, 3, 3.5)
    scheduler = build_scheduler(20)
    assert scheduler.timesteps.tolist()[:4] == [999, 949, 899, 849]
    seen = []

    class Silent(torch.nn.Linear):
        def forward(self, x, step, **_):
            seen.append((x[:1].clone(), int(step)))
            return (torch.zeros_like(x),)

    start, noise = torch.full((1, 4, 8, 8), 2.0), torch.randn(1, 4, 8, 8)
    sample_variation(Silent(1, 1), torch.ones(1, 3, 4), noise, start, preset)
    assert len(seen) == 17
    assert seen[0][1] == 849
    cumulative = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)[849]
    torch.testing.assert_close(seen[0][0], cumulative.sqrt() * start + (1 - cumulative).sqrt() * noise)
    seen.clear()
    sample_variation(Silent(1, 1), torch.ones(1, 3, 4), noise, None, preset)
    assert len(seen) == 20
    torch.testing.assert_close(seen[0][0], noise)


def test_guidance_leads_away_from_tokens_of_zeros():
    torch.manual_seed(0)
    unet, contexts = VariationConfig(channels=(32, 32), layers=1, heads=2, context_dim=4).build(), []
    unet.register_forward_pre_hook(
        lambda _module, _args, given: contexts.append(given["encoder_hidden_states"]), with_kwargs=True
    )
    told, noise = torch.randn(1, 3, 4), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        sample_variation(unet, told, noise, None, VariationPreset(steps=1))
    torch.testing.assert_close(contexts[0], torch.cat([torch.zeros(1, 3, 4), told]))


def test_tokens_are_transformers_own_divided_by_the_class_token():
    torch.manual_seed(0)
    ours = ClipVisionConfig(width=32, layers=2, heads=2, mlp_width=48, patch=14, side=28, dim=12).build().eval()
    theirs = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, patch_size=14,
            image_size=28, projection_dim=12,
        )
    ).eval()  # fmt: skip
    theirs.load_state_dict(ours.state_dict(), strict=False)
    images = torch.rand(2, 3, 28, 28)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    with torch.no_grad():
        whole = theirs(pixel_values=(images - mean[:, None, None]) / std[:, None, None])
        tokens = ours(images)
    pooled = whole.image_embeds
    torch.testing.assert_close(tokens[:, 0], pooled / pooled.norm(dim=-1, keepdim=True))
    assert tokens.shape == (2, 5, 12)
    torch.testing.assert_close(unit_first(3 * tokens), tokens, rtol=1e-5, atol=1e-5)


def test_the_blurry_image_is_encoded_as_it_was_published():
    blurry = torch.rand(1, 3, 4, 4)
    seen = 2 * to_init(blurry) - 1
    assert seen[0, 0, 0, 0] == pytest.approx((float(blurry[0, 0, 0, 0]) - 0.48145466) / 0.26862954, rel=1e-4)


def test_the_published_profile_has_the_published_numbers():
    published = find_profile("mindeye1")
    assert (published.voxels, published.prior_steps, published.side, published.candidates) == (15724, 100, 512, 16)
    assert published.latent_shape == (4, 64, 64)
    decoder = published.parts["decoder"].build_config()
    assert (decoder.prior.timesteps, decoder.prior.image_scale) == (100, pytest.approx(27.713, abs=1e-3))
    other = published.select_subject("subj07")
    assert (other.voxels, other.parts["low_level"].config["voxels"]) == (12682, [12682])
    assert other.weights["low_level"] == "autoencoder_subj07_4x_locont_no_reconst"
