import numpy as np
import pytest
import torch
from scipy import ndimage

from voxelight.medseg import reduce
from voxelight.medseg.reduce import LabelReducer, reduce_turned
from voxelight.medseg.stream import Windows, stream
from voxelight.medseg.transforms import grid_of_spacing, resample
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry

AFFINE = np.array([[0.0, -1.1, 0.3, 5], [0.8, 0.1, 0, -7], [0.1, 0, 2.2, 3], [0, 0, 0, 1]])


def smooth_probabilities(shape, labels, seed=0):
    noise = np.random.default_rng(seed).normal(size=(labels, *shape))
    logits = torch.from_numpy(ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 1.5)) * 60)
    return logits.softmax(0).float()


def run(probabilities, source, target, confidence=False, size=(8, 9, 7), overlap=0.25):
    """Send probabilities through windows; the network hands on what it sees."""
    reducer = LabelReducer(source, target, len(probabilities), confidence)
    for box, block in stream(probabilities, lambda x: x, Windows(size, overlap)):
        reducer.take(box, block)
    return reducer


def interpolate(probabilities, source, target):
    """Each label on the grid of the image by scipy, all of it in memory."""
    step = np.linalg.inv(source.affine) @ target.affine
    at = np.einsum("ab,bijk->aijk", step[:3, :3], np.indices(target.shape)) + step[:3, 3, None, None, None]
    return np.stack([ndimage.map_coordinates(p, at, order=1, mode="nearest") for p in probabilities.double().numpy()])


@pytest.mark.parametrize("labels", [2, 3, 40])
@pytest.mark.parametrize("factor", [(1, 1, 1), (0.5, 0.7, 0.43), (1, 0.35, 1)])
def test_a_finer_image_gets_the_argmax_of_interpolated_probabilities(labels, factor):
    target = Geometry((23, 25, 21), AFFINE)
    source = grid_of_spacing(target, tuple(np.array(target.spacing) / factor))
    probabilities = smooth_probabilities(source.shape, labels)
    found = run(probabilities, source, target, confidence=True)
    expected = interpolate(probabilities, source, target)
    top = np.sort(expected, axis=0)
    clear = top[-1] - top[-2] > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found.labels[clear], expected.argmax(0)[clear])
    np.testing.assert_allclose(found.confidence, expected.max(0), atol=2e-3)


def test_a_coarser_image_gets_the_average_of_what_its_voxels_hold():
    source = Geometry((40, 24, 16), np.diag([1, 1, 1, 1]))
    target = grid_of_spacing(source, (1, 1, 4))
    inside = torch.zeros(source.shape)
    inside[10:30, 5:20, 5:8] = 1  # three of the four planes of voxel 1 along k; a linear read would see both halves
    found = run(torch.stack([1 - inside, inside]), source, target)
    expected = np.zeros(target.shape)
    expected[10:30, 5:20, 1] = 1
    np.testing.assert_array_equal(found.labels, expected)


@pytest.mark.parametrize("size", [(8, 9, 7), (20, 20, 20), (5, 5, 30)])
def test_how_windows_are_cut_changes_nothing(size):
    target = Geometry((31, 20, 26), np.diag([0.7, 1.6, 0.9, 1]))
    source = grid_of_spacing(target, (1.0, 1.0, 1.0))
    probabilities = smooth_probabilities(source.shape, 4)
    whole = LabelReducer(source, target, 4)
    whole.take(tuple(slice(0, side) for side in source.shape), probabilities)
    np.testing.assert_array_equal(run(probabilities, source, target, size=size).labels, whole.labels)


@pytest.mark.parametrize("factor", [(2.4, 2.1, 2.6), (0.4, 2.0, 2.0)], ids=["finer", "coarser along i"])
def test_no_array_of_labels_times_voxels_of_the_image_is_made(factor, monkeypatch, watch_sizes):
    """Of a volume that the network saw in one window: one block, however fine the image is."""
    source = Geometry((30, 14, 12), np.diag([1.5, 1.2, 1.3, 1]))
    target = grid_of_spacing(source, tuple(np.array(source.spacing) / factor))
    probabilities = smooth_probabilities(source.shape, 40)
    expected = LabelReducer(source, target, 40)
    expected.take(tuple(slice(0, side) for side in source.shape), probabilities)
    monkeypatch.setattr(reduce, "_CHUNK", 1 << 13)
    monkeypatch.setattr(reduce, "_HELD", 1 << 15)
    found = LabelReducer(source, target, 40)
    with watch_sizes() as sizes:
        found.take(tuple(slice(0, side) for side in source.shape), probabilities)
    np.testing.assert_array_equal(found.labels, expected.labels)
    a_plane = 40 * target.shape[1] * target.shape[2]
    least = 2 if factor[0] > 1 else 6  # planes of the network that one of the image is read from
    assert sizes.largest <= max(probabilities.numel(), least * a_plane)
    if factor[0] > 1:
        assert sizes.largest < 40 * np.prod(target.shape) / 10


def test_many_labels_have_room():
    grid = Geometry((3, 3, 3), np.eye(4))
    probabilities = torch.zeros(300, 3, 3, 3)
    probabilities[299] = 1
    assert (run(probabilities, grid, grid).labels == 299).all()


def test_turned_grids_are_refused():
    turned = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(BadInput, match="turned"):
        LabelReducer(Geometry((4, 4, 4), np.eye(4)), Geometry((4, 4, 4), turned), 2)


def test_a_turned_grid_gets_the_argmax_of_resampled_probabilities():
    source, target = Geometry((14, 12, 10), np.diag([-1, 1, 1, 1])), Geometry((20, 22, 18), AFFINE)
    probabilities = smooth_probabilities(source.shape, 5).numpy()
    labels, sure = reduce_turned(probabilities, source, target)
    others = resample(probabilities[1:], source, target)
    expected = np.concatenate([1 - others.sum(0, keepdims=True), others])
    top = np.sort(expected, axis=0)
    clear = top[-1] - top[-2] > 1e-5
    np.testing.assert_array_equal(labels[clear], expected.argmax(0)[clear])
    np.testing.assert_allclose(sure, expected.max(0), atol=1e-5)
    assert 0 < (labels > 0).mean() < 1
