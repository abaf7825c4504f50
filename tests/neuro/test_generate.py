"""From betas to images and captions at a small size with random weights: what a result depends on, and on what not."""

import hashlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from voxelight.models.captioning.vocabulary import small_vocabulary
from voxelight.models.clip.text import NEGATIVE_PROMPT
from voxelight.models.diffusion.noise import SeededNoise
from voxelight.models.diffusion.presets import PRESETS
from voxelight.models.diffusion.schedules import all_sigmas, edm_timesteps
from voxelight.models.diffusion.unet import size_vector
from voxelight.models.errors import BadInput, Unavailable
from voxelight.models.records import Manifest, PartRecord, StoredFile, write_record
from voxelight.models.shards import Entry, plan_shards, write_shard
from voxelight.models.values import ClipTokens
from voxelight.models.weights import find_part_sha256
from voxelight.neuro import stages
from voxelight.neuro.networks import fill_random, load_networks
from voxelight.neuro.profiles import GenerationOptions, find_profile
from voxelight.neuro.reconstruct import derive_seed, reconstruct, reconstruct_tokens
from voxelight.storage.cache import StageCache

pytestmark = pytest.mark.usefixtures("one_thread")

FULL = GenerationOptions(dtype="float32", preset="fast", prior_steps=6)
PUBLISHED = GenerationOptions(dtype="float32")
NOWHERE = Path("no weights are read here")
PICTURES = ("blurry", "unrefined", "refined", "image")
ARRAYS = ("tokens", "retrieval", *PICTURES)
# Of images in float32: rounding differs between batches and grows along the steps.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def networks(one_thread):
    return load_networks(find_profile("random-small"), NOWHERE, FULL, "cpu")


@pytest.fixture(scope="module")
def trials():
    """Three images of three, one and two repeats."""
    random = np.random.default_rng(0)
    return [random.standard_normal((repeats, 1200), dtype=np.float32) for repeats in (3, 1, 2)]


@pytest.fixture(scope="module")
def decoded(networks, trials):
    return reconstruct(networks, trials, [11, 12, 13], FULL)


@contextmanager
def counting(networks):
    """Count the calls of the networks that take most of the time."""
    calls = Counter()
    watched = {
        "decoder": networks.parts["decoder"],
        "prior": networks.parts["decoder"].diffusion_prior.net,
        **{part: networks.parts[part] for part in ("converter", "unclip", "refiner", "text")},
    }

    def count(name):
        return lambda *_: calls.update([name])

    handles = [module.register_forward_hook(count(name)) for name, module in watched.items()]
    yield calls
    for handle in handles:
        handle.remove()


def assert_same(one, other, names=ARRAYS, tolerance=TOLERANCE):
    assert one.caption == other.caption
    for name in names:
        first, second = getattr(one, name), getattr(other, name)
        assert np.abs(first - second).max() < tolerance, name


def test_a_result_holds_every_stage(decoded):
    for result in decoded:
        assert result.image.shape == result.unrefined.shape == result.refined.shape == (64, 64, 3)
        assert result.blurry.shape == (224, 224, 3)
        assert result.tokens.shape == result.retrieval.shape == (16, 64)
        for name in ARRAYS:
            values = getattr(result, name)
            assert values.dtype == np.float32
            assert np.isfinite(values).all()
            assert values.std() > 0.01, name
        for name in PICTURES:
            assert getattr(result, name).min() >= 0
            assert getattr(result, name).max() <= 1
        assert result.caption


def test_results_say_that_the_weights_are_random(decoded, networks):
    assert all(result.random_weights for result in decoded)
    assert {result.weights_sha256 for result in decoded} == {networks.weights_sha256}
    assert {result.space for result in decoded} == {"random-small/last_ln_post"}


