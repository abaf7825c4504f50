import itertools
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch

from voxelight.medseg.evaluate import dice
from voxelight.medseg.segment import build_segmenter, segment
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, Volume
from voxelight.models.weights import load_weights

FLIPS = list(itertools.product((1, -1), repeat=3))
ORDERS = list(itertools.permutations(range(3)))


@pytest.fixture(scope="module")
def first_labels(few_cases, for_crops):
    """What the first case is labelled as."""
    return segment(few_cases[0].volume, for_crops)


def test_real_cases_are_labelled_as_people_label_them(few_cases, for_crops):
    # In-sample: the weights that ship were fitted on these cases too. Scores of cases unseen are in the model card.
    scores = {
        name: [dice(segment(case.volume, for_crops).array, case.labels.array, number) for case in few_cases]
        for number, name in for_crops.recipe.labels.items()
    }
    assert len(few_cases) >= 4
    assert all(np.mean(values) > 0.85 for values in scores.values())


def test_the_label_map_sits_on_the_grid_of_the_image(few_cases, for_crops):
    told = []
    found = segment(few_cases[0].volume, for_crops, told.append)
    assert found.geometry is few_cases[0].volume.geometry
    assert found.names == {1: "anterior", 2: "posterior"}
    assert told == [1.0]


@pytest.mark.parametrize("order", ORDERS)
def test_any_stored_orientation_gives_the_same_labels(few_cases, first_labels, for_crops, as_volume, order):
    volume, expected = few_cases[0].volume, first_labels.array
    flip = FLIPS[ORDERS.index(order) + 1]
    axes = np.array(list(zip(order, flip, strict=True)))
    stored = nib.Nifti1Image(volume.array[0], volume.geometry.affine).as_reoriented(axes)
    again = segment(as_volume(np.asarray(stored.dataobj), stored.affine), for_crops)
    np.testing.assert_array_equal(again.array, expected)


def test_same_image_same_bytes_whatever_the_caller_has_set(few_cases, for_crops):
    volume = few_cases[1].volume
    expected = segment(volume, for_crops).array.tobytes()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if before > 1 else 2)
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.enable_grad():
            assert segment(volume, for_crops).array.tobytes() == expected
            assert torch.is_autocast_enabled("cpu")
            assert torch.is_grad_enabled()
    finally:
        torch.set_num_threads(before)
    fresh = build_segmenter(for_crops.recipe, load_weights(for_crops.recipe.weights), "cpu")
    assert segment(volume, fresh).array.tobytes() == expected


def test_slices_three_times_as_thick_are_still_labelled(few_cases, for_crops):
    case = few_cases[0]
    affine = case.volume.geometry.affine @ np.diag([1, 1, 3, 1])
    affine[:3, 3] = case.volume.geometry.affine[:3, 3] + [0, 0, 1]
    deep = case.volume.array.shape[3] // 3
    thick = case.volume.array[..., : 3 * deep].reshape(*case.volume.array.shape[:3], deep, 3).mean(-1)
    found = segment(Volume(thick, Geometry(thick.shape[1:], affine)), for_crops)
    reference = case.labels.array[..., 1 : 3 * deep : 3]
    assert found.array.shape == thick.shape[1:]
    assert dice(found.array > 0, reference > 0, 1) > 0.8


def test_finer_voxels_give_the_same_volume(few_cases, first_labels, for_crops):
    case = few_cases[0]
    fine = case.volume.array.repeat(2, 1).repeat(2, 2).repeat(2, 3)
    affine = case.volume.geometry.affine @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] -= 0.25
    found = segment(Volume(fine, Geometry(fine.shape[1:], affine)), for_crops).volumes_ml()
    assert found == pytest.approx(first_labels.volumes_ml(), rel=0.08)


