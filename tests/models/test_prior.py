"""The diffusion prior: its parts against outside implementations, its paths, and what half precision must not touch."""

import copy
import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.models.embeddings import get_timestep_embedding
from pydantic import ValidationError
from torch.nn import functional as F
from transformers.models.t5.modeling_t5 import T5Attention

from voxelight.models.diffusion.prior import Ddim, PriorConfig
from voxelight.models.diffusion.prior_network import LayerNorm, TimeSinusoid, rotary_freqs, rotate
from voxelight.models.diffusion.schedules import cosine_buffers, ddim_time_pairs
from voxelight.models.errors import BadInput

SMALL = {"dim": 24, "depth": 2, "dim_head": 12, "heads": 3, "tokens": 7}


def build(**options):
    torch.manual_seed(0)
    prior = PriorConfig(**SMALL | options).build().eval()
    with torch.no_grad():
        for name, value in prior.named_parameters():
            if name.endswith(".g"):
                value.add_(0.1 * torch.randn_like(value))
    return prior


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noises(shape, seed=5):
    return lambda k: draw(*shape, seed=seed + k)


@pytest.fixture(scope="module")
def full():
    with torch.device("meta"):
        return PriorConfig().build()


def test_the_released_prior_has_the_published_number_of_parameters(full):
    assert sum(value.numel() for value in full.parameters() if value.requires_grad) == 259_865_200
    assert sum(value.numel() for value in full.parameters()) == 259_865_216


def test_the_released_prior_has_the_published_names_and_shapes(full):
    net, layer = "net.", "net.causal_transformer.layers.{}."
    expected = {f"noise_scheduler.{name}": (100,) for name in cosine_buffers(100)}
    expected |= {net + name: (256, 1664) for name in ("learned_query", "null_brain_embeds", "null_image_embed")}
    time = net + "to_time_embeds.0.1.net."
    for name, shape in {"0.0": (3328, 1664), "1.0": (3328, 3328), "2": (1664, 3328)}.items():
        expected |= {f"{time}{name}.weight": shape, f"{time}{name}.bias": shape[:1]}
    expected["net.causal_transformer.rel_pos_bias.relative_attention_bias.weight"] = (32, 32)
    for index in range(6):
        expected |= {
            layer.format(index) + name: shape
            for name, shape in {
                "0.null_kv": (2, 52),
                "0.norm.g": (1664,),
                "0.to_q.weight": (1664, 1664),
                "0.to_kv.weight": (104, 1664),
                "0.to_out.0.weight": (1664, 1664),
                "0.to_out.1.g": (1664,),
                "0.rotary_emb.freqs": (16,),
                "1.0.g": (1664,),
                "1.1.weight": (13312, 1664),
                "1.5.weight": (1664, 6656),
            }.items()
        }
    expected |= {"net.causal_transformer.norm.g": (1664,), "net.causal_transformer.project_out.weight": (1664, 1664)}
    assert {name: tuple(value.shape) for name, value in full.state_dict().items()} == expected


def test_the_released_prior_runs_through_without_weights(full):
    tokens = torch.empty(2, 256, 1664, device="meta")
    out = full.net(tokens, torch.zeros(2, dtype=torch.int64, device="meta"), tokens)
    assert out.shape == tokens.shape


def test_mindeye1_has_its_own_size():
    with torch.device("meta"):
        prior = PriorConfig(dim=768, tokens=257, heads=12, dim_head=64, image_scale=768**0.5).build()
    assert sum(value.numel() for value in prior.parameters() if value.requires_grad) == 56_055_184 - 16
    assert prior.state_dict()["net.causal_transformer.layers.3.0.to_kv.weight"].shape == (128, 768)


def test_distances_share_the_buckets_of_t5():
    bias = build().net.causal_transformer.rel_pos_bias
    with torch.no_grad():
        bias.relative_attention_bias.weight.copy_(torch.arange(32.0)[:, None] + 100 * torch.arange(3))
        found = bias(513)
    distance = torch.arange(514)[None] - torch.arange(513)[:, None]
    expected = T5Attention._relative_position_bucket(distance, False, 32, 128)
    torch.testing.assert_close(found, expected + 100.0 * torch.arange(3)[:, None, None])


def test_rotation_is_a_product_of_complex_numbers():
    x = draw(2, 3, 600, 40)
    freqs = rotary_freqs(32)["freqs"]
    angles = torch.arange(600.0)[:, None] * freqs
    turned = torch.view_as_complex(x[..., :32].unflatten(-1, (16, 2)).contiguous()) * torch.polar(
        torch.ones_like(angles), angles
    )
    expected = torch.cat([torch.view_as_real(turned).flatten(-2), x[..., 32:]], dim=-1)
    torch.testing.assert_close(rotate(x, angles.cos(), angles.sin()), expected, rtol=1e-5, atol=1e-5)


