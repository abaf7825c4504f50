"""Figures of an evaluation as SVG: scores case by case, volumes against volumes, certainty against correctness."""

from collections.abc import Sequence
from html import escape

import numpy as np

from voxelight.medseg.evaluate import Interval
from voxelight.medseg.reliability import BINS, Reliability

_WIDTH, _LEFT, _ROW, _FOOT = 460, 96, 34, 34
_SIDE = 260
_EDGE, _RIGHT = 54, 12


def draw_strips(rows: Sequence[tuple[str, Sequence[float], Interval]], title: str) -> str:
    """Draw a score from 0 to 1: a dot a case, and over them the mean with its interval.

    Parameters
    ----------
    rows : label, score of each case, mean
    title : what is drawn, for who can't see it
    """
    height = _ROW * len(rows) + _FOOT
    parts = [_tick(value, height) for value in (0, 0.25, 0.5, 0.75, 1)]
    chance = np.random.default_rng(0)  # spreads dots that would lie over each other
    for number, (label, values, mean) in enumerate(rows):
        middle = _ROW * number + _ROW / 2
        parts.append(f'<text x="{_LEFT - 8}" y="{middle + 4:.0f}" text-anchor="end">{escape(label[:14])}</text>')
        offsets = chance.uniform(-8, 8, len(values))
        parts += [
            f'<circle class="dot" cx="{_across(value):.1f}" cy="{middle + offset:.1f}" r="2"/>'
            for value, offset in zip(values, offsets, strict=True)
        ]
        low, high, at = map(_across, (mean.low, mean.high, mean.estimate))
        parts.append(
            f'<path class="bar" d="M{low:.1f} {middle}H{high:.1f}M{at:.1f} {middle - 9}v18" stroke-width="3"/>'
        )
    told = "; ".join(f"{label} {mean.estimate:.3f} [{mean.low:.3f}, {mean.high:.3f}]" for label, _, mean in rows)
    return _figure(_WIDTH, height, f"{title}: {told}", parts)


def draw_volumes(pairs: Sequence[tuple[float, float]], label: str) -> str:
    """Draw volumes found against those of the reference, ml; a case with one of the two alone is a ring.

    Parameters
    ----------
    pairs : volume found, volume of the reference
    label : name
    """
    most = max([value for pair in pairs for value in pair], default=0) * 1.05 or 1.0
    parts = [_square(), f'<path class="ideal" d="M{_EDGE} {_SIDE - 30}L{_SIDE - _RIGHT} 22"/>']
    for found, reference in (pair for pair in pairs if any(pair)):
        across = _EDGE + reference / most * (_SIDE - _EDGE - _RIGHT)
        down = _SIDE - 30 - found / most * (_SIDE - 52)
        alone = min(found, reference) == 0
        parts.append(f'<circle class="{"missed" if alone else "dot"}" cx="{across:.1f}" cy="{down:.1f}" r="3"/>')
    parts += _name_axes("Reference, ml", "Found, ml", f"{most:.3g}")
    told = f"Volumes of {label} found against the reference, {len(pairs)} cases, up to {most:.3g} ml"
    return _figure(_SIDE, _SIDE, told, parts)


def draw_reliability(reliability: Reliability, title: str) -> str:
    """Draw how often voxels are right against how certain they are; a dot's area is its share of voxels."""
    there = reliability.voxels > 0
    certainty = reliability.certainty[there] / reliability.voxels[there]
    right = reliability.right[there] / reliability.voxels[there]
    share = reliability.voxels[there] / reliability.voxels.sum()
    parts = [_square(), f'<path class="ideal" d="M{_EDGE} {_SIDE - 30}L{_SIDE - _RIGHT} 22"/>']
    for x, y, size in zip(certainty, right, share, strict=True):
        across, down = _EDGE + x * (_SIDE - _EDGE - _RIGHT), _SIDE - 30 - y * (_SIDE - 52)
        parts.append(f'<circle class="dot" cx="{across:.1f}" cy="{down:.1f}" r="{2 + 9 * np.sqrt(size):.1f}"/>')
    parts += _name_axes("Confidence", "Share that is right", "1")
    told = f"{title}: expected calibration error {reliability.ece:.4f} over {int(there.sum())} of {BINS} bins"
    return _figure(_SIDE, _SIDE, told, parts)


def _across(value: float) -> float:
    return _LEFT + min(max(value, 0), 1) * (_WIDTH - _LEFT - _RIGHT)


def _tick(value: float, height: int) -> str:
    at = _across(value)
    return (
        f'<path class="tick" d="M{at:.1f} 0V{height - _FOOT + 6}"/>'
        f'<text x="{at:.1f}" y="{height - 10}" text-anchor="middle">{value:g}</text>'
    )


def _square() -> str:
    return f'<path class="axis" d="M{_EDGE} 22V{_SIDE - 30}H{_SIDE - _RIGHT}"/>'


def _name_axes(across: str, up: str, most: str) -> list[str]:
    return [
        f'<text x="{_SIDE / 2 + 20:.0f}" y="{_SIDE - 6}" text-anchor="middle">{across}</text>',
        f'<text x="{_EDGE}" y="14">{up}</text>',
        f'<text x="{_EDGE - 4}" y="{_SIDE - 26}" text-anchor="end">0</text>',
        f'<text x="{_EDGE - 4}" y="28" text-anchor="end">{most}</text>',
        f'<text x="{_SIDE - _RIGHT}" y="{_SIDE - 16}" text-anchor="end">{most}</text>',
    ]


def _figure(width: int, height: int, told: str, parts: Sequence[str]) -> str:
    shape = "figure square" if width == height else "figure"
    return (
        f'<svg class="{shape}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(told, quote=True)}">'
        f"<title>{escape(told)}</title>{''.join(parts)}</svg>"
    )