@pytest.mark.parametrize("scale", [1.0, 400.0, 1e-3])
def test_the_unit_of_the_intensities_does_not_matter(few_cases, for_crops, scale):
    volume = few_cases[2].volume
    scaled = Volume((volume.array * scale + 7 * scale).astype(np.float32), volume.geometry)
    found, expected = segment(scaled, for_crops).array, segment(volume, for_crops).array
    assert np.count_nonzero(found != expected) < 5


def test_both_hippocampi_of_the_template_lie_where_they_belong(template, for_heads):
    told = []
    found = segment(template, for_heads, told.append)
    assert told == [0.5, 1.0]
    volumes = found.volumes_ml()
    for side, sign in (("left", -1), ("right", 1)):
        assert 1 < volumes[f"{side} anterior"] + volumes[f"{side} posterior"] < 5
        centres = {}
        for part in ("anterior", "posterior"):
            number = next(number for number, name in found.names.items() if name == f"{side} {part}")
            affine = found.geometry.affine
            centres[part] = affine[:3, :3] @ np.argwhere(found.array == number).mean(axis=0) + affine[:3, 3]
            assert 18 < sign * centres[part][0] < 36
        assert centres["anterior"][1] - centres["posterior"][1] > 10


def test_a_mirrored_head_gives_the_mirrored_labels(template, for_heads):
    random = np.random.default_rng(0)
    # The template is symmetric: blur and noise of one side make it a head that is not.
    array = template.array.copy()
    half = array.shape[1] // 2
    array[:, :half] *= 1 + 0.05 * random.standard_normal(array[:, :half].shape).astype(np.float32)
    head = Volume(array, template.geometry)
    affine = template.geometry.affine.copy()
    # Read from the far end, so that world x becomes -x.
    affine[0, 3] = -(affine[0, 3] + affine[0, 0] * (array.shape[1] - 1))
    mirrored = Volume(np.ascontiguousarray(array[:, ::-1]), Geometry(template.geometry.shape, affine))
    found, expected = segment(mirrored, for_heads).array[::-1], segment(head, for_heads).array
    swap = np.array([0, 3, 4, 1, 2], dtype=np.uint8)
    np.testing.assert_array_equal(swap[found], expected)


def test_a_head_away_from_mni_space_is_refused(template, for_heads):
    affine = template.geometry.affine.copy()
    affine[:3, 3] += [0, 150, 0]
    with pytest.raises(BadInput, match="Use hippocampus-t1, which aligns the head"):
        segment(Volume(template.array, Geometry(template.geometry.shape, affine)), for_heads)


def make(shape, spacing=1.0, channels=1):
    array = np.random.default_rng(0).random((channels, *shape), dtype=np.float32)
    return Volume(array, Geometry(shape, np.diag([spacing, spacing, spacing, 1])))


@pytest.mark.parametrize(
    ("volume", "said"),
    [
        (make((120, 40, 40)), "hippocampus-t1 for a whole head"),
        (make((30, 30, 2)), "8 to"),
        (make((30, 30, 30), spacing=0.01), "8 to"),
        (make((30, 30, 30), channels=2), "2 channels"),
        (Volume(np.ones((1, 30, 40, 30), np.float32), Geometry((30, 40, 30), np.eye(4))), "one flat value"),
    ],
)
def test_absurd_images_are_refused_with_a_remedy(for_crops, volume, said):
    with pytest.raises(BadInput, match=said):
        segment(volume, for_crops)


def test_a_field_larger_than_the_window_is_covered_by_several(few_cases, for_crops):
    case = few_cases[0]
    pad = [(0, 0), (0, 0), (10, 10), (0, 0)]
    array = np.pad(case.volume.array, pad, mode="edge")
    affine = case.volume.geometry.affine.copy()
    affine[1, 3] -= 10
    assert any(side > window for side, window in zip(array.shape[1:], for_crops.recipe.patch, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = segment(Volume(array, Geometry(array.shape[1:], affine)), for_crops)
    assert dice((found.array > 0)[:, 10:-10], case.labels.array > 0, 1) > 0.85
