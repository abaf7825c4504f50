import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from voxelight.medseg.postprocess import Cleaning, clean
from voxelight.models.values import Geometry, LabelMap

GRID = Geometry((24, 24, 24), np.diag([1.0, 1.0, 2.0, 1.0]))  # 2 mm3 a voxel


@pytest.fixture
def spotted():
    """Noise at a threshold: pieces of every size, in two labels."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=GRID.shape), 1)
    labels = np.where(noise > 0.18, 1, np.where(noise < -0.2, 2, 0)).astype(np.uint8)
    return LabelMap(labels, GRID, {1: "edema", 2: "core"})


@pytest.mark.parametrize("smallest", [0.02, 0.1, 0.5])
def test_small_pieces_go_as_simpleitk_finds_them(spotted, smallest):
    found, done = clean(spotted, smallest_ml=smallest)
    for number, name in spotted.names.items():
        image = SimpleITK.GetImageFromArray((spotted.array == number).astype(np.uint8))
        pieces = SimpleITK.ConnectedComponent(image, True)
        kept = SimpleITK.RelabelComponent(pieces, round(smallest / GRID.voxel_ml))
        np.testing.assert_array_equal(found.array == number, SimpleITK.GetArrayFromImage(kept) > 0)
        change = done.get(name, Cleaning())
        assert change.removed_ml == pytest.approx(spotted.volumes_ml()[name] - found.volumes_ml()[name])
        sizes = np.bincount(SimpleITK.GetArrayFromImage(pieces).ravel())[1:]
        assert change.pieces == (sizes * GRID.voxel_ml < smallest - 1e-12).sum()
    assert done


def test_a_piece_of_the_least_volume_stays():
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:4, 2:4, 2:4] = 1  # 16 mm3
    label_map = LabelMap(labels, GRID, {1: "lesion"})
    assert clean(label_map, 0.016)[0] is label_map
    assert clean(label_map, 0.0161)[0].array.max() == 0


def test_holes_go_to_the_label_around_them_and_labels_inside_stay():
    labels = np.zeros(GRID.shape, np.uint8)
    labels[4:20, 4:20, 4:20] = 2
    labels[8:12, 8:12, 8:12] = 0  # a hole
    labels[14:18, 14:18, 14:18] = 1  # the core of it
    labels[10, 10, 4:8] = 0
    labels[15, 6, 4:20] = 0  # a channel is no hole
    labels[15, 6, 12] = 2
    found, done = clean(LabelMap(labels, GRID, {1: "core", 2: "edema"}), fill_holes=True)
    assert done == {}
    assert found.array is labels
    labels[10, 10, 4] = 2  # which closes the way in
    found, done = clean(LabelMap(labels, GRID, {1: "core", 2: "edema"}), fill_holes=True)
    assert done == {"edema": Cleaning(filled_ml=pytest.approx((64 + 3) * 0.002))}
    assert (found.array[8:12, 8:12, 8:12] == 2).all()
    assert (found.array == 1).sum() == 64


def test_nothing_asked_nothing_done(spotted):
    assert clean(spotted) == (spotted, {})
