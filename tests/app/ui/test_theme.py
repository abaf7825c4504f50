"""Colours: words stand out from what is behind them, and states and labels differ for those who see no red or green."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from voxelight.app.ui.theme import DARK, LIGHT
from voxelight.app.ui.wording import STATUS_COLOURS, STATUS_ICONS
from voxelight.medseg.colours import COLOURS

READABLE, DISTINCT = 4.5, 9.0  # a ratio (WCAG 2.1, 1.4.3); CIEDE2000, of which 2 to 3 can just be told apart
# Machado, Oliveira and Fernandes (2009), table 1, severity 1.0, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
STATIC = Path(__file__).resolve().parents[3] / "app" / "static" / "theme.css"
SCHEMES = {"light": ":root {", "dark": ':root[data-theme="dark"] {', "system": ':root:not([data-theme="light"]) {'}
PARTS = ("TextColor", "BackgroundColor")
WORDS = ["text", "muted", "accent", "good", "bad"]


def linear(colour):
    parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast(first, second):
    dark, light = sorted(float(np.dot([0.2126, 0.7152, 0.0722], linear(each))) for each in (first, second))
    return (light + 0.05) / (dark + 0.05)


def distance(first, second, vision):
    seen = [np.clip(np.array(VISIONS[vision]) @ linear(each), 0, 1) for each in (first, second)]
    shown = [np.where(part <= 0.0031308, part * 12.92, 1.055 * part ** (1 / 2.4) - 0.055) for part in seen]
    return float(deltaE_ciede2000(*(rgb2lab(each) for each in shown)))


def read_static(scheme):
    """The colours of our own pages in one scheme."""
    text = STATIC.read_text()
    start = {"light": ":root {", "dark": ':root[data-theme="dark"] {', "system": ':root:not([data-theme="light"]) {'}[
        scheme
    ]
    return dict(re.findall(r"--vx-([\w-]+): (#\w{6});", text.split(start)[1].split("}")[0]))


def test_the_measures_agree_with_what_is_known():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert distance("#ff0000", "#00ff00", "normal") == pytest.approx(86.6, abs=0.1)
    assert distance("#b36200", "#6d7f00", "no green") < 8 < distance("#b36200", "#6d7f00", "normal")


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_words_of_the_page_can_be_read(theme):
    behind = {name: name.removesuffix("TextColor") + "BackgroundColor" for name in theme if name.endswith("TextColor")}
    pairs = [(name, under) for name, under in behind.items() if under in theme]
    pairs += [
        (word, under)
        for word in ("textColor", "linkColor")
        for under in ("backgroundColor", "secondaryBackgroundColor")
    ]
    pairs += [(name, "backgroundColor") for name in theme if name.endswith("TextColor")]
    assert not [pair for pair in pairs if contrast(*(theme[name] for name in pair)) < READABLE]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_of_our_own_pages_can_be_read(scheme):
    colours = read_static(scheme)
    pairs = [(word, under) for word in WORDS for under in ("bg", "surface")] + [
        ("warn-text", "warn-bg"),
        ("on-accent", "accent"),
    ]
    assert not [pair for pair in pairs if contrast(*(colours[name] for name in pair)) < READABLE]


def test_the_system_and_the_address_give_one_dark():
    assert read_static("dark") == read_static("system")


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_two_states_look_different(theme, vision):
    def apart(first, second):
        return max(
            distance(theme[first + part], theme[second + part], vision) for part in ("TextColor", "BackgroundColor")
        )

    alike = [pair for pair in combinations(sorted(set(STATUS_COLOURS.values())), 2) if apart(*pair) < DISTINCT]
    assert not alike


def test_a_state_is_told_by_its_sign_as_well():
    assert STATUS_ICONS.keys() == STATUS_COLOURS.keys()
    signs = {STATUS_COLOURS[status]: STATUS_ICONS[status] for status in STATUS_COLOURS}
    assert len(set(signs.values())) == len(signs)


@pytest.mark.parametrize("vision", VISIONS)
def test_two_labels_look_different(vision):
    assert not [pair for pair in combinations(COLOURS, 2) if distance(*pair, vision) < DISTINCT]