def test_a_result_does_not_depend_on_its_batch(networks, trials, decoded):
    for trial, seed, together in zip(trials, (11, 12, 13), decoded, strict=True):
        (alone,) = reconstruct(networks, [trial], [seed], FULL)
        assert_same(alone, together)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tokens_are_the_same_to_the_bit_whoever_comes_along(trials, dtype):
    """Nineteen steps that feed on themselves would make a difference of 1 out of one rounding in half precision."""
    options = FULL.model_copy(update={"stop": "caption", "dtype": dtype, "prior_steps": 20})
    networks = load_networks(find_profile("random-small"), NOWHERE, options, "cpu")
    random = np.random.default_rng(5)
    others = [random.standard_normal((repeats, 1200), dtype=np.float32) for repeats in (3, 2, 3, 1, 2, 3, 3, 9)]
    crowd = reconstruct(networks, [*others[:5], *trials, *others[5:]], range(11), options)
    for place, trial in enumerate(trials, 5):
        (alone,) = reconstruct(networks, [trial], [place], options)
        assert np.array_equal(alone.tokens, crowd[place].tokens)
        assert np.array_equal(alone.retrieval, crowd[place].retrieval)
        assert alone.caption == crowd[place].caption


def test_a_result_does_not_depend_on_the_order(networks, trials, decoded):
    turned = reconstruct(networks, trials[::-1], [13, 12, 11], FULL)
    for one, other in zip(turned, decoded[::-1], strict=True):
        assert one.seed == other.seed
        assert_same(one, other)


def test_batches_inside_a_call_change_nothing(networks, trials, decoded):
    by_two = replace(networks, plan=replace(networks.plan, batch=2))
    for one, other in zip(reconstruct(by_two, trials, [11, 12, 13], FULL), decoded, strict=True):
        assert_same(one, other)


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_image(networks, trials, decoded):
    again = reconstruct(networks, trials, [11, 12, 13], FULL)
    for one, other in zip(again, decoded, strict=True):
        assert_same(one, other, tolerance=1e-12)
    (other,) = reconstruct(networks, trials[:1], [99], FULL)
    assert np.abs(other.image - decoded[0].image).max() > 0.1
    assert np.abs(other.retrieval - decoded[0].retrieval).max() < 1e-5  # nothing is drawn before the prior


def test_samples_are_runs_with_seeds_of_their_own(networks, trials, decoded):
    three = FULL.model_copy(update={"samples": 3})
    results = reconstruct(networks, trials[:2], [11, 12], three)
    assert [result.seed for result in results] == [
        derive_seed(seed, sample) for seed in (11, 12) for sample in range(3)
    ]
    assert len({result.seed for result in results}) == 6
    assert_same(results[0], decoded[0])
    assert_same(results[3], decoded[1])
    (second,) = reconstruct(networks, trials[:1], [derive_seed(11, 1)], FULL)
    assert_same(results[1], second)
    assert np.abs(results[1].image - results[0].image).max() > 0.1


@pytest.mark.parametrize("stop", ["tokens", "caption", "unrefined"])
def test_a_stop_loads_less_and_gives_the_same_so_far(networks, trials, decoded, stop):
    options = FULL.model_copy(update={"stop": stop})
    fewer = load_networks(find_profile("random-small"), NOWHERE, options, "cpu")
    assert set(fewer.parts) == set(fewer.profile.list_parts(options)) < set(networks.parts)
    results = reconstruct(fewer, trials, [11, 12, 13], options)
    for result, whole in zip(results, decoded, strict=True):
        there = {"tokens": 2, "caption": 2, "unrefined": 4}[stop]
        for name in ARRAYS[:there]:
            assert np.array_equal(getattr(result, name), getattr(whole, name)), name
        assert result.refined is None
        assert result.caption == (None if stop == "tokens" else whole.caption)
        if stop == "unrefined":
            assert np.array_equal(result.image, result.unrefined)  # 64 pixels both in this profile
        else:
            assert (result.image, result.unrefined, result.blurry) == (None, None, None)


def test_networks_that_do_not_reach_the_stop_are_refused(trials):
    options = FULL.model_copy(update={"stop": "tokens"})
    fewer = load_networks(find_profile("random-small"), NOWHERE, options, "cpu")
    with pytest.raises(BadInput, match="networks without"):
        reconstruct(fewer, trials, [1, 2, 3], FULL)


