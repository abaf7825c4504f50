"""Population receptive fields: where in the visual field a voxel answers, from BOLD and the movie that was seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from voxelight.models.errors import BadInput
from voxelight.neuro.glm.hrf import CANONICAL, Hrf

Floats = NDArray[np.floating[Any]]

_STEPS = 24  # positions of the grid along each axis, over one and a quarter of the screen
_SIZES = 10
_SMALLEST = 0.05  # degrees
_BEYOND = 1.25
_AT_ONCE = 2000
_MEMORY_S = 32.0


@dataclass(frozen=True, eq=False)
class Movie:
    """What was on the screen, in the frame of the gaze.

    Parameters
    ----------
    frames : array (volume, pixel), contrast
    x, y : array (pixel,), degrees of visual angle, right and up

    Raises
    ------
    BadInput
        The parts don't fit, or nothing was shown.
    """

    frames: Floats
    x: Floats
    y: Floats

    def __post_init__(self) -> None:
        if self.frames.ndim != 2 or self.x.shape != self.y.shape or self.x.shape != self.frames.shape[1:]:
            raise BadInput(
                f"a movie of shape {self.frames.shape} with {len(self.x)} and {len(self.y)} positions",
                "(volume, pixel) and a position for every pixel",
                "Give each frame as one row, in the order of the positions.",
            )
        if not np.isfinite(self.frames).all() or not self.frames.any():
            raise BadInput("a movie that shows nothing or holds NaN", "contrast, 0 where nothing is", "Check it.")


@dataclass(frozen=True, eq=False)
class ReceptiveFieldFits:
    """A Gaussian for each voxel, each an array (voxel,).

    Parameters
    ----------
    x, y : centre, degrees
    size : standard deviation, degrees
    amplitude, baseline : of the signal, in its own unit
    r2 : share of the variance that the fit explains in the volumes it was fitted to
    """

    x: Floats
    y: Floats
    size: Floats
    amplitude: Floats
    baseline: Floats
    r2: Floats


class ReceptiveFieldModel:
    """The signal that a receptive field gives: amplitude x (response * sum of the movie under a Gaussian) + baseline.

    Parameters
    ----------
    movie : Movie
    repetition_s : from one volume to the next, s
    hrf : response of the blood to a moment
    lead_s : by how much frames are taken to begin before the volume of their number, s

    References
    ----------
    Dumoulin and Wandell (2008), NeuroImage 39:647.
    """

    def __init__(self, movie: Movie, repetition_s: float, hrf: Hrf = CANONICAL, lead_s: float = 0.0) -> None:
        self._x, self._y = (np.asarray(each, dtype=np.float64) for each in (movie.x, movie.y))
        self._reach = tuple(float(_BEYOND * np.abs(axis).max()) for axis in (self._x, self._y))
        lags = np.arange(0, _MEMORY_S, repetition_s)
        weights = hrf.respond(lags, -lead_s, repetition_s)  # a frame stands on the screen until the next
        volumes = len(movie.frames)
        matrix = sum((weight * np.eye(volumes, k=-lag) for lag, weight in enumerate(weights) if lag < volumes),
                     np.zeros((volumes, volumes)))  # fmt: skip
        self._seen = matrix @ np.asarray(movie.frames, dtype=np.float64)

    def predict(self, x: Floats, y: Floats, size: Floats) -> Floats:
        """Return signals of amplitude 1 and baseline 0: array (volume, field)."""
        parts = []
        for start in range(0, len(x), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            apart = (self._x[:, None] - x[some]) ** 2 + (self._y[:, None] - y[some]) ** 2
            parts.append(self._seen @ np.exp(-apart / (2 * size[some] ** 2)))
        return np.concatenate(parts, axis=1)

    def fit(self, bold: Floats, volumes: NDArray[np.intp] | None = None) -> ReceptiveFieldFits:
        """Fit a field to each voxel: the best of a grid, then least squares from there.

        Parameters
        ----------
        bold : array (volume, voxel)
        volumes : array (some,), those to fit to; all where not given

        Raises
        ------
        BadInput
            BOLD and movie differ in length.
        """
        if bold.ndim != 2 or len(bold) != len(self._seen):
            raise BadInput(
                f"BOLD of shape {bold.shape} and a movie of {len(self._seen)} frames",
                "a frame for every volume",
                "Cut the movie to the volumes.",
            )
        rows = np.arange(len(bold)) if volumes is None else volumes
        signal = np.asarray(bold, dtype=np.float64)[rows]
        starts, _ = self._search(signal, rows)
        return self._describe(np.stack([self._refine(signal[:, voxel], start, rows)
                                        for voxel, start in enumerate(starts)]), signal, rows)  # fmt: skip

    def search(self, bold: Floats, volumes: NDArray[np.intp] | None = None) -> Floats:
        """Return how well the best field of the grid correlates with each voxel, without fitting further."""
        rows = np.arange(len(bold)) if volumes is None else volumes
        return self._search(np.asarray(bold, dtype=np.float64)[rows], rows)[1]

    def predict_fits(self, fits: ReceptiveFieldFits) -> Floats:
        """Return the signal of fitted fields in every volume of the movie: array (volume, voxel)."""
        return self.predict(fits.x, fits.y, fits.size) * fits.amplitude + fits.baseline

    def _search(self, signal: Floats, rows: NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Return the position and size, of a grid, whose signal correlates best, and how well, by voxel."""
        sizes = np.geomspace(0.3, max(self._reach) / 2, _SIZES)
        axes = (*(np.linspace(-end, end, _STEPS) for end in self._reach), sizes)
        grid = np.stack([each.ravel() for each in np.meshgrid(*axes, indexing="ij")], axis=1)
        scaled = _standardise(signal)
        best, where = np.full(signal.shape[1], -np.inf), np.zeros((signal.shape[1], 3))
        for start in range(0, len(grid), _AT_ONCE):
            some = grid[start : start + _AT_ONCE]
            fit = _standardise(self.predict(*some.T)[rows]).T @ scaled
            place = fit.argmax(0)
            value = fit[place, np.arange(fit.shape[1])]
            better = value > best
            best[better], where[better] = value[better], some[place[better]]
        return where, best

    def _refine(self, signal: Floats, start: Floats, rows: NDArray[np.intp]) -> Floats:
        target = signal - signal.mean()

        def miss(found: Floats) -> Floats:
            x, y, size = found[:1], found[1:2], np.exp(found[2:])
            made = self.predict(x, y, size)[rows, 0]
            made = made - made.mean()
            length = made @ made
            amplitude = max(0.0, made @ target / length) if length > 0 else 0.0
            return np.asarray(target - amplitude * made)

        first = np.array([*start[:2], np.log(start[2])])
        wide, high = self._reach
        most = np.array([wide, high, np.log(max(wide, high))]) * 1.01  # the grid lies inside
        least = np.array([-most[0], -most[1], np.log(_SMALLEST)])
        return np.asarray(least_squares(miss, first, bounds=(least, most), x_scale=(1.0, 1.0, 0.3), max_nfev=30).x)

    def _describe(self, found: Floats, signal: Floats, rows: NDArray[np.intp]) -> ReceptiveFieldFits:
        x, y, size = found[:, 0], found[:, 1], np.exp(found[:, 2])
        made = self.predict(x, y, size)[rows]
        centred, mean = signal - signal.mean(0), made.mean(0)
        lengths = ((made - mean) ** 2).sum(0)
        amplitude = np.divide(((made - mean) * centred).sum(0), lengths, out=np.zeros_like(lengths), where=lengths > 0)
        amplitude = amplitude.clip(min=0)
        left = ((centred - amplitude * (made - mean)) ** 2).sum(0)
        total = (centred**2).sum(0)
        r2 = 1 - np.divide(left, total, out=np.ones_like(total), where=total > 0)
        return ReceptiveFieldFits(x, y, size, amplitude, signal.mean(0) - amplitude * mean, r2)


