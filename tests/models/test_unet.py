"""The UNet of SDXL and the denoiser that it makes."""

import math

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from pydantic import ValidationError
from torch import nn

from voxelight.models.diffusion.schedules import all_sigmas
from voxelight.models.diffusion.unet import EpsDenoiser, UNetConfig, size_vector
from voxelight.models.errors import BadInput

CONFIG = UNetConfig(channels=(32, 64, 64), depth=(1, 1, 2), layers=1, head_dim=32, context_dim=24, vector_dim=40)
SGM = {
    "model_channels": 320,
    "channel_mult": [1, 2, 4],
    "num_res_blocks": 2,
    "attention_resolutions": [4, 2],
    "transformer_depth": [1, 2, 10],
    "num_head_channels": 64,
    "context_dim": 1664,
    "adm_in_channels": 1024,
    "in_channels": 4,
    "out_channels": 4,
    "num_classes": "sequential",
    "use_linear_in_transformer": True,
    "use_checkpoint": False,
}


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CONFIG.build().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(3, 4, 16, 16, generator=generator),
        torch.randn(3, 5, 24, generator=generator),
        torch.randn(3, 40, generator=generator),
    )


def test_the_released_sizes_are_the_defaults():
    assert UNetConfig.from_sgm(SGM) == UNetConfig()


@pytest.mark.parametrize(
    "change", [{"num_classes": None}, {"use_linear_in_transformer": False}, {"out_channels": 8}], ids=str
)
def test_another_family_of_unets_is_refused(change: dict[str, object]):
    with pytest.raises(BadInput, match=next(iter(change))):
        UNetConfig.from_sgm(SGM | change)


@pytest.mark.parametrize(
    "sizes",
    [{"depth": (1, 2)}, {"attention": (True,)}, {"channels": (320, 640, 1000)}, {"head_dim": 48}, {"heads": 8}],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, object]):
    with pytest.raises(ValidationError):
        UNetConfig(**sizes)


def test_the_vector_enters_as_sizes_do_in_diffusers_own_sdxl(unet: nn.Module, inputs):
    """The published wiring of diffusers, with sizes and a pooled text, gives what our vector gives."""
    x, context, _ = inputs
    pooled, sizes = torch.randn(3, 16), [768.0, 512.0]
    theirs = UNet2DConditionModel.from_config(
        {key: value for key, value in unet.config.items() if not key.startswith("_")}
        | {"class_embed_type": None, "addition_embed_type": "text_time", "addition_time_embed_dim": 256}
        | {"projection_class_embeddings_input_dim": 16 + 512}
    ).eval()
    ours = CONFIG.model_copy(update={"vector_dim": 16 + 512}).build().eval()
    ours.load_state_dict({k.replace("add_embedding", "class_embedding"): v for k, v in theirs.state_dict().items()})
    with torch.no_grad():
        expected = theirs(
            x,
            torch.tensor(500),
            context,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": torch.tensor([sizes] * 3)},
        ).sample
        vector = torch.cat([pooled, size_vector(*sizes).expand(3, -1)], dim=1)
        found = ours(x, torch.tensor(500), encoder_hidden_states=context, class_labels=vector).sample
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_sizes_become_sinusoids():
    vector = size_vector(768, 768, 0, 0, 1024, 1024)
    expected = get_timestep_embedding(
        torch.tensor([768, 768, 0, 0, 1024, 1024]), 256, flip_sin_to_cos=True, downscale_freq_shift=0
    )
    assert vector.shape == (1, 1536)
    # The last bit of a frequency, which differs between processors there, times the largest size.
    torch.testing.assert_close(vector, expected.reshape(1, -1), atol=1024 * 2**-24, rtol=0)
    assert torch.equal(size_vector(768, 768, 0, 0), vector[:, :1024])


def test_the_denoiser_is_the_preconditioned_unet(unet: nn.Module, inputs):
    x, context, vector = inputs
    sigma = all_sigmas()[500]
    eps = unet(x / math.sqrt(float(sigma) ** 2 + 1), 500, context, class_labels=vector).sample
    found = EpsDenoiser(unet)(x, sigma, context, vector)
    torch.testing.assert_close(found, x - sigma * eps, atol=1e-5, rtol=1e-5)


def test_sigma_is_rounded_to_the_nearest_that_was_trained(unet: nn.Module, inputs):
    x, context, vector = inputs
    denoise = EpsDenoiser(unet)
    low, high = all_sigmas()[700:702]
    assert torch.equal(denoise(x, 0.4 * high + 0.6 * low, context, vector), denoise(x, low, context, vector))
    assert torch.equal(denoise(x, 0.6 * high + 0.4 * low, context, vector), denoise(x, high, context, vector))


def test_each_image_may_have_a_sigma_of_its_own(unet: nn.Module, inputs):
    x, context, vector = inputs
    sigmas = all_sigmas()[[10, 500, 999]]
    denoise = EpsDenoiser(unet)
    together = denoise(x, sigmas, context, vector)
    for k in range(3):
        alone = denoise(x[k : k + 1], sigmas[k], context[k : k + 1], vector[k : k + 1])
        torch.testing.assert_close(alone[0], together[k], atol=1e-4, rtol=1e-4)


def test_a_bfloat16_unet_gives_float32_near_the_exact(unet: nn.Module, inputs):
    x, context, vector = inputs
    rounded = CONFIG.build().eval().requires_grad_(False)
    rounded.load_state_dict(unet.state_dict())
    sigma = all_sigmas()[300]
    found = EpsDenoiser(rounded.bfloat16())(x, sigma, context.bfloat16(), vector)
    expected = EpsDenoiser(unet)(x, sigma, context, vector)
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.02 * (expected - x).norm()