def test_missing_repeats_are_filled_as_published(networks):
    """Two repeats stand for first, second, first; one for three of itself; outputs are averaged, not voxels."""
    first, second = np.random.default_rng(1).standard_normal((2, 1200), dtype=np.float32)
    for given, meant in (([first, second], [first, second, first]), ([first], [first] * 3)):
        filled = stages.decode_voxels(networks, [np.stack(given)])
        rows = torch.from_numpy(np.stack(meant))[:, None]
        with torch.no_grad():
            each = networks.parts["decoder"](rows)
        assert torch.allclose(filled.tokens[0], each.tokens.mean(0), atol=1e-5)
        assert torch.allclose(filled.retrieval[0], each.retrieval.mean(0), atol=1e-5)
        assert torch.allclose(filled.blurry_latent[0], each.blurry_latent.mean(0), atol=1e-5)
    with torch.no_grad():
        of_mean = networks.parts["decoder"](torch.from_numpy((2 * first + second) / 3)[None, None])
    mixed = stages.decode_voxels(networks, [np.stack([first, second])])
    assert torch.allclose(of_mean.tokens[0], mixed.tokens[0], atol=1e-4)  # the backbone is affine
    assert not torch.allclose(of_mean.retrieval[0], mixed.retrieval[0], atol=1e-3)  # the projector is not


def guided_euler(unet, x, sigmas, context, vector, uncond_context, uncond_vector, scale=5.0):
    """The published loop, in ten lines of its own."""
    for here, there in pairwise(sigmas):
        time = edm_timesteps(here[None])
        scaled = x / (here**2 + 1).sqrt()

        def predict(tokens, size, scaled=scaled, time=time):
            return unet(scaled, time, encoder_hidden_states=tokens, class_labels=size, return_dict=False)[0]

        uncond, cond = predict(uncond_context, uncond_vector), predict(context, vector)
        x = x + (there - here) * (uncond + scale * (cond - uncond))
    return x


@torch.no_grad()
def test_the_stages_are_the_published_ones(networks, trials):
    """One image again, from the networks themselves and the text of the specification."""
    (result,) = reconstruct(networks, trials[:1], [7], PUBLISHED)
    tokens, parts = torch.from_numpy(result.tokens)[None], networks.parts

    def draw(stage, *shape):
        return SeededNoise([7], stage).draw(*shape)

    table = all_sigmas()
    sigmas = torch.cat([table[np.linspace(999, 0, 38, endpoint=False).astype(int)], torch.zeros(1)])
    noise = draw("unclip noise", 4, 8, 8) + 0.04 * draw("unclip offset")[:, None, None, None]
    x = draw("unclip start", 4, 8, 8) + noise * sigmas[0]
    sizes = size_vector(64, 64, 0, 0)
    x = guided_euler(parts["unclip"], x, sigmas, tokens, sizes, draw("unclip unconditional tokens", 16, 64), sizes)
    decoded = parts["autoencoder"].vae.decode(x / 0.13025).sample
    unrefined = (0.8 * decoded + 0.2).clamp(0, 1)
    assert np.abs(unrefined[0].permute(1, 2, 0).numpy() - result.unrefined).max() < TOLERANCE

    posterior = parts["refiner_autoencoder"].vae.encode(2 * unrefined - 1).latent_dist
    z = (posterior.mean + posterior.std * draw("refinement posterior", 4, 8, 8)) * 0.13025
    sigmas = torch.cat([table[np.linspace(999, 0, 25, endpoint=False).astype(int)], torch.zeros(1)])[13:]
    assert len(sigmas) == 13
    context, pooled = parts["text"]([result.caption])
    avoided_context, avoided_pooled = networks.negative
    sizes = size_vector(64, 64, 0, 0, 64, 64)
    vectors = [torch.cat([one, sizes], dim=1) for one in (pooled, avoided_pooled)]
    start = z + sigmas[0] * draw("refinement noise", 4, 8, 8)
    x = guided_euler(parts["refiner"], start, sigmas, context, vectors[0], avoided_context, vectors[1])
    refined = ((parts["refiner_autoencoder"].vae.decode(x / 0.13025).sample + 1) / 2).clamp(0, 1)
    assert np.abs(refined[0].permute(1, 2, 0).numpy() - result.refined).max() < TOLERANCE

    brain = parts["decoder"](torch.from_numpy(trials[0])[:, None])
    blurry = parts["blurry"].vae.decode(brain.blurry_latent.mean(0, keepdim=True) / 0.18215).sample
    blurry = (blurry / 2 + 0.5).clamp(0, 1)
    assert np.abs(blurry[0].permute(1, 2, 0).numpy() - result.blurry).max() < TOLERANCE
    blended = 0.75 * refined + 0.25 * F.interpolate(blurry, size=64, mode="bilinear", antialias=False)
    assert np.abs(blended[0].permute(1, 2, 0).numpy() - result.image).max() < TOLERANCE


