"""cDAL: sizes, votes, noise and what the schedule promises; its numbers are compared in tests/parity."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from voxelight.models.errors import BadInput
from voxelight.models.segmentation.cdal import CDALConfig
from voxelight.models.segmentation.cdal_diffusion import make_schedule, noise_pair, noise_to, sample_posterior, vote
from voxelight.models.segmentation.cdal_discriminator import Discriminator, least_side, spread_over_batch
from voxelight.models.segmentation.cdal_generator import Generator
from voxelight.models.segmentation.cdal_layout import discriminator_names, generator_names

SMALL = {"width": 8, "multipliers": (1, 2), "encoder_blocks": 1, "latent": 6, "embedding": 8}
PUBLISHED = {
    "nuclei": (
        {"in_channels": 3, "width": 64, "multipliers": (1, 1, 1, 2, 2, 4, 4), "blocks": 2, "attention_levels": (4, 5),
         "encoder_blocks": 5, "latent": 100, "embedding": 256},
        41.67e6,
    ),
    "chest": (
        {"width": 32, "multipliers": (1, 1, 2, 2, 4, 4), "attention_levels": (4,), "latent": 100, "embedding": 256},
        8.84e6,
    ),
    "hippocampus": ({"classes": 3}, 2.69e6),
    "hippocampus, sampling": ({"classes": 3, "blocks": 2}, 3.68e6),
}  # fmt: skip


def build(**options):
    torch.manual_seed(0)
    network = CDALConfig(**SMALL | options).build().eval()
    # Fresh weights end in almost zero, so that nothing would depend on anything.
    with torch.no_grad():
        for value in network.parameters():
            if value.ndim > 1 and value.abs().max() < 1e-3:
                torch.nn.init.xavier_uniform_(value)
    return network


def count(module):
    return sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes_give_as_many_parameters(name):
    options, expected = PUBLISHED[name]
    with torch.device("meta"):
        assert count(Generator(CDALConfig(**options).sizes)) == pytest.approx(expected, abs=6e3)


@pytest.mark.parametrize(
    ("size", "width", "channels", "time", "expected"),
    [("large", 64, 1, 256, 27.74e6), ("small", 64, 3, 128, 12.46e6), ("small", 32, 3, 128, 3.19e6)],
)
def test_the_published_discriminators_have_as_many_parameters(size, width, channels, time, expected):
    with torch.device("meta"):
        assert count(Discriminator(channels, width, time, size)) == pytest.approx(expected, abs=6e3)


def test_the_schedule_is_that_of_the_paper():
    schedule = make_schedule(4)
    np.testing.assert_allclose(schedule.betas, [0.478255, 0.849206, 0.956418, 0.987404], atol=1e-6)
    np.testing.assert_allclose(schedule.variance, [0, 0.440819, 0.884202, 0.984061], atol=1e-6)


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_a_step_forward_and_the_posterior_back_are_one_path(steps):
    """Drawing x_t from the posterior of x_{t+1} gives what adding noise to the label gives, in mean and variance."""
    torch.manual_seed(0)
    schedule, n = make_schedule(steps), 50_000
    x0 = torch.full((n, 1, 1, 1), 0.7)
    for step in range(steps):
        t = torch.full((n,), step)
        x_t, x_next = noise_pair(schedule, x0, t, torch.randn_like(x0), torch.randn_like(x0))
        back = sample_posterior(schedule, x0, x_next, t, torch.randn_like(x0))
        # The first interval counts as the first step of the posterior, so step 0 of it is the clean label.
        kept = schedule.alphas_cumprod_prev[step]
        assert back.mean() == pytest.approx(float(kept.sqrt() * 0.7), abs=0.02)
        assert back.var() == pytest.approx(float(1 - kept), abs=0.02)
        assert x_t.mean() == pytest.approx(float(schedule.a_s_cum[step] * 0.7), abs=0.02)
        assert x_next.var() == pytest.approx(
            float(noise_to(schedule, 0 * x0, t + 1, torch.randn_like(x0)).var()), abs=0.03
        )


def test_votes_are_averaged_and_halves_round_to_even():
    mean, mask = vote(torch.tensor([[-1.0, 3.0, 1.0], [1.0, 1.0, 1.0]]))
    torch.testing.assert_close(mean, torch.tensor([0.5, 1.0, 1.0]))
    torch.testing.assert_close(mask, torch.tensor([0.0, 1.0, 1.0]))


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("classes", [2, 4])
def test_votes_computed_together_are_those_of_a_loop_that_encodes_each_time(steps, classes):
    """By any split of the work; the loop is how the published code samples."""
    network = build(classes=classes, steps=steps)
    image = torch.randn(2, 1, 9, 14)
    with torch.inference_mode():
        found = network.draw_votes(image, 3, torch.Generator().manual_seed(1))
        parts = network.draw_votes(image, 3, torch.Generator().manual_seed(1), at_once=4)
        torch.testing.assert_close(found, parts)
        noise = torch.Generator().manual_seed(1)
        draws = [network._draw_noise(network.pad(image), 3, noise) for _ in range(steps + 1)]
        for number in range(3):
            x = draws[-1][1][number].expand(2, -1, -1, -1)
            for step in reversed(range(steps)):
                t = torch.full((2,), step)
                z, noise = (draw[number].expand(2, *draw.shape[1:]) for draw in draws[step])
                clean = network.generator(x, t, z, network.generator.encode(network.pad(image)))
                x = sample_posterior(network.schedule, clean, x, t, noise)
            torch.testing.assert_close(found[number], x[..., :9, :14])


def test_the_image_is_encoded_once():
    network, calls = build(), []
    network.generator.encoder.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        network(torch.randn(2, 1, 8, 8))
    assert len(calls) == 1


def test_an_image_is_answered_alike_alone_and_in_company():
    network, images = build(classes=3), torch.randn(3, 1, 10, 12)
    with torch.inference_mode():
        together = network(images)
        torch.testing.assert_close(network(images[1:2]), together[1:2])
        torch.testing.assert_close(network(images), together, rtol=0, atol=0)


@pytest.mark.parametrize("classes", [2, 3])
def test_softmax_gives_the_mean_of_the_votes(classes):
    network, image = build(classes=classes), torch.randn(1, 1, 8, 8)
    with torch.inference_mode():
        mean, spread = network.vote(image)
        torch.testing.assert_close(network(image).softmax(dim=1), mean, atol=1e-5, rtol=1e-4)
        votes = network.draw_votes(image, 5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mean.sum(dim=1), torch.ones(1, 8, 8))
    assert spread.shape == (1, 8, 8)
    assert spread.max() > 0
    if classes == 2:
        torch.testing.assert_close(mean[:, 1:], vote(votes)[0])


def test_labels_go_in_and_come_out():
    for classes in (2, 3):
        network = build(classes=classes)
        reference = torch.nn.functional.one_hot(torch.randint(classes, (2, 8, 8)), classes).movedim(-1, 1).float()
        label = network.encode_labels(reference)
        assert label.shape[1] == network.config.label_channels
        torch.testing.assert_close(network.probabilities(label), reference, atol=1e-5, rtol=0)


def test_published_names_are_all_taken_and_a_wrong_size_is_refused(shared_fixtures):
    from checks.cdal import sizes_of
    from checks.files import find_fixtures

    fixtures = [fixture for fixture in find_fixtures(shared_fixtures) if fixture.path.stem.endswith("_cdal")]
    if not fixtures:
        pytest.skip("the folder holds no fixture of cDAL")
    facts = fixtures[0].fact("cases")["generator_tiny"]
    weights = fixtures[0].part("generator_tiny/w/")
    published = {f"module.{name}": value for name, value in weights.items()}
    module = Generator(sizes_of(facts, weights["all_modules.2.weight"].shape[1]))
    module.load_state_dict(generator_names(published, module.sizes))
    with pytest.raises(BadInput, match="modules"):
        generator_names(published, sizes_of(facts | {"num_res_blocks": 2}, 1))
    judge = discriminator_names(fixtures[0].part("disc_small/w/"))
    assert set(judge) == set(Discriminator(3, 4, 8, "small").state_dict())


def test_a_batch_that_four_does_not_divide_is_grouped_by_what_does():
    x = torch.randn(6, 2, 3, 3)
    expected = x.reshape(3, 2, 2, 3, 3).var(dim=0, unbiased=False).add(1e-8).sqrt().mean(dim=(1, 2, 3))
    torch.testing.assert_close(spread_over_batch(x)[:, 2, 0, 0], expected.repeat(3))


def test_a_discriminator_says_how_small_a_label_may_be():
    for size in ("small", "large"):
        side = least_side(size)
        module = Discriminator(1, 4, 8, size)
        assert module(
            *(torch.randn(2, 1, side, side),), torch.zeros(2).long(), torch.randn(2, 1, side, side)
        ).shape == (2, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"context": 2},
        {"width": 6},
        {"attention_levels": (2,)},
        {"discriminator": "small", "attention_scale": 5},
    ],
)
def test_what_does_not_fit_is_refused(wrong):
    with pytest.raises(ValidationError):
        CDALConfig(**SMALL | wrong)
