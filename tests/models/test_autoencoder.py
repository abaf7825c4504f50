"""The autoencoder of latent diffusion, at a small size."""

import pytest
import torch

from voxelight.models.diffusion.autoencoder import Autoencoder, AutoencoderConfig, to_unit, unclip_to_unit


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderConfig(channels=(32, 64, 64), layers=1).build().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_the_mode_is_the_posterior_mean_of_an_image_in_minus_one_to_one(autoencoder: Autoencoder, images: torch.Tensor):
    posterior = autoencoder.vae.encode(2 * images - 1).latent_dist
    latents = autoencoder.encode(images)
    assert latents.shape == (3, 4, 8, 8)
    torch.testing.assert_close(latents, posterior.mode() * 0.13025)


def test_given_noise_is_the_sample_of_the_posterior(autoencoder: Autoencoder, images: torch.Tensor):
    posterior = autoencoder.vae.encode(2 * images - 1).latent_dist
    sampled = posterior.sample(torch.Generator().manual_seed(2)) * 0.13025
    noise = torch.randn(sampled.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(autoencoder.encode(images, noise), sampled)


def test_decoding_undoes_the_scale(autoencoder: Autoencoder):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    decoded = autoencoder.decode(latents * 0.13025)
    assert decoded.shape == (2, 3, 32, 32)
    torch.testing.assert_close(decoded, autoencoder.vae.decode(latents).sample, atol=1e-5, rtol=1e-5)


def test_one_at_a_time_decodes_as_the_batch_does(autoencoder: Autoencoder):
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    together = autoencoder.decode(latents)
    torch.testing.assert_close(autoencoder.decode(latents, sliced=True), together, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(autoencoder.decode(latents[1:2]), together[1:2], atol=1e-5, rtol=1e-5)


def test_bfloat16_weights_give_float32_near_the_exact(autoencoder: Autoencoder, images: torch.Tensor):
    rounded = AutoencoderConfig(channels=(32, 64, 64), layers=1).build().eval().requires_grad_(False)
    rounded.load_state_dict(autoencoder.state_dict())
    rounded.bfloat16()
    latents = rounded.encode(images)
    decoded = rounded.decode(latents, sliced=True)
    assert latents.dtype == decoded.dtype == torch.float32
    expected = autoencoder.encode(images)
    assert (latents - expected).norm() < 0.03 * expected.norm()
    expected = autoencoder.decode(latents)
    assert (decoded - expected).norm() < 0.03 * expected.norm()


def test_output_maps_reach_zero_and_one():
    raw = torch.tensor([-3.0, -1.0, -0.25, 0.0, 1.0, 3.0])
    torch.testing.assert_close(to_unit(raw), torch.tensor([0, 0, 0.375, 0.5, 1, 1]))
    torch.testing.assert_close(unclip_to_unit(raw), torch.tensor([0, 0, 0, 0.2, 1, 1]))