def test_the_negative_prompt_is_said_by_the_encoders_of_the_refiner(networks):
    whole = load_networks(find_profile("random-small"), NOWHERE, FULL, "cpu", parts=["text"])
    with torch.no_grad():
        context, _ = whole.parts["text"]([NEGATIVE_PROMPT])
    assert networks.negative[0].shape == context.shape
    assert not torch.allclose(networks.negative[0], context, atol=1e-2)  # other encoders, other weights
    assert "refiner_text" not in networks.parts


def test_networks_without_a_negative_prompt_do_not_refine(networks, trials):
    with pytest.raises(BadInput, match="refiner_text"):
        reconstruct(replace(networks, negative=None), trials[:1], [1], FULL)


def test_steps_are_told_and_counted(networks, trials):
    told = []
    with counting(networks) as calls:
        reconstruct(networks, trials, [1, 2, 3], PUBLISHED, on_step=lambda done, total: told.append((done, total)))
    assert calls == {"decoder": 1, "prior": 19, "converter": 1, "unclip": 38, "refiner": 12, "text": 1}
    done, totals = zip(*told, strict=True)
    assert set(totals) == {19 + 38 + 12}
    assert list(done) == sorted(done)
    assert set(done) == set(range(70))


@pytest.mark.parametrize(("when", "network"), [(5, "prior"), (30, "unclip"), (62, "refiner")])
def test_a_run_ends_at_the_step_that_is_refused(networks, trials, when, network):
    class StopItError(Exception):
        pass

    def on_step(done, _):
        if done >= when:
            before.update(calls)
            raise StopItError

    before = Counter()
    with counting(networks) as calls, pytest.raises(StopItError):
        reconstruct(networks, trials, [1, 2, 3], PUBLISHED, on_step=on_step)
    assert before == calls
    assert calls["prior"] + calls["unclip"] + calls["refiner"] == when
    assert calls[network]


def test_a_device_that_runs_out_of_memory_is_explained(networks, trials):
    def on_step(done, _):
        if done == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(Unavailable, match="a batch of 2, or a smaller memory") as refusal:
        reconstruct(networks, trials, [1, 2, 3], FULL, on_step=on_step)
    assert "4 images at once (CUDA out of memory)" in str(refusal.value)


def test_stages_that_were_kept_are_read(networks, trials, decoded, tmp_path):
    cache = StageCache(tmp_path)
    first = reconstruct(networks, trials, [11, 12, 13], FULL, cache=cache)
    assert len(list(tmp_path.iterdir())) == 6
    with counting(networks) as calls:
        second = reconstruct(networks, trials, [11, 12, 13], FULL, cache=cache)
    assert calls["decoder"] == calls["prior"] == calls["unclip"] == 0
    assert calls["refiner"] > 0
    for one, two, fresh in zip(first, second, decoded, strict=True):
        assert_same(one, two, tolerance=1e-12)
        assert_same(one, fresh, tolerance=1e-12)


