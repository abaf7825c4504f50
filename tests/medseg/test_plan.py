"""From a data set to a recipe, as nnU-Net plans (Isensee et al. 2021), and back from its file."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from train_worker import make_case

from voxelight.medseg.fingerprint import CaseFacts, Fingerprint, look_at, take_fingerprint
from voxelight.medseg.plan import Wishes, estimate_memory, plan_pooling, plan_recipe
from voxelight.medseg.recipes import list_recipes
from voxelight.medseg.recipes.recipe import LabelRegion
from voxelight.models.errors import BadInput
from voxelight.models.registry import SEGMENTERS, find_config
from voxelight.storage.formats.cases import read_cases
from voxelight.storage.formats.recipes import read_recipe, write_recipe

BRAIN = Fingerprint(
    cases=100, channels=4, spacing=(1.0, 1.0, 1.0), coarse_spacing=(1.0, 1.0, 1.0), shape=(60, 60, 40),
    largest_mm=(60.0, 60.0, 40.0), hounsfield=False, foreground=(0.0, 1.0, 0.5, 0.2), labels={1: 100, 2: 90, 3: 80},
)  # fmt: skip
NARROW = Wishes(network="segresnet", width=8, memory_gib=1.0)


def test_a_fingerprint_is_the_median_of_its_cases():
    facts = [
        CaseFacts((50, 60, 20), (1.0, 1.0, 3.0), 1, 0.0, (1.0, 3.0), frozenset({1})),
        CaseFacts((70, 60, 20), (1.0, 1.0, 3.0), 1, 0.0, (5.0, 7.0), frozenset({1, 2})),
        CaseFacts((60, 60, 10), (1.0, 1.0, 6.0), 1, 0.0, (), frozenset()),
    ]
    found = take_fingerprint(facts)
    assert (found.spacing, found.shape) == ((1.0, 1.0, 3.0), (60, 60, 20))
    assert found.largest_mm == (70.0, 60.0, 60.0)
    assert found.labels == {1: 2, 2: 1}
    assert found.foreground[2:] == pytest.approx((4.0, np.std([1, 3, 5, 7])))
    assert not found.hounsfield


def test_a_real_case_is_looked_at():
    fact = look_at(make_case(0))
    assert (fact.shape, fact.spacing, fact.channels, fact.labels) == ((18,) * 3, (1.0,) * 3, 1, frozenset({1, 2}))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ([], "no case"),
        ([CaseFacts((9, 9, 9), (1, 1, 1), 1, 0, (), frozenset())], "without a label"),
        ([CaseFacts((9, 9, 9), (1, 1, 1), n, 0, (1.0,), frozenset({1})) for n in (1, 2)], "1 and 2 channels"),
    ],
)
def test_what_has_no_fingerprint(facts, said):
    with pytest.raises(BadInput, match=said):
        take_fingerprint(facts)


def test_more_memory_gives_larger_windows_and_then_larger_batches():
    small, large = (plan_recipe(BRAIN, replace(NARROW, network="agunet", memory_gib=gib)) for gib in (0.04, 0.4))
    for plan, gib in ((small, 0.04), (large, 0.4)):
        assert plan.memory_gib <= gib
        factors = plan.recipe.config.get("pooling", [[2, 2, 2]] * (len(plan.recipe.config["filters"]) - 1))
        assert len(factors) > 1
        assert all(side % step == 0 for side, step in zip(plan.recipe.patch, np.prod(factors, axis=0), strict=True))
    assert np.prod(small.recipe.patch) < np.prod(large.recipe.patch)
    assert small.recipe.config["in_channels"] == 4
    assert small.recipe.config["classes"] == 4


def test_the_estimate_is_what_is_kept_for_the_way_back():
    config = {"in_channels": 1, "classes": 3, "filters": (8, 16)}
    found = estimate_memory("agunet", config, (16, 16, 16), 2, half=False) * 2**30
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    network = find_config(SEGMENTERS, "agunet")(**config).build().train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        levels = network.forward_levels(torch.zeros(2, 1, 16, 16, 16))
    weights = {parameter.untyped_storage().data_ptr(): parameter for parameter in network.parameters()}
    real = sum(size for place, size in kept.items() if place not in weights)
    states = sum(parameter.numel() for parameter in network.parameters()) * 20
    assert found == pytest.approx(1.25 * real + states + sum(level.numel() for level in levels) * 16, rel=0.1)


def test_a_far_coarser_axis_keeps_its_own_spacing():
    thick = replace(BRAIN, spacing=(0.5, 0.5, 5.0), coarse_spacing=(0.4, 0.4, 3.5), shape=(100, 100, 9))
    assert plan_recipe(thick, NARROW).recipe.spacing_mm == (0.5, 0.5, 3.5)
    assert plan_recipe(replace(thick, spacing=(0.5, 0.5, 1.0)), NARROW).recipe.spacing_mm == (0.5, 0.5, 1.0)


@pytest.mark.parametrize(
    ("window", "spacing", "strides", "flat_levels"),
    [
        ((128, 128, 128), (1, 1, 1), [[1, 1, 1]] + [[2, 2, 2]] * 5, 0),
        # Short and thick: nnU-Net's rule halves the third axis at the second and third step alone.
        ((256, 224, 20), (1.5625, 1.5625, 5), [[1, 1, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2], [2, 2, 1], [2, 2, 1]], 1),
        ((64, 64, 7), (1, 1, 6), [[1, 1, 1], [2, 2, 1], [2, 2, 1], [2, 2, 1], [2, 2, 1]], 2),
        ((64, 11), (1, 1), [[1, 1], [2, 2], [2, 1], [2, 1]], 0),
        ((5, 5, 5), (1, 1, 1), [[1, 1, 1]], 0),
    ],
)
def test_each_axis_is_halved_as_nnunet_does(window, spacing, strides, flat_levels):
    pooling = plan_pooling(window, spacing)
    assert pooling.strides == strides
    assert len(pooling.kernels) == len(strides)
    assert [kernel[-1] for kernel in pooling.kernels] == [1] * flat_levels + [3] * (len(strides) - flat_levels)
    assert {side for kernel in pooling.kernels for side in kernel[:-1]} == {3}


def test_a_network_with_strides_is_planned_axis_by_axis_and_learns_a_window(tmp_path):
    thick = replace(BRAIN, spacing=(0.8, 0.8, 4.0), coarse_spacing=(0.8, 0.8, 4.0), shape=(40, 36, 10), channels=1)
    plan = plan_recipe(thick, replace(NARROW, network="dynunet"))
    config = plan.recipe.config
    assert config["strides"] == [[1, 1, 1], [2, 2, 1], [2, 2, 1], [2, 2, 2]]
    assert config["kernels"][0] == [3, 3, 1]
    assert plan.recipe.patch == (40, 40, 10)
    write_recipe(tmp_path / "thick.toml", plan.recipe, plan.reasons)
    assert read_recipe(tmp_path / "thick.toml") == plan.recipe
    network = find_config(SEGMENTERS, "dynunet")(**config).build()
    levels = network.forward_levels(torch.zeros(1, 1, *plan.recipe.patch))
    assert [tuple(level.shape[2:]) for level in levels] == [(40, 40, 10), (20, 20, 10), (10, 10, 10)]
    cube = plan_recipe(replace(BRAIN, shape=(16, 16, 16)), replace(NARROW, network="dynunet"))
    assert cube.recipe.config["strides"] == [[1, 1, 1], [2, 2, 2], [2, 2, 2]]


@pytest.mark.parametrize("name", ["agunet", "dagunet"])
def test_attention_networks_halve_each_axis_by_itself(tmp_path, name):
    thick = replace(BRAIN, spacing=(0.8, 0.8, 4.0), coarse_spacing=(0.8, 0.8, 4.0), shape=(40, 36, 10), channels=1)
    plan = plan_recipe(thick, replace(NARROW, network=name))
    config = plan.recipe.config
    assert config["pooling"] == [[2, 2, 1], [2, 2, 1], [2, 2, 2]]
    assert len(config["filters"]) == 4
    assert "a coarser axis later" in plan.reasons["network"]
    write_recipe(tmp_path / "thick.toml", plan.recipe, plan.reasons)
    assert read_recipe(tmp_path / "thick.toml") == plan.recipe
    network = find_config(SEGMENTERS, name)(**config).build()
    levels = network.forward_levels(torch.zeros(1, 1, *plan.recipe.patch))
    assert [tuple(level.shape[2:]) for level in levels] == [(40, 40, 10), (20, 20, 10), (10, 10, 10)]
    assert "pooling" not in plan_recipe(replace(BRAIN, shape=(32, 32, 32)), replace(NARROW, network=name)).recipe.config
    flat = plan_recipe(replace(BRAIN, shape=(64, 64, 1)), replace(NARROW, network=name)).recipe
    assert {factors[2] for factors in flat.config["pooling"]} == {1}


def test_intensities_that_mean_the_same_in_every_scan_are_scaled_by_the_set():
    scan = replace(BRAIN, hounsfield=True, foreground=(-80.0, 240.0, 60.0, 40.0))
    norm = plan_recipe(scan, NARROW).recipe.normalisation
    assert (norm.method, norm.clip, norm.mean, norm.deviation) == ("fixed", (-80.0, 240.0), 60.0, 40.0)
    assert plan_recipe(BRAIN, NARROW).recipe.normalisation.method == "zscore"


def test_left_and_right_are_not_mirrored():
    recipe = plan_recipe(BRAIN, replace(NARROW, labels={1: "left lung", 2: "right lung", 3: "heart"})).recipe
    assert recipe.training.augmentation.mirror == 0
    assert not recipe.mirror_average


def test_flat_images_give_a_network_for_slices():
    flat = replace(BRAIN, shape=(224, 224, 1), channels=1)
    recipe = plan_recipe(flat, replace(NARROW, network="attention_unet")).recipe
    assert recipe.patch[2] == recipe.training.window[2] == 1
    assert recipe.config["spatial_dims"] == 2


def test_a_network_of_slices_sees_the_neighbours_where_there_are_any():
    wishes = replace(NARROW, network="cdal", memory_gib=4.0)
    small = replace(BRAIN, shape=(16, 16, 12))
    recipe = plan_recipe(small, wishes).recipe
    assert (recipe.patch[2], recipe.context, recipe.config["in_channels"]) == (1, 3, 4)
    assert plan_recipe(replace(small, shape=(16, 16, 1)), wishes).recipe.context == 1


def test_regions_take_the_place_of_labels():
    regions = tuple(
        LabelRegion(name=name, labels=labels)
        for name, labels in (("whole", (1, 2, 3)), ("core", (2, 3)), ("active", (3,)))
    )
    recipe = plan_recipe(BRAIN, replace(NARROW, regions=regions)).recipe
    assert (recipe.config["classes"], recipe.channels, recipe.training.loss) == (3, 3, "dice_ce_regions")
    with pytest.raises(BadInput, match="outermost"):
        plan_recipe(BRAIN, replace(NARROW, regions=regions[::-1]))
    with pytest.raises(BadInput, match="regions of labels 3"):
        plan_recipe(BRAIN, replace(NARROW, regions=regions[2:]))


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        (replace(NARROW, labels={1: "one"}), "label 2"),
        (replace(NARROW, labels={1: "a", 2: "b", 3: "c", 7: "d"}), "without a gap"),
        (replace(NARROW, memory_gib=0.001), "GiB for a window"),
    ],
)
def test_what_can_not_be_planned_is_refused(wishes, said):
    with pytest.raises(BadInput, match=said):
        plan_recipe(replace(BRAIN, shape=(16, 16, 16)), wishes)


def test_a_recipe_is_read_as_it_was_written(tmp_path):
    plan = plan_recipe(replace(BRAIN, hounsfield=True), NARROW)
    write_recipe(tmp_path / "planned.toml", plan.recipe, plan.reasons)
    assert read_recipe(tmp_path / "planned.toml") == plan.recipe
    for recipe in list_recipes():
        write_recipe(tmp_path / "any.toml", recipe, {})
        assert read_recipe(tmp_path / "any.toml") == recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [("name = ", "no TOML"), ('name = "x"', "field required"), ('name = "x"\ncolour = 1', "in any.toml")],
)
def test_a_spoilt_recipe_says_what_is_wrong(tmp_path, text, said):
    (tmp_path / "any.toml").write_text(text)
    with pytest.raises(BadInput, match=said):
        read_recipe(tmp_path / "any.toml")


def test_pictures_with_label_maps_are_cases(tmp_path):
    for place in ("images", "labels"):
        (tmp_path / place).mkdir()
    picture = np.zeros((10, 14, 3), np.uint8)
    picture[2, 9] = (255, 0, 0)
    drawn = np.zeros((10, 14), np.uint8)
    drawn[2, 9] = 150
    Image.fromarray(picture).save(tmp_path / "images" / "one.png")
    Image.fromarray(drawn).save(tmp_path / "labels" / "one.png")
    [case] = read_cases(tmp_path, {1: "lung"}, {150: 1})
    assert case.volume.array.shape == (3, 14, 10, 1)
    assert case.volume.array[:, 9, 2, 0].tolist() == [1, 0, 0]
    assert np.argwhere(case.labels.array == 1).tolist() == [[9, 2, 0]]
    with pytest.raises(BadInput, match="label 150"):
        read_cases(tmp_path, {1: "lung"})
