"""The weights of the tiny profile that ship: whole, offline, the same by seed, and no worse than a bound."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from voxelight.models.errors import NotFound
from voxelight.models.records import hash_parts
from voxelight.models.values import ClipTokens
from voxelight.models.weights import WEIGHTS, find_part_sha256, load_part, load_weights, read_words
from voxelight.neuro.evaluate.compared import Compared
from voxelight.neuro.evaluate.judge import Judge, compare_features
from voxelight.neuro.evaluate.metrics.features import load_extractor
from voxelight.neuro.networks import load_networks
from voxelight.neuro.profiles import GenerationOptions, find_profile
from voxelight.neuro.reconstruct import reconstruct, reconstruct_tokens
from voxelight.neuro.retrieve import find_cosine, find_hits
from voxelight.neuro.stages import encode_images
from voxelight.neuro.tiny.recipe import PART_NETWORKS, find_tiny_recipe
from voxelight.neuro.tiny.words import build_vocabulary, caption_class
from voxelight.storage.formats.class_pictures import read_class_pictures

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = Path("/nowhere")
OPTIONS = GenerationOptions(preset="fast", dtype="float32")
SHIPPED = tuple(name for name in WEIGHTS if name.startswith("tiny-"))
MOST_BYTES = 24_000_000


@pytest.fixture(scope="module")
def profile():
    return find_profile("tiny")


@pytest.fixture(scope="module")
def networks(profile):
    parts = (*profile.list_parts(OPTIONS), "image_encoder")
    return load_networks(profile, NOWHERE, OPTIONS, "cpu", parts)


@pytest.fixture(scope="module")
def betas():
    return load_weights("tiny-sample")["held_out"].float().numpy()


@pytest.fixture(scope="module")
def decoded(networks, betas):
    return reconstruct(networks, list(betas), range(len(betas)), OPTIONS)


def test_all_files_together_stay_small():
    sizes = [(ROOT / "models" / "shipped" / WEIGHTS[name].file).stat().st_size for name in SHIPPED]
    assert len(sizes) == 6
    assert sum(sizes) <= MOST_BYTES


def test_every_part_comes_from_a_file_that_ships_and_has_its_hash(profile, networks):
    assert set(networks.part_sha256) == set(profile.parts)
    for part, name in profile.weights.items():
        assert networks.part_sha256[part] == find_part_sha256(NOWHERE, name, part) == WEIGHTS[name].sha256
        assert load_part(NOWHERE, name, part)
    assert networks.weights_sha256 == hash_parts(networks.part_sha256)
    with pytest.raises(NotFound, match="'captioner' of tiny-unclip"):
        load_part(NOWHERE, "tiny-unclip", "captioner")


def test_the_profile_has_the_sizes_of_its_recipe(profile):
    recipe = find_tiny_recipe()
    for part in PART_NETWORKS:
        assert profile.parts[part].build_config() == recipe.build_config(part)
    decoder = profile.parts["decoder"].build_config()
    asked = recipe.subject.find_decoder(recipe.seed).config
    assert (decoder.hidden, decoder.tokens, decoder.dim) == (asked["hidden"], asked["tokens"], asked["dim"])
    assert (profile.side, decoder.voxels) == (recipe.side, (recipe.subject.voxels,))


def test_a_simulated_subject_is_called_so(profile):
    assert profile.simulated
    assert all("simulated" in subject for subject in profile.subjects)
    assert "SIMULATED" in profile.summary


def test_the_vocabulary_is_that_of_the_classes():
    words = read_words("tiny-captions")
    assert words["vocabulary"] == build_vocabulary(words["classes"])
    assert len(words["classes"]) == 200


def test_captions_are_of_one_form_and_name_a_class(decoded):
    allowed = {caption_class(name) for name in read_words("tiny-captions")["classes"]}
    assert sum(result.caption in allowed for result in decoded) >= 15
    assert all(result.caption.startswith("a photo of a ") for result in decoded)


def test_the_same_seed_gives_the_same_picture_and_another_seed_another(networks, betas, decoded):
    again = reconstruct(networks, list(betas[:2]), [0, 7], OPTIONS)
    np.testing.assert_array_equal(again[0].tokens, decoded[0].tokens)
    np.testing.assert_allclose(again[0].image, decoded[0].image, atol=1e-4)
    assert np.abs(again[1].image - decoded[1].image).max() > 0.05


@pytest.fixture(scope="module")
def shown(shared_data):
    found = read_class_pictures(shared_data / "tiny_imagenet_64", read_words("tiny-sample")["held_out"])
    return found, found.pixels.transpose(0, 2, 3, 1).astype(np.float32) / np.float32(255)


def test_pictures_kept_aside_are_told_apart_and_named(networks, profile, decoded, shown):
    pictures, images = shown
    true = encode_images(networks, torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    tokens = ClipTokens(true, profile.space)
    cosine = find_cosine(ClipTokens(np.stack([result.retrieval for result in decoded]), profile.space), tokens)
    assert find_hits(cosine).mean() >= 0.5  # chance 1/16
    drawn = reconstruct_tokens(networks, tokens, range(len(images)), OPTIONS)
    judge = Judge(load_extractor())

    def identify(results):
        compared: Compared = compare_features(judge, np.stack([result.image for result in results])[None], images)
        return float(compared.score()["lite_two_way"].mean())

    assert identify(drawn) >= 0.9
    assert identify(decoded) >= 0.55  # chance 0.5: the prior is the weak part
    names = [caption_class(pictures.names[label]) for label in pictures.labels]
    right = sum(result.caption == name for result, name in zip(drawn, names, strict=True))
    assert right >= 3  # of 16; a constant caption has one at most


def test_the_figures_that_are_published_name_these_weights():
    figures = json.loads((ROOT / "tests" / "benchmarks" / "tiny.json").read_text(encoding="utf-8"))
    assert figures["simulated"]
    assert figures["weights_sha256"] == {name: WEIGHTS[name].sha256 for name in SHIPPED}
    assert figures["guidance"] == find_profile("tiny").guidance