def test_only_what_is_missing_is_computed(networks, trials, decoded, tmp_path):
    cache = StageCache(tmp_path)
    reconstruct(networks, trials[:1], [11], FULL.model_copy(update={"stop": "tokens"}), cache=cache)
    with counting(networks) as calls:
        results = reconstruct(networks, trials, [11, 12, 13], FULL, cache=cache)
    assert calls["decoder"] == 1
    for one, other in zip(results, decoded, strict=True):
        assert_same(one, other)
    with counting(networks) as calls:
        reconstruct(networks, trials[:1], [11], FULL, cache=cache)
    assert calls["prior"] == calls["unclip"] == 0


@pytest.mark.parametrize(
    "change",
    [{"seed": 12}, {"betas": 1e-3}, {"prior_steps": 5}, {"preset": "published"}],
    ids=lambda change: next(iter(change)),
)
def test_another_question_is_not_answered_from_the_cache(networks, trials, tmp_path, change):
    cache = StageCache(tmp_path)
    reconstruct(networks, trials[:1], [11], FULL, cache=cache)
    options = FULL.model_copy(update={key: value for key, value in change.items() if hasattr(FULL, key)})
    with counting(networks) as calls:
        reconstruct(networks, [trials[0] + change.get("betas", 0)], [change.get("seed", 11)], options, cache=cache)
    assert calls["unclip"] > 0
    assert (calls["prior"] > 0) == ("preset" not in change)  # tokens do not depend on how images are sampled


def test_a_damaged_entry_is_computed_again(networks, trials, decoded, tmp_path):
    cache = StageCache(tmp_path)
    reconstruct(networks, trials, [11, 12, 13], FULL, cache=cache)
    for path in tmp_path.iterdir():
        content = bytearray(path.read_bytes())
        content[-3] ^= 0xFF
        path.write_bytes(content)
    with counting(networks) as calls:
        again = reconstruct(networks, trials, [11, 12, 13], FULL, cache=cache)
    assert calls["decoder"] == 1
    assert calls["unclip"] == PRESETS["fast"].steps
    for one, other in zip(again, decoded, strict=True):
        assert_same(one, other, tolerance=1e-12)


def test_tokens_of_elsewhere_are_generated_from(networks, decoded):
    tokens = ClipTokens(np.stack([result.tokens for result in decoded]), "random-small/last_ln_post")
    for one, whole in zip(reconstruct_tokens(networks, tokens, [11, 12, 13], FULL), decoded, strict=True):
        assert one.retrieval is None
        assert one.blurry is None
        assert np.array_equal(one.image, one.refined)  # there is nothing to blend it with
        assert_same(one, whole, ["tokens", "unrefined", "refined"])


def test_tokens_need_no_decoder(decoded):
    options = FULL.model_copy(update={"stop": "caption"})
    fewer = load_networks(find_profile("random-small"), NOWHERE, options, "cpu", parts=["converter", "captioner"])
    tokens = ClipTokens(decoded[0].tokens[None], "random-small/last_ln_post")
    (result,) = reconstruct_tokens(fewer, tokens, [11], options)
    assert result.caption == decoded[0].caption


def test_tokens_of_another_space_are_refused(networks):
    tokens = np.zeros((1, 16, 64), np.float32)
    with pytest.raises(BadInput, match="tokens of the space ViT-L-14"):
        reconstruct_tokens(networks, ClipTokens(tokens, "ViT-L-14/openai/last"), [1], FULL)
    with pytest.raises(BadInput, match=r"shape \(1, 17, 64\)"):
        reconstruct_tokens(networks, ClipTokens(np.zeros((1, 17, 64)), "random-small/last_ln_post"), [1], FULL)
    tokens[0, 3, 5] = np.nan
    with pytest.raises(BadInput, match="1 of their values not finite"):
        reconstruct_tokens(networks, ClipTokens(tokens, "random-small/last_ln_post"), [1], FULL)