def test_the_time_is_embedded_as_by_diffusers():
    times = torch.tensor([0, 1, 50, 99])
    expected = get_timestep_embedding(times, 64, flip_sin_to_cos=False, downscale_freq_shift=1)
    torch.testing.assert_close(TimeSinusoid(64)(times), expected)


def test_the_stable_norm_divides_by_the_largest_and_not_by_the_largest_magnitude():
    x = torch.tensor([[-4.0, 1.0, 2.0], [-4.0, -1.0, -2.0]])
    found = LayerNorm(3, stable=True)(x)
    torch.testing.assert_close(found, F.layer_norm(x / torch.tensor([[2.0], [-1.0]]), (3,)), rtol=1e-4, atol=1e-4)
    assert torch.equal(found[1].sign(), -F.layer_norm(x[1], (3,)).sign())


def test_attention_is_cosine_attention_over_one_key_head_and_a_null_key():
    transformer = build(heads=3, dim_head=12).net.causal_transformer
    layer, x, n = transformer.layers[0][0], draw(2, 15, 24), 15
    position = transformer.position(n)
    with torch.no_grad():
        y = F.layer_norm(x, (24,)) * layer.norm.g
        q = rotate((y @ layer.to_q.weight.T).view(2, n, 3, 12).permute(0, 2, 1, 3), position.cos, position.sin)
        k, v = (y @ layer.to_kv.weight.T).split(12, dim=-1)
        k = rotate(k, position.cos, position.sin)
        k, v = (torch.cat([layer.null_kv[i].expand(2, 1, 12), part], dim=1) for i, part in enumerate((k, v)))
        cosines = torch.einsum("bhid,bjd->bhij", F.normalize(q, dim=-1), F.normalize(k, dim=-1))
        weights = (16 * cosines + position.bias).softmax(dim=-1)
        joined = torch.einsum("bhij,bjd->bihd", weights, v).flatten(2) @ layer.to_out[0].weight.T
        expected = F.layer_norm(joined, (24,), eps=1e-3) * layer.to_out[1].g
        torch.testing.assert_close(layer(x, position), expected, rtol=1e-4, atol=1e-5)


def test_the_eps_of_the_norm_after_attention_is_an_option_that_tells():
    x, times, brain = draw(2, 7, 24), torch.tensor([3, 90]), draw(2, 7, 24, seed=2)
    with torch.no_grad():
        loose, tight = (build(to_out_eps=eps).net(x, times, brain) for eps in (1e-3, 1e-5))
    assert (loose - tight).abs().max() > 1e-3


def test_a_dropped_condition_tells_nothing():
    net, x, times = build().net, draw(2, 7, 24), torch.tensor([3, 90])
    keep = torch.tensor([True, False])
    brains = [draw(2, 7, 24, seed=seed) for seed in (2, 3)]
    with torch.no_grad():
        one, other = (net(x, times, brain, brain_keep=keep) for brain in brains)
        kept, lost = (net(x + shift, times, brains[0], image_keep=keep) for shift in (0, 1))
    assert not torch.allclose(one[0], other[0])
    torch.testing.assert_close(one[1], other[1])
    assert not torch.allclose(kept[0], lost[0])
    torch.testing.assert_close(kept[1], lost[1])


def test_guidance_goes_from_the_null_through_the_condition():
    net, x, times, brain = build().net, draw(2, 7, 24), torch.tensor([3, 90]), draw(2, 7, 24, seed=2)
    nothing = torch.zeros(2, dtype=torch.bool)
    with torch.no_grad():
        condition, null = net(x, times, brain), net(x, times, brain, nothing, nothing)
        torch.testing.assert_close(net.guided(x, times, brain, 1.0), condition)
        torch.testing.assert_close(net.guided(x, times, brain, 0.0), null)
        torch.testing.assert_close(net.guided(x, times, brain, 3.0), null + 3 * (condition - null))


def test_sampling_calls_the_network_nineteen_times_and_reports_each():
    prior, visited, reported = build(), [], []
    prior.net.register_forward_pre_hook(lambda _, inputs: visited.append(inputs[1].tolist()))
    brain = draw(2, 7, 24)
    out = prior.sample(brain, noises(brain.shape), on_step=lambda done, total: reported.append((done, total)))
    assert visited == [[time, time] for time in range(94, 0, -5)]
    assert reported == [(done, 19) for done in range(19)]
    assert out.shape == brain.shape
    assert torch.isfinite(out).all()


def test_what_the_callback_raises_stops_the_sampling_before_the_next_call():
    prior, calls = build(), []
    prior.net.register_forward_pre_hook(lambda *_: calls.append(1))

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prior.sample(draw(1, 7, 24), noises((1, 7, 24)), on_step=stop)
    assert len(calls) == 2