def split_time(
    volumes: int, repetition_s: float, blocks: int, gap_s: float = 20.0
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Cut a run into blocks of time, each held out once, with a gap around it that is neither fitted nor tested.

    The blood answers for longer than a volume: without a gap, what is fitted overlaps what is predicted.

    Parameters
    ----------
    volumes : of the run
    repetition_s : s
    blocks : how many, two or more
    gap_s : before and after a block, s

    Returns
    -------
    list of (array (fitted,), array (held out,)), numbers of volumes

    Raises
    ------
    BadInput
        The gaps leave nothing to fit.
    """
    gap = int(np.ceil(gap_s / repetition_s))
    folds = []
    for held in np.array_split(np.arange(volumes), blocks):
        fitted = np.array([at for at in range(volumes) if at < held[0] - gap or at > held[-1] + gap], dtype=np.intp)
        if blocks < 2 or len(fitted) < len(held):
            raise BadInput(
                f"{volumes} volumes in {blocks} blocks with gaps of {gap_s:g} s",
                "two blocks or more, and at least as many volumes to fit as are held out",
                "Use a shorter gap or more blocks.",
            )
        folds.append((fitted, held))
    return folds


def choose_lead(
    movie: Movie, bold: Floats, repetition_s: float, leads: Sequence[float], volumes: NDArray[np.intp] | None = None
) -> float:
    """Return by how much frames begin before their volumes, one for all voxels: that by which grids fit best.

    Recordings differ in where a movie begins; a wrong time moves fields along the path of the stimulus.

    Parameters
    ----------
    movie, bold, repetition_s : as for the model; some voxels are enough
    leads : to choose from, s
    volumes : that are looked at; all where not given
    """
    fits = [np.median(ReceptiveFieldModel(movie, repetition_s, lead_s=lead).search(bold, volumes)) for lead in leads]
    return float(leads[int(np.argmax(fits))])


def predict_held_out(
    model: ReceptiveFieldModel, bold: Floats, repetition_s: float, blocks: int, gap_s: float
) -> Floats:
    """Return the signal of each volume as predicted by fields that were fitted without its block: array as `bold`."""
    predicted = np.empty(bold.shape)
    for fitted, held in split_time(len(bold), repetition_s, blocks, gap_s):
        predicted[held] = model.predict_fits(model.fit(bold, fitted))[held]
    return predicted


def _standardise(columns: Floats) -> Floats:
    centred = columns - columns.mean(0)
    lengths = np.linalg.norm(centred, axis=0)
    return np.asarray(np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0))
