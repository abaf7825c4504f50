"""Profiles: what is shipped fits together, and nonsense is refused."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from voxelight.models.errors import NotFound
from voxelight.models.published import find_published
from voxelight.models.registry import NETWORKS
from voxelight.neuro.profiles import PARTS, GenerationOptions, Profile, find_profile, list_profiles


def test_the_shipped_profiles_are_listed():
    assert {"mindeye2", "random-small"} <= set(list_profiles())
    with pytest.raises(NotFound, match="one of mindeye1, mindeye2, random-small"):
        find_profile("mindeye3")


@pytest.mark.parametrize("name", list_profiles())
def test_every_part_names_a_network_and_its_options(name):
    profile = find_profile(name)
    assert set(profile.parts) <= set(PARTS)
    for part in profile.parts.values():
        assert part.network in NETWORKS
        assert part.build_config()


@pytest.mark.parametrize("name", list_profiles())
def test_the_parts_fit_each_other(name):
    config = {part: choice.build_config() for part, choice in find_profile(name).parts.items()}
    tokens = (config["decoder"].tokens, config["decoder"].dim)
    assert (config["decoder"].prior.tokens, config["decoder"].prior.dim) == tokens
    encoder = config["image_encoder"]
    assert (encoder.tokens, encoder.dim if "variation" in config else encoder.width) == tokens
    if "variation" in config:
        assert config["variation"].context_dim == tokens[1]
        assert config["low_level"].voxels == config["decoder"].voxels
        return
    assert (config["converter"].tokens_in, config["converter"].dim_in) == tokens
    assert (config["captioner"].tokens, config["captioner"].dim_in) == (
        config["converter"].tokens_out,
        config["converter"].dim_out,
    )
    assert config["unclip"].context_dim == tokens[1]
    assert config["unclip"].vector_dim == 4 * 256
    for part in {"text", "refiner_text"} & set(config):
        assert config["refiner"].context_dim == config[part].context_dim
        assert config["refiner"].vector_dim == config[part].pooled_dim + 6 * 256


@pytest.mark.parametrize("name", ["mindeye1", "mindeye2"])
def test_the_published_profile_names_published_weights_that_give_its_parts(name):
    profile = find_profile(name)
    assert not profile.random_weights
    for part, name in profile.weights.items():
        sizes = find_published(name).parts[part]
        assert sizes.network == profile.parts[part].network
        whole = profile.parts[part].build_config()
        assert type(whole)(**sizes.config) == whole, part


@pytest.mark.parametrize("module", ["voxelight.neuro.profiles", "voxelight.neuro.retrieve"])
def test_asking_loads_no_network(tmp_path, module):
    code = f"import sys, {module}; print(sorted({{'torch', 'diffusers', 'transformers'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"


def test_the_published_profile_has_the_published_numbers():
    profile = find_profile("mindeye2")
    assert (profile.voxels, profile.prior_steps, profile.side, profile.result_side) == (15724, 20, 768, 256)
    assert (profile.target_side, profile.refined_share, profile.latent_shape) == (1024, 0.75, (4, 96, 96))
    scales = [profile.parts[part].build_config().scale for part in ("autoencoder", "refiner_autoencoder", "blurry")]
    assert scales == [0.13025, 0.13025, 0.18215]


def test_every_subject_has_its_own_decoder():
    profile = find_profile("mindeye2")
    for subject, chosen in profile.subjects.items():
        theirs = profile.select_subject(subject)
        assert theirs.voxels == chosen.voxels
        assert find_published(theirs.weights["decoder"]).parts["decoder"].config["voxels"] == (chosen.voxels,)
        assert theirs.weights["unclip"] == profile.weights["unclip"]
    assert {name: profile.subjects[name].voxels for name in ("subj01", "subj02", "subj05", "subj07")} == {
        "subj01": 15724,
        "subj02": 14278,
        "subj05": 13039,
        "subj07": 12682,
    }
    with pytest.raises(NotFound, match="'subj03'"):
        profile.select_subject("subj03")


def test_random_weights_are_called_so():
    profile = find_profile("random-small")
    assert profile.random_weights
    assert "random" in profile.title.lower()
    assert "mean nothing" in profile.summary


@pytest.mark.parametrize(
    "change",
    [
        {"random_seed": None},
        {"weights": {"decoder": "final_subj01_pretrained_40sess_24bs"}},
        {"parts": {}},
        {"parts": {name: part for name, part in find_profile("random-small").parts.items() if name != "refiner_text"}},
        {"refined_share": 1.5},
        {"unknown": 1},
    ],
    ids=[
        "neither weights nor seed",
        "weights and seed",
        "no parts",
        "half a refinement",
        "a share above one",
        "an unknown key",
    ],
)
def test_a_profile_that_does_not_hold_together_is_refused(change):
    with pytest.raises(ValidationError):
        Profile.model_validate({**find_profile("random-small").model_dump(), **change})


def test_options_refuse_what_they_do_not_know():
    for wrong in ({"stop": "images"}, {"samples": 0}, {"dtype": "int8"}, {"memory": "12"}, {"batches": 2}):
        with pytest.raises(ValidationError):
            GenerationOptions(**wrong)


def test_a_stop_needs_the_parts_of_all_stages_before_it():
    parts = [set(GenerationOptions(stop=stop).parts) for stop in ("tokens", "caption", "unrefined", "refined")]
    assert parts[0] == {"decoder", "low_level"}
    assert parts[0] < parts[1] < parts[2] < parts[3] == set(PARTS) - {"image_encoder"}


def test_a_profile_without_refinement_stops_before_it():
    profile = find_profile("random-small")
    kept = {"decoder", "converter", "captioner", "unclip", "autoencoder", "image_encoder"}
    small = Profile.model_validate(
        {
            **profile.model_dump(),
            "parts": {name: part for name, part in profile.model_dump()["parts"].items() if name in kept},
        }
    )
    options = GenerationOptions(samples=3)
    assert small.limit(options) == GenerationOptions(samples=3, stop="unrefined")
    assert set(small.list_parts(options)) == kept - {"image_encoder"}
    assert profile.limit(options) is options
    assert profile.list_parts(options) == tuple(part for part in options.parts if part in profile.parts)
    assert small.limit(GenerationOptions(stop="caption")).stop == "caption"
