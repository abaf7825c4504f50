"""Energy of Gabor filters and of colour contrasts over a grid: what the voxels of a simulated early cortex pool."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.neuro.simulation.pictures import resample_pictures

Floats = NDArray[np.floating[Any]]
Complex = NDArray[np.complex64]

SIDE = 64  # pixels at which pictures are seen
GRID = 32  # places along one axis
FREQUENCIES = (3.0, 6.0, 12.0, 24.0)  # cycles in a picture
ORIENTATIONS = tuple(np.pi * step / 6 for step in range(6))
GREY = 0.5  # of the screen around the picture, as in NSD
_OCTAVES = 1.0
# Luminance, red against green, blue against yellow.
_AXES = (np.array([[1, 1, 1], [1, -1, 0], [-0.5, -0.5, 1]]) / np.array([[3], [2], [2]])).astype(np.float32)
N_GABORS = len(FREQUENCIES) * len(ORIENTATIONS)
N_COLOURS = 2 * len(_AXES)


@dataclass(frozen=True, eq=False)
class GaborBank:
    """Complex Gabor filters as products of a filter along rows and one along columns.

    Parameters
    ----------
    rows, columns : array (filter, place, pixel), complex
    frequencies : array (filter,), cycles in a picture
    orientations : array (filter,), radians, of the wave's direction from the x axis (columns) towards y (rows)
    """

    rows: Complex
    columns: Complex
    frequencies: Floats
    orientations: Floats


def make_bank(side: int = SIDE, grid: int = GRID) -> GaborBank:
    """Make the filters g(x, y) = exp(-(x^2 + y^2) / 2 s^2 + 2 pi i f (x cos a + y sin a)) / (2 pi s^2).

    Their bandwidth is one octave, s = .56 / f. Beyond its edge the picture is grey.

    Parameters
    ----------
    side : pixels of a picture
    grid : places along one axis, at the centres of equal cells
    """
    frequencies, orientations = (part.ravel() for part in np.meshgrid(FREQUENCIES, ORIENTATIONS, indexing="ij"))
    ratio = np.sqrt(np.log(2) / 2) / np.pi * (2**_OCTAVES + 1) / (2**_OCTAVES - 1)
    deviations = ratio * side / frequencies
    places = (np.arange(grid) + 0.5) * side / grid - 0.5
    offsets = places[:, None] - np.arange(side)

    def along(share: Floats) -> Complex:
        wave = 2j * np.pi * (frequencies * share / side)[:, None, None] * offsets
        bell = np.exp(-(offsets**2) / (2 * deviations[:, None, None] ** 2)) / (
            np.sqrt(2 * np.pi) * deviations[:, None, None]
        )
        filters: Complex = (bell * np.exp(wave)).astype(np.complex64)
        return filters

    return GaborBank(along(np.sin(orientations)), along(np.cos(orientations)), frequencies, orientations)


def gabor_energy(luminance: Floats, bank: GaborBank) -> NDArray[np.float32]:
    """Return sqrt(even^2 + odd^2) of every filter.

    Parameters
    ----------
    luminance : array (picture, row, column), 0 being the grey of the screen
    bank : GaborBank

    Returns
    -------
    array (picture, filter, place y, place x)

    References
    ----------
    Adelson & Bergen (1985), J. Opt. Soc. Am. A 2:284, the energy model.
    """
    # Rows first, so that every filter takes two large matrix products instead of many small ones.
    across = np.ascontiguousarray(luminance.transpose(1, 0, 2), dtype=np.float32).reshape(-1, luminance.shape[2])
    filters, grid, side = bank.rows.shape
    energy = np.empty((len(luminance), filters, grid, grid), np.float32)
    for number, (rows, columns) in enumerate(zip(bank.rows, bank.columns, strict=True)):
        parts = across @ np.concatenate([columns.real, columns.imag]).T
        waves = (parts[:, :grid] + 1j * parts[:, grid:]).reshape(side, -1)
        energy[:, number] = np.abs(rows @ waves).reshape(grid, -1, grid).transpose(1, 0, 2)
    return energy


def see(images: NDArray[np.float32], bank: GaborBank) -> NDArray[np.float32]:
    """Return all channels of early vision: Gabor energies, then each colour axis above and below grey.

    Parameters
    ----------
    images : array (picture, row, column, 1 or 3) in [0, 1]
    bank : GaborBank

    Returns
    -------
    array (picture, channel, place y, place x), none negative
    """
    side, grid = bank.rows.shape[2], bank.rows.shape[1]
    axes = (resample_pictures(images, side) - np.float32(GREY)) @ _AXES.T
    cells = resample_pictures(np.ascontiguousarray(axes), grid).transpose(0, 3, 1, 2)
    return np.concatenate(
        [gabor_energy(axes[..., 0], bank), np.maximum(cells, 0), np.maximum(-cells, 0)], axis=1, dtype=np.float32
    )
