"""A contact sheet shows the labels where they are, on the side that its letters say."""

import numpy as np
import pytest

from voxelight.medseg.colours import find_colour
from voxelight.medseg.sheets import draw_sheet
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap, Volume

SHAPE = (80, 90, 60)


def make(labelled=(slice(10, 20), slice(40, 52), slice(20, 30)), spacing=(1.0, 1.0, 2.0)):
    grid = Geometry(SHAPE, np.diag([*spacing, 1.0]))
    volume = Volume(np.random.default_rng(0).random((1, *SHAPE), dtype=np.float32), grid)
    labels = np.zeros(SHAPE, np.uint8)
    labels[labelled] = 1
    return volume, LabelMap(labels, grid, {1: "anterior", 2: "posterior"})


def outline(sheet):
    """Where the colour of the first label stands in the sheet, array (row, column)."""
    colour = [int(find_colour(1)[at : at + 2], 16) for at in (1, 3, 5)]
    return (sheet == np.array(colour)).all(axis=-1)


def test_the_labels_are_outlined_in_every_row_of_cuts():
    sheet = draw_sheet(*make())
    assert sheet.dtype == np.uint8
    assert sheet.shape[2] == 3
    for top, bottom in ((10, 300), (340, 530), (560, 760), (780, 980)):
        assert outline(sheet)[top:bottom, :900].any()


def test_left_is_drawn_left_in_one_convention_and_right_in_the_other():
    pair = make()  # the labels lie to the left of the person
    axial, coronal = (slice(6, 306), slice(6, 306)), (slice(6, 306), slice(312, 612))
    sagittal = (slice(6, 306), slice(618, 918))
    ours, theirs = (outline(draw_sheet(*pair, radiological=flag)) for flag in (False, True))
    for window in (axial, coronal):
        assert np.argwhere(ours[window])[:, 1].mean() < 130
        assert np.argwhere(theirs[window])[:, 1].mean() > 170
    assert (ours[sagittal] == theirs[sagittal]).all()


def test_a_map_without_labels_is_drawn_all_the_same():
    sheet = draw_sheet(*make((slice(0, 0),) * 3))
    assert not outline(sheet)[:, :900].any()
    assert sheet.std() > 10


def test_one_slice_is_enough():
    pair = make((slice(10, 20), slice(40, 52), slice(20, 21)))
    assert outline(draw_sheet(*pair)).any()


def test_the_same_case_gives_the_same_pixels():
    assert (draw_sheet(*make()) == draw_sheet(*make())).all()


def test_another_grid_is_refused():
    volume, _ = make()
    _, other = make(spacing=(1.0, 1.0, 1.0))
    with pytest.raises(BadInput, match="both on one grid"):
        draw_sheet(volume, other)
