"""Contact sheets."""

import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.neuro.draw import NOTICE, RANDOM_WEIGHTS, SIMULATED, DecodedStages, draw_pairs, draw_stages
from voxelight.neuro.folds import plan_folds, reconstruct_fold


@pytest.fixture
def folds(make_subject, make_recipe):
    def make(channels):
        betas, stimuli = make_subject(channels=channels)
        recipe = make_recipe()
        return stimuli, [reconstruct_fold(betas, stimuli, fold, recipe) for fold in plan_folds(betas, recipe)]

    return make


@pytest.fixture
def written(monkeypatch):
    """Every text that is put on a sheet."""
    texts = []
    original = matplotlib.figure.Figure.text

    def text(self, x, y, words, *arguments, **options):
        texts.append(words)
        return original(self, x, y, words, *arguments, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "text", text)
    return texts


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("simulated", [True, False])
def test_sheet_says_what_it_shows(folds, written, channels, simulated):
    stimuli, reconstructions = folds(channels)
    sheet = draw_pairs(stimuli, reconstructions, simulated)
    assert sheet.ndim == 3
    assert sheet.shape[2] == 3
    assert sheet.std() > 20
    words = " ".join(written)
    assert NOTICE in words
    assert "Not for clinical use" in words
    assert (SIMULATED in words) == simulated


def test_sheet_shows_the_colours_of_the_pictures(folds):
    stimuli, reconstructions = folds(3)
    sheet = draw_pairs(stimuli, reconstructions, simulated=False).reshape(-1, 3)
    colours = np.rint(stimuli.images[:9].reshape(-1, 3) * 255)
    drawn = {tuple(colour) for colour in sheet.tolist()}
    found = sum(
        any((r + a, g + b, c + d) in drawn for a in (-1, 0, 1) for b in (-1, 0, 1) for d in (-1, 0, 1))
        for r, g, c in colours.astype(int).tolist()
    )
    assert found > 0.95 * len(colours)


def test_sheet_stays_small_with_many_stimuli(folds):
    stimuli, reconstructions = folds(1)
    all_of_them = draw_pairs(stimuli, reconstructions, simulated=False)
    few = draw_pairs(stimuli, reconstructions[:5], simulated=False, most=2)
    assert len(few) < len(all_of_them)


def test_drawing_leaves_no_figure_open(folds):
    before = plt.get_fignums()
    draw_pairs(*folds(1), simulated=False)
    assert plt.get_fignums() == before


def test_nothing_to_draw_is_refused(folds):
    with pytest.raises(BadInput, match="at least one"):
        draw_pairs(folds(1)[0], [], simulated=False)


def make_stages(count, stages=("stimulus", "unrefined", "final"), caption="a $5 dog {on} a beach"):
    pictures = {
        stage: np.full((8, 8, 3), shade, np.float32) for stage, shade in zip(stages, (0.2, 0.5, 0.8), strict=False)
    }
    return [DecodedStages(f"picture-{number}", pictures, caption) for number in range(count)]


@pytest.mark.parametrize("simulated", [True, False])
@pytest.mark.parametrize("random_weights", [True, False])
def test_sheet_of_stages_says_what_its_pictures_can_not_mean(written, simulated, random_weights):
    draw_stages(make_stages(2), simulated, random_weights)
    assert (SIMULATED in written) == simulated
    assert (RANDOM_WEIGHTS in written) == random_weights
    assert any(NOTICE in text for text in written)
    assert "Not for clinical use." in written


def test_sheet_of_stages_shows_each_in_its_place():
    sheet = draw_stages(make_stages(1), simulated=False, random_weights=False)
    shades = [int(255 * shade) for shade in (0.2, 0.5, 0.8)]
    columns = [np.flatnonzero((np.abs(sheet[..., 0].astype(int) - shade) <= 1).sum(0) > 100) for shade in shades]
    assert all(len(column) > 100 for column in columns)
    assert columns[0].max() < columns[1].min() <= columns[1].max() < columns[2].min()


def test_sheet_of_stages_leaves_out_what_is_not_there_and_stops_at_the_most():
    few = draw_stages(make_stages(4, stages=("final",)), simulated=False, random_weights=True, most=2)
    assert few.shape == draw_stages(make_stages(2, stages=("final",)), simulated=False, random_weights=True).shape
    with pytest.raises(BadInput, match="no picture"):
        draw_stages([DecodedStages("a", {}, "a dog")], simulated=False, random_weights=False)
