"""Figures of a report as SVG that takes its colours from the page, so that it is read by day and by night."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.neuro.evaluate.compare import Curve
from voxelight.neuro.evaluate.evaluation import Line

Floats = NDArray[np.floating[Any]]

_WIDTH, _HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 44
_ROW, _NAMES = 24, 128


def draw_curve(curve: Curve, name: str) -> str:
    """Draw a curve with its interval; with one point, that point.

    Parameters
    ----------
    curve : Curve
    name : unique on the page
    """
    low, high = _pad([*curve.low, *curve.high] + ([] if curve.level is None else [curve.level]))
    across = _Scale(*_pad(curve.x), _LEFT, _WIDTH - _RIGHT)
    up = _Scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    points = [(across(x), up(y)) for x, y in zip(curve.x, curve.y, strict=True)]
    band = [(across(x), up(y)) for x, y in zip(curve.x, curve.high, strict=True)]
    band += [(across(x), up(y)) for x, y in zip(curve.x[::-1], curve.low[::-1], strict=True)]
    bars = [(across(x), up(a), up(b)) for x, a, b in zip(curve.x, curve.low, curve.high, strict=True)]
    told = "; ".join(
        f"{_say(x)}: {_say(y)} [{_say(a)}, {_say(b)}]"
        for x, y, a, b in zip(curve.x, curve.y, curve.low, curve.high, strict=True)
    )
    parts = [_draw_axes(across, up, curve.x_label, curve.y_label)]
    if curve.level is not None:
        y = f"{up(curve.level):.1f}"
        parts.append(f'<line class="level" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
    parts.append(f'<polygon class="band" points="{_join(band)}"/>')
    parts += [f'<line class="bar" x1="{x:.1f}" x2="{x:.1f}" y1="{a:.1f}" y2="{b:.1f}"/>' for x, a, b in bars]
    parts.append(f'<polyline class="curve" points="{_join(points)}"/>')
    parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in points]
    return _frame(name, curve.title, f"{curve.y_label} along {curve.x_label}: {told}", _HEIGHT, parts)


def draw_forest(lines: Sequence[tuple[str, Line]], title: str, chance: float | None, name: str) -> str:
    """Draw the rows of one metric below each other, each with its interval; chance is the dashed line.

    Parameters
    ----------
    lines : (label, Line) from top to bottom
    title : of the metric
    chance : of a guess, where it is known
    name : unique on the page
    """
    low, high = _pad([end for _, line in lines for end in (line.low, line.high)] + ([] if chance is None else [chance]))
    across = _Scale(low, high, _NAMES, _WIDTH - _RIGHT)
    bottom = _TOP + _ROW * len(lines)
    parts = [f'<line class="axis" x1="{_NAMES}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>']
    for tick in _ticks(low, high):
        x = f"{across(tick):.1f}"
        parts.append(f'<line class="tick" x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 15}" text-anchor="middle">{_say(tick)}</text>')
    if chance is not None:
        x = f"{across(chance):.1f}"
        parts.append(f'<line class="level" x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom}"/>')
    for number, (label, line) in enumerate(lines):
        y = _TOP + _ROW * (number + 0.5)
        kind = "decoded" if number == 0 else "control"
        ends = f'x1="{across(line.low):.1f}" x2="{across(line.high):.1f}" y1="{y}" y2="{y}"'
        parts.append(f'<text x="{_NAMES - 8}" y="{y + 4}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<line class="bar {kind}" {ends}/>')
        parts += [f'<circle class="seed" cx="{across(seed):.1f}" cy="{y}" r="2"/>' for seed in line.by_seed[:16]]
        parts.append(f'<circle class="dot {kind}" cx="{across(line.value):.1f}" cy="{y}" r="4"/>')
    told = "; ".join(f"{label} {_say(line.value)} [{_say(line.low)}, {_say(line.high)}]" for label, line in lines)
    return _frame(name, f"{title}: decoded and control rows", told, bottom + 24, parts)


class _Scale:
    """Values onto the page."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        self.low, self.high, self.start, self.stop = low, high, start, stop

    def __call__(self, value: float) -> float:
        return float(self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start))


def _draw_axes(across: _Scale, up: _Scale, x_label: str, y_label: str) -> str:
    left, right, top, bottom = _LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM
    parts = [f'<path class="axis" d="M{left} {top}V{bottom}H{right}"/>']
    parts += [
        f'<text x="{across(tick):.1f}" y="{bottom + 15}" text-anchor="middle">{_say(tick)}</text>'
        for tick in _ticks(across.low, across.high)
    ]
    for tick in _ticks(up.low, up.high):
        y = f"{up(tick):.1f}"
        parts.append(f'<line class="tick" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{_say(tick)}</text>')
    middle = (left + right) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    place = (top + bottom) / 2
    parts.append(f'<text transform="translate(12 {place}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    return "".join(parts)


def _frame(name: str, title: str, description: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg class="figure" viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def _join(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _pad(values: Sequence[float] | Floats) -> tuple[float, float]:
    low, high = float(np.min(values)), float(np.max(values))
    room = 0.06 * (high - low) or 0.1 * max(abs(high), 1e-3)
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round values inside."""
    rough = (high - low) / 4
    unit = 10.0 ** np.floor(np.log10(rough))
    step = min((unit * factor for factor in (1, 2, 5, 10)), key=lambda each: abs(each - rough))
    first = np.ceil(low / step) * step
    return [float(value) for value in np.arange(first, high + 1e-9 * step, step)]


def _say(value: float) -> str:
    return f"{value + 0.0:.3g}" if abs(value) > 1e-9 else "0"
