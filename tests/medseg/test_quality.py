"""Measures of a label map whose true values are known."""

import numpy as np
import pytest

from voxelight.medseg.quality import measure_quality
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap, Volume

SHAPE = (40, 40, 40)
GRID = Geometry(SHAPE, np.diag([1.0, 1.0, 1.0, 1.0]))


def make(bright=20.0, extra=()):
    image = np.random.default_rng(0).normal(100, 10, SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    labels[10:20, 10:20, 10:20] = 1
    for corner in extra:
        labels[corner] = 1
    image[labels == 1] += bright
    volume = Volume(image[np.newaxis].astype(np.float32), GRID)
    return volume, LabelMap(labels, GRID, {1: "lesion", 2: "cyst"})


def values(pair):
    return {(measure.name, measure.label): measure.value for measure in measure_quality(*pair)}


def test_intensity_and_contrast_are_those_that_were_put_in():
    found = values(make())
    assert found["intensity", "lesion"] == pytest.approx(120, abs=1)
    assert found["contrast", "lesion"] == pytest.approx(2, abs=0.2)


def test_pieces_are_counted_and_those_that_touch_at_a_corner_are_one():
    assert values(make())["pieces", "lesion"] == 1
    assert values(make(extra=[(20, 20, 20)]))["pieces", "lesion"] == 1
    assert values(make(extra=[(30, 30, 30), (2, 2, 2)]))["pieces", "lesion"] == 3


def test_a_label_that_is_not_there_has_no_intensity():
    found = values(make())
    assert found["pieces", "cyst"] == 0
    assert ("intensity", "cyst") not in found


def test_a_flat_image_has_no_contrast():
    pair = make()
    flat = Volume(np.ones((1, *SHAPE), np.float32), GRID)
    assert ("contrast", "lesion") not in values((flat, pair[1]))


def test_another_grid_is_refused():
    volume, _ = make()
    other = Geometry(SHAPE, np.diag([2.0, 1.0, 1.0, 1.0]))
    with pytest.raises(BadInput, match="different grids"):
        measure_quality(volume, LabelMap(np.zeros(SHAPE, np.uint8), other, {1: "lesion"}))
