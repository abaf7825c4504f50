import numpy as np
import pytest

from voxelight.medseg.draw import draw_overlay
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap, Volume

SHAPE = (60, 70, 40)


def make(labelled=(slice(18, 24), slice(20, 30), slice(10, 16))):
    grid = Geometry(SHAPE, np.diag([1.0, 1.0, 2.0, 1.0]))
    volume = Volume(np.random.default_rng(0).random((1, *SHAPE), dtype=np.float32), grid)
    labels = np.zeros(SHAPE, np.uint8)
    labels[labelled] = 1
    return volume, LabelMap(labels, grid, {1: "anterior", 2: "posterior"})


def coloured(picture):
    return np.count_nonzero(np.ptp(picture.astype(int), axis=-1) > 40)


def test_a_picture_shows_the_labels_in_colour():
    picture = draw_overlay(*make())
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    empty = draw_overlay(*make((slice(0, 0),) * 3))
    assert coloured(picture) > coloured(empty) + 1000


def test_small_labels_get_a_close_up_and_large_ones_none():
    large = draw_overlay(*make((slice(2, 58), slice(2, 68), slice(2, 38))))
    assert draw_overlay(*make((slice(18, 20),) * 3)).shape[0] > 1.5 * large.shape[0]


@pytest.mark.parametrize("labelled", [(5, 6, 7), (0, 0, 0), (slice(None), slice(None), 4)])
def test_one_voxel_a_corner_and_a_sheet_can_be_drawn(labelled):
    assert coloured(draw_overlay(*make(labelled))) > 0


def test_same_input_same_picture():
    np.testing.assert_array_equal(draw_overlay(*make()), draw_overlay(*make()))


def test_labels_of_another_grid_are_refused():
    volume, labels = make()
    moved = LabelMap(labels.array, Geometry(SHAPE, np.eye(4)), labels.names)
    with pytest.raises(BadInput, match="one grid"):
        draw_overlay(volume, moved)