def test_draws_are_asked_for_by_number_and_none_after_the_last_call():
    asked = []
    build().sample(draw(1, 7, 24), lambda k: (asked.append(k), draw(1, 7, 24, seed=k))[1], steps=20)
    assert asked == list(range(19))


def test_a_batch_is_as_good_as_one_by_one():
    prior, brain = build(), draw(3, 7, 24)
    together = prior.sample(brain, noises((3, 7, 24)), steps=10)
    for index in range(3):
        alone = prior.sample(brain[index : index + 1], lambda k, i=index: noises((3, 7, 24))(k)[i : i + 1], steps=10)
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("steps", [5, 20])
def test_the_noise_of_a_step_is_that_of_ddim_one_time_earlier(steps):
    path = Ddim(build().noise_scheduler, steps)
    theirs = DDIMScheduler(100, beta_schedule="squaredcos_cap_v2")
    for time, after in ddim_time_pairs(steps, 100)[:-1]:
        assert path.spread(time, after) == pytest.approx(
            float(theirs._get_variance(time - 1, after - 1).sqrt()), rel=1e-3
        )


def test_a_network_that_knows_the_answer_is_led_to_it():
    path, buffers = Ddim(build().noise_scheduler, 20), cosine_buffers(100)
    clean, eps = draw(4, 5), draw(4, 5, seed=2)
    time, after = 49, 44
    x = buffers["sqrt_alphas_cumprod"][time] * clean + buffers["sqrt_one_minus_alphas_cumprod"][time] * eps
    kept = buffers["alphas_cumprod_prev"][after]
    expected = kept.sqrt() * clean + (1 - kept - path.spread(time, after) ** 2).sqrt() * eps
    torch.testing.assert_close(path.mean(x, clean, time, after), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(path.mean(x, clean, 4, -1), clean)


def test_as_many_steps_as_times_is_the_ddpm_of_diffusers():
    prior, brain = build(timesteps=10), draw(2, 7, 24)
    scheduler = DDPMScheduler(
        10, beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False, variance_type="fixed_small"
    )
    scheduler.set_timesteps(10)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 7, 24, generator=generator)
    with torch.no_grad():
        for time in scheduler.timesteps:
            clean = prior.net(x, time.expand(2), brain)
            x = scheduler.step(clean, time, x, generator=generator).prev_sample
    generator.manual_seed(3)
    found = prior.sample(brain, lambda k: torch.randn(2, 7, 24, generator=generator), steps=10)
    torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("steps", [0, 1, 101])
def test_sampling_refuses_steps_out_of_range(steps):
    with pytest.raises(BadInput, match="sampling steps"):
        build().sample(draw(1, 7, 24), noises((1, 7, 24)), steps=steps)


def test_sampling_refuses_tokens_of_another_space():
    with pytest.raises(BadInput, match=r"\(b, 7, 24\)"):
        build().sample(draw(1, 8, 24), noises((1, 8, 24)))


def test_the_loss_is_the_squared_error_of_the_clean_tokens():
    prior, brain, image, noise = build(), draw(2, 7, 24), draw(2, 7, 24, seed=2), draw(2, 7, 24, seed=3)
    times, keep = torch.tensor([3, 90]), torch.tensor([True, False])
    loss, predicted = prior.loss(brain, image, times, noise, keep, ~keep)
    torch.testing.assert_close(loss, (predicted - image).square().mean())
    torch.testing.assert_close(predicted, prior.net(prior.noised(image, times, noise), times, brain, keep, ~keep))
    loss.backward()
    silent = [name for name, value in prior.named_parameters() if value.requires_grad and value.grad is None]
    assert not silent, "every trainable parameter reaches the loss"


def test_noised_tokens_are_those_of_diffusers():
    image, noise, times = draw(3, 7, 24), draw(3, 7, 24, seed=2), torch.tensor([0, 50, 99])
    expected = DDPMScheduler(100, beta_schedule="squaredcos_cap_v2").add_noise(image, noise, times)
    torch.testing.assert_close(build().noised(image, times, noise), expected, rtol=1e-4, atol=1e-5)


def test_the_scale_of_mindeye1_is_taken_on_in_training_and_off_in_sampling():
    plain, scaled = build(timesteps=10), build(timesteps=10, image_scale=5.0)
    brain, image, noise, times = draw(2, 7, 24), draw(2, 7, 24, seed=2), draw(2, 7, 24, seed=3), torch.tensor([1, 8])
    with torch.no_grad():
        torch.testing.assert_close(
            scaled.loss(brain, image, times, noise)[0], plain.loss(brain, 5 * image, times, noise)[0]
        )
    shape = brain.shape
    torch.testing.assert_close(5 * scaled.sample(brain, noises(shape), 10), plain.sample(brain, noises(shape), 10))


