import warnings

import numpy as np
import pytest
import torch
from monai.metrics import SurfaceDiceMetric
from scipy import ndimage

from voxelight.medseg.distances import measure_surfaces
from voxelight.medseg.metrics import score_case, score_label
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 1.3, 3.0)]


def blobs(seed, shape=(26, 30, 22)):
    """Two regions of noise that agree in part, one of them at the edge of the image."""
    chance = np.random.default_rng(seed)
    shared = ndimage.gaussian_filter(chance.normal(size=shape), 3)
    return tuple(shared + 0.3 * ndimage.gaussian_filter(chance.normal(size=shape), 3) > 0.02 for _ in range(2))


@pytest.fixture(scope="module")
def deepmind():
    """The package of surface-distance, which warns of old names of scipy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import surface_distance

        yield surface_distance


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spacing", SPACINGS)
def test_surfaces_are_those_of_the_surface_distance_package(deepmind, seed, spacing):
    found, reference = blobs(seed)
    expected = deepmind.compute_surface_distances(reference, found, spacing)
    ours = measure_surfaces(found, reference, spacing)
    assert ours.found_areas.sum() == pytest.approx(expected["surfel_areas_pred"].sum(), rel=1e-5)
    for tolerance in (0.5, 1.0, 2.0):
        there = deepmind.compute_surface_dice_at_tolerance(expected, tolerance)
        assert ours.surface_dice(tolerance) == pytest.approx(there, rel=1e-5)
        assert 0 < there < 1
    for percent in (50, 95, 100):
        assert ours.hausdorff(percent) == pytest.approx(deepmind.compute_robust_hausdorff(expected, percent), rel=1e-6)


@pytest.mark.parametrize(("spacing", "tolerance"), [(SPACINGS[0], 1.0), (SPACINGS[1], 2.0)])
def test_surface_dice_is_that_of_monai(spacing, tolerance):
    found, reference = (torch.from_numpy(each)[None, None].float() for each in blobs(5))
    metric = SurfaceDiceMetric([tolerance], include_background=True, use_subvoxels=True)
    expected = float(metric(found, reference, spacing=spacing))
    ours = measure_surfaces(*blobs(5), spacing).surface_dice(tolerance)
    assert ours == pytest.approx(expected, rel=1e-4)


def test_a_shift_is_measured_in_mm():
    reference = np.zeros((20, 20, 20), bool)
    reference[5:12, 5:12, 5:12] = True
    found = np.roll(reference, 1, axis=2)
    scores = score_label(found, reference, (1.0, 1.0, 3.0), tolerance_mm=2.9)
    assert (scores.hd95_mm, scores.dice, scores.iou) == pytest.approx((3.0, 6 / 7, 6 / 8))
    assert scores.volume_error_ml == 0
    assert scores.nsd < 0.9
    assert score_label(found, reference, (1.0, 1.0, 3.0), tolerance_mm=3.1).nsd == 1


def test_what_is_missed_scores_zero_and_the_diagonal_and_what_neither_has_scores_nothing():
    empty, full = np.zeros((10, 20, 30), bool), np.ones((10, 20, 30), bool)
    diagonal = np.linalg.norm([10, 40, 90])
    for found, reference, presence in ((empty, full, "missed"), (full, empty, "invented")):
        scores = score_label(found, reference, (1.0, 2.0, 3.0), 1.0)
        assert (scores.presence, scores.dice, scores.iou, scores.nsd) == (presence, 0, 0, 0)
        assert scores.hd95_mm == pytest.approx(diagonal)
    assert score_label(full, empty, (1.0, 2.0, 3.0), 1.0).volume_error_percent is None
    nothing = score_label(empty, empty, (1.0, 2.0, 3.0), 1.0)
    assert (nothing.presence, nothing.dice, nothing.hd95_mm, nothing.volume_error_ml) == ("neither", None, None, None)


def test_labels_meet_by_name_whatever_their_numbers():
    grid = Geometry((12, 12, 12), np.eye(4))
    labels = np.random.default_rng(0).integers(0, 3, grid.shape).astype(np.uint8)
    other = np.array([0, 5, 2], np.uint8)[labels]
    reference = LabelMap(labels, grid, {1: "anterior", 2: "posterior"})
    found = LabelMap(other, grid, {5: "anterior", 2: "posterior", 7: "body"})
    confidence = np.full(grid.shape, 1.0)
    scores = score_case(found, reference, 1.0, "one", "a", confidence)
    assert {name: each.dice for name, each in scores.labels.items()} == {"anterior": 1, "posterior": 1}
    assert scores.reliability.ece == 0
    with pytest.raises(BadInput, match="one name"):
        score_case(LabelMap(labels, grid, {1: "left", 2: "right"}), reference, 1.0)
    moved = Geometry((12, 12, 12), np.array([[1.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    with pytest.raises(BadInput, match="one grid"):
        score_case(LabelMap(labels, moved, reference.names), reference, 1.0)