def test_betas_that_do_not_fit_are_refused_before_any_work(networks, trials):
    broken = trials[0].copy()
    broken[1, 17] = np.nan
    with counting(networks) as calls:
        with pytest.raises(BadInput, match="1 betas of image 1 that are NaN"):
            reconstruct(networks, [trials[0], broken], [1, 2], FULL)
        with pytest.raises(BadInput, match="1199 voxels for image 0"):
            reconstruct(networks, [trials[0][:, 1:]], [1], FULL)
        with pytest.raises(BadInput, match=r"shape \(0, 1200\)"):
            reconstruct(networks, [trials[0][:0]], [1], FULL)
        with pytest.raises(BadInput, match="2 seeds for 3 images"):
            reconstruct(networks, trials, [1, 2], FULL)
        with pytest.raises(BadInput, match="0 seeds for 0 images"):
            reconstruct(networks, [], [], FULL)
    assert not calls


def test_weights_that_are_not_there_are_named_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "__init__", lambda *_: pytest.fail("a network was built"))
    with pytest.raises(Unavailable, match=r"voxelight weights fetch final_subj01_pretrained_40sess_24bs"):
        load_networks(find_profile("mindeye2"), tmp_path, FULL, "cpu")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A folder of converted weights, which hold what the random ones are, and a profile that names them."""
    folder, small = tmp_path_factory.mktemp("weights"), find_profile("random-small")
    names = find_profile("mindeye2").weights
    parts = {name: {} for name in names.values()}
    for part, name in names.items():
        module = small.parts[part].build_config().build()
        fill_random(module, small.random_seed, part)
        entries = [Entry(key, value, value.dtype) for key, value in module.state_dict().items()]
        (folder / name).mkdir(exist_ok=True)
        files = [
            write_shard(folder / name / file, shard, {}) for file, shard in plan_shards(part, entries, 1 << 20).items()
        ]
        choice = small.parts[part]
        parts[name][part] = PartRecord(
            network=choice.network,
            config=choice.config,
            tensors=len(entries),
            elements=sum(entry.tensor.numel() for entry in entries),
            files=tuple(files),
        )
    words = "\n".join(small_vocabulary()).encode() + b"\n"
    for name, records in parts.items():
        vocabulary = None
        if "captioner" in records:
            (folder / name / "vocab.txt").write_bytes(words)
            vocabulary = StoredFile(file="vocab.txt", sha256=hashlib.sha256(words).hexdigest(), size=len(words))
        manifest = Manifest(
            name=name,
            dtype="keep",
            time=datetime.now(UTC),
            sources=(),
            accepted=(),
            parts=records,
            vocabulary=vocabulary,
        )
        write_record(folder / name / "manifest.json", manifest)
    return folder, small.model_copy(update={"random_seed": None, "weights": names})


def test_converted_weights_do_what_they_did(converted, trials, decoded):
    folder, profile = converted
    loaded = load_networks(profile, folder, FULL, "cpu")
    for one, other in zip(reconstruct(loaded, trials, [11, 12, 13], FULL), decoded, strict=True):
        assert_same(one, other, tolerance=1e-12)
        assert not one.random_weights
        assert one.weights_sha256 != other.weights_sha256
    hashes = {part: find_part_sha256(folder, profile.weights[part], part) for part in profile.list_parts(FULL)}
    assert loaded.part_sha256 == hashes


def test_weights_of_another_size_are_refused(converted):
    folder, profile = converted
    wider = profile.parts["converter"].model_copy(update={"config": {"tokens_in": 16, "dim_in": 64, "tokens_out": 18}})
    other = profile.model_copy(update={"parts": {**profile.parts, "converter": wider}})
    with pytest.raises(BadInput, match="of another shape"):
        load_networks(other, folder, FULL.model_copy(update={"stop": "caption"}), "cpu")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_what_would_break(trials, dtype):
    """Half precision changes the result by its rounding; the autoencoders of float16 stay in float32."""
    options = FULL.model_copy(update={"dtype": dtype, "prior_steps": 3, "stop": "unrefined"})
    halved = load_networks(find_profile("random-small"), NOWHERE, options, "cpu")
    assert next(halved.parts["unclip"].parameters()).dtype == getattr(torch, dtype)
    expected = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    assert next(halved.parts["autoencoder"].parameters()).dtype == expected
    assert halved.parts["decoder"].diffusion_prior.noise_scheduler.betas.dtype == torch.float32
    (result,) = reconstruct(halved, trials[:1], [11], options)
    assert result.image.dtype == np.float32
    assert np.isfinite(result.image).all()
    exact = load_networks(find_profile("random-small"), NOWHERE, FULL.model_copy(update={"stop": "tokens"}), "cpu")
    (reference,) = reconstruct(exact, trials[:1], [11], FULL.model_copy(update={"stop": "tokens"}))
    assert np.corrcoef(result.retrieval.ravel(), reference.retrieval.ravel())[0, 1] > 0.999


def test_parts_that_are_offloaded_visit_and_return(networks, trials, decoded):
    away = replace(networks, plan=replace(networks.plan, offloaded=frozenset(networks.parts), sliced_decode=True))
    before = {name: [one.data_ptr() for one in part.parameters()] for name, part in networks.parts.items()}
    for one, other in zip(reconstruct(away, trials, [11, 12, 13], FULL), decoded, strict=True):
        assert_same(one, other)
    assert before == {name: [one.data_ptr() for one in part.parameters()] for name, part in networks.parts.items()}


def test_random_weights_are_those_of_the_seed(networks):
    options = FULL.model_copy(update={"stop": "caption"})
    profile = find_profile("random-small")
    same, other = (
        load_networks(profile.model_copy(update={"random_seed": seed}), NOWHERE, options, "cpu") for seed in (0, 1)
    )
    assert same.weights_sha256 == networks.hash_parts(["decoder", "converter", "captioner"])
    assert all(same.part_sha256[part] != other.part_sha256[part] for part in same.parts)


def test_a_profile_of_fewer_parts_ends_with_the_unrefined_image(networks, trials, decoded):
    whole = networks.profile.model_dump()
    kept = {"decoder", "converter", "captioner", "unclip", "autoencoder", "image_encoder"}
    parts = {name: part for name, part in whole["parts"].items() if name in kept}
    small = load_networks(type(networks.profile).model_validate({**whole, "parts": parts}), NOWHERE, FULL, "cpu")
    assert set(small.parts) == kept - {"image_encoder"}
    [first, *_] = reconstruct(small, trials, [11, 12, 13], FULL)
    assert (first.blurry, first.refined) == (None, None)
    np.testing.assert_array_equal(first.image, first.unrefined)
    np.testing.assert_allclose(first.unrefined, decoded[0].unrefined, atol=TOLERANCE)
    assert first.caption == decoded[0].caption


def test_a_profile_may_be_guided_by_its_own_measure(networks, trials, decoded):
    options = GenerationOptions(dtype="float32", preset="fast", prior_steps=6, stop="unrefined")
    own = PRESETS["fast"].guidance
    for guidance, same in ((own, True), (own - 3, False)):
        profile = networks.profile.model_copy(update={"guidance": guidance})
        [found] = reconstruct(replace(networks, profile=profile), trials[:1], [11], options)
        assert np.allclose(found.unrefined, decoded[0].unrefined, atol=TOLERANCE) == same


def test_pictures_of_a_plain_encoder_are_not_washed_out(networks):
    encoder = networks.profile.parts["image_encoder"]
    plain = encoder.model_copy(update={"config": {**encoder.config, "washed_out": False}})
    profile = networks.profile.model_copy(update={"parts": {**networks.profile.parts, "image_encoder": plain}})
    latents = torch.randn(1, *profile.latent_shape, generator=torch.Generator().manual_seed(0))
    raw = networks.parts["autoencoder"].decode(latents).detach()
    washed, clear = (
        stages.decode_unclip(replace(networks, profile=one), latents) for one in (networks.profile, profile)
    )
    torch.testing.assert_close(clear, (raw / 2 + 0.5).clamp(0, 1))
    assert not torch.allclose(clear, washed)