def test_conditions_are_dropped_each_by_itself():
    prior = build(brain_drop=0.2, image_drop=0.5)
    brain, image = prior.draw_keep(20_000, torch.Generator().manual_seed(0))
    again, _ = prior.draw_keep(20_000, torch.Generator().manual_seed(0))
    assert brain.float().mean() == pytest.approx(0.8, abs=0.02)
    assert image.float().mean() == pytest.approx(0.5, abs=0.02)
    assert (brain & image).float().mean() == pytest.approx(0.4, abs=0.02)
    assert torch.equal(brain, again)


def test_half_precision_leaves_positions_and_schedule_alone():
    exact, half = (build(tokens=300).to(dtype) for dtype in (torch.float32, torch.bfloat16))
    assert half.net.learned_query.dtype == torch.bfloat16
    _, *angles = half.net.causal_transformer.position(601)
    _, *expected = exact.net.causal_transformer.position(601)
    assert all(map(torch.equal, angles, expected))
    assert all(torch.equal(half.noise_scheduler.get_buffer(name), value) for name, value in cosine_buffers(100).items())


def test_half_precision_keeps_the_answer_and_the_state_of_the_solver():
    exact, half = (build(tokens=300).to(dtype) for dtype in (torch.float32, torch.bfloat16))
    brain, seen = draw(1, 300, 24), []
    half.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    # One call: a network with random weights, fed its own output, drifts as chaos does.
    found = half.sample(brain.bfloat16(), noises(brain.shape), steps=2)
    expected = exact.sample(brain, noises(brain.shape), steps=2)
    assert {found.dtype, *seen} == {torch.float32}
    assert F.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.999


def test_constants_come_back_exact_from_half_precision_and_from_nothing():
    exact = build()
    back = build().to(torch.float16).to(torch.float32)
    with torch.device("meta"):
        empty = PriorConfig(**SMALL).build()
    empty.to_empty(device="cpu")
    name = "layers.0.0.rotary_emb.freqs"
    for other in (back, empty):
        assert torch.equal(
            other.net.causal_transformer.get_parameter(name), exact.net.causal_transformer.get_parameter(name)
        )
        assert torch.equal(other.noise_scheduler.betas, exact.noise_scheduler.betas)


@pytest.mark.parametrize("assign", [False, True])
def test_rounded_constants_of_a_file_are_made_exact(assign):
    exact = build()
    with torch.device("meta" if assign else "cpu"):
        other = PriorConfig(**SMALL).build()
    other.load_state_dict({name: value.bfloat16() for name, value in exact.state_dict().items()}, assign=assign)
    assert torch.equal(other.noise_scheduler.alphas_cumprod, exact.noise_scheduler.alphas_cumprod)
    freqs = other.net.causal_transformer.get_parameter("layers.1.0.rotary_emb.freqs")
    assert torch.equal(freqs, rotary_freqs(12)["freqs"])
    assert not freqs.requires_grad


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("noise_scheduler.betas", lambda value: value.flip(0)),
        ("noise_scheduler.alphas_cumprod", lambda value: value * math.nan),
        ("net.causal_transformer.layers.1.0.rotary_emb.freqs", lambda value: value / 2),
    ],
)
def test_a_file_with_another_schedule_is_refused(name, change):
    state = build().state_dict()
    with pytest.raises(BadInput, match=name.rpartition(".")[2]):
        build().load_state_dict(state | {name: change(state[name])})


def test_the_rotary_frequencies_are_one_tensor_under_every_layer():
    prior = copy.deepcopy(build())
    layers = prior.net.causal_transformer.layers
    assert layers[0][0].rotary_emb is layers[1][0].rotary_emb
    assert sum(name.endswith("freqs") for name in prior.state_dict()) == 2
    assert sum(name.endswith("freqs") for name, _ in prior.named_parameters()) == 1


@pytest.mark.parametrize(
    "wrong", [{"width": 3}, {"dim": 25}, {"timesteps": 0}, {"brain_drop": 1.0}, {"image_scale": 0}]
)
def test_a_prior_refuses_options_that_make_no_sense(wrong):
    with pytest.raises(ValidationError):
        PriorConfig(**SMALL | wrong)


def test_expected_tokens_need_no_image_and_are_the_mean_that_training_asks_for():
    prior = build(image_scale=2.0)
    brain = draw(3, 7, 24)
    found = prior.expect(brain)
    with torch.no_grad():
        nothing, times = torch.zeros(3, dtype=torch.bool), torch.full((3,), 50)
        _, predicted = prior.loss(brain, draw(3, 7, 24, seed=9), times, draw(3, 7, 24, seed=8), None, nothing)
    # Any image in its place gives the same, for it is left out.
    torch.testing.assert_close(found, predicted / 2)
    with pytest.raises(BadInput, match="brain tokens of shape"):
        prior.expect(brain[:, :5])
