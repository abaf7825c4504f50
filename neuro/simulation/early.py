"""Voxels of a simulated early cortex: receptive fields that grow with eccentricity, tuned, pooled and compressed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.neuro.simulation.gabor import GRID, N_COLOURS, N_GABORS, GaborBank

Floats = NDArray[np.floating[Any]]

EXTENT = 4.2  # degrees from the centre of gaze to the edge of the picture, as in NSD (8.4 degrees)
_FURTHEST = 5.0  # eccentricity of the furthest field, degrees
_HALF = 0.75  # eccentricity at which cortical magnification has halved, degrees
_FLOOR = 1e-3


@dataclass(frozen=True)
class Region:
    """How a region differs from the others. Rounded from the literature, or assumed; none was fitted.

    Parameters
    ----------
    size, growth : size of a receptive field, degrees: size + growth x eccentricity
    exponent : of the compression
    orientation : concentration of the tuning to orientation, that of a von Mises law
    octaves : standard deviation of the tuning to spatial frequency
    colour : mean weight of colour and brightness beside that of Gabor energy

    References
    ----------
    Amano et al. (2009), J. Neurophysiol. 102:2704: fields grow from V1 to hV4. Kay et al. (2013), J. Neurophysiol.
    110:481: compressive spatial summation, stronger in higher areas.
    """

    size: float
    growth: float
    exponent: float
    orientation: float
    octaves: float
    colour: float


EARLY_REGIONS = {
    "V1": Region(0.3, 0.10, 0.5, 2.0, 0.7, 0.3),
    "V2": Region(0.4, 0.15, 0.4, 1.5, 0.9, 0.3),
    "V3": Region(0.5, 0.22, 0.35, 1.0, 1.0, 0.2),
    "V4": Region(0.8, 0.35, 0.3, 1.0, 1.2, 0.8),
}


@dataclass(frozen=True, eq=False)
class EarlyVoxels:
    """Early voxels of one subject.

    Parameters
    ----------
    x, y : array (voxel,), centre of the receptive field, degrees right of and below the centre of gaze
    size : array (voxel,), its standard deviation, degrees
    space : array (place, voxel), Gaussians that add up to at most 1
    channels : array (channel, voxel), weights, none negative
    exponents : array (voxel,)
    """

    x: Floats
    y: Floats
    size: Floats
    space: NDArray[np.float32]
    channels: NDArray[np.float32]
    exponents: NDArray[np.float32]


def draw_early_voxels(counts: dict[str, int], bank: GaborBank, random: np.random.Generator) -> EarlyVoxels:
    """Draw the voxels of the early regions, region after region.

    Eccentricities follow the density e / (e + .75)^2 of cortical magnification. Preferred spatial frequency falls with
    the size of the field. Each voxel mixes its channels by log-normal weights of its own, which makes subjects differ.

    Parameters
    ----------
    counts : early region -> voxels
    bank : GaborBank
    random : generator
    """
    names = np.repeat(list(counts), list(counts.values()))
    facts = {
        name: np.array([getattr(EARLY_REGIONS[region], name) for region in names]) for name in Region.__annotations__
    }
    radius = _draw_eccentricities(len(names), random)
    angle = random.uniform(0, 2 * np.pi, len(names))
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    size = (facts["size"] + facts["growth"] * radius) * random.lognormal(sigma=0.2, size=len(names))
    return EarlyVoxels(
        x,
        y,
        size,
        make_fields(x, y, size),
        _draw_channels(facts, size, bank, random),
        facts["exponent"].astype(np.float32),
    )


def make_fields(x: Floats, y: Floats, size: Floats, grid: int = GRID) -> NDArray[np.float32]:
    """Sample Gaussian receptive fields at the places of the grid.

    Parameters
    ----------
    x, y, size : array (voxel,), degrees
    grid : places along one axis

    Returns
    -------
    array (place, voxel), weights of the part of each field that lies on the picture; a whole field adds up to 1
    """
    places = ((np.arange(grid) + 0.5) / grid * 2 - 1) * EXTENT
    across, down = (
        np.exp(-((places[:, None] - centre) ** 2) / (2 * size**2)) / (np.sqrt(2 * np.pi) * size) * (2 * EXTENT / grid)
        for centre in (x, y)
    )
    fields: NDArray[np.float32] = (down[:, None] * across[None]).reshape(grid * grid, -1).astype(np.float32)
    return fields


def respond_early(channels: NDArray[np.float32], voxels: EarlyVoxels) -> NDArray[np.float32]:
    """Return (sum over channels c of w_c sum over places p of G_p E_cp)^n.

    Parameters
    ----------
    channels : array (picture, channel, place y, place x), from `see`
    voxels : EarlyVoxels

    Returns
    -------
    array (picture, voxel)
    """
    pooled = channels.reshape(*channels.shape[:2], -1) @ voxels.space
    drive = np.einsum("pcv,cv->pv", pooled, voxels.channels)
    response: NDArray[np.float32] = (drive + np.float32(_FLOOR)) ** voxels.exponents
    return response


def _draw_eccentricities(count: int, random: np.random.Generator) -> Floats:
    grid = np.linspace(0, _FURTHEST, 2001)
    cumulative = np.cumsum(grid / (grid + _HALF) ** 2)
    return np.interp(random.uniform(size=count), cumulative / cumulative[-1], grid)


def _draw_channels(
    facts: dict[str, Floats], size: Floats, bank: GaborBank, random: np.random.Generator
) -> NDArray[np.float32]:
    """Tuning of every voxel, mixed; all Gabors of a voxel add up to 1 before the mixing."""
    preferred = random.uniform(0, np.pi, len(size))
    turned = np.cos(2 * (bank.orientations[:, None] - preferred)) - 1
    # Two thirds of a cycle in one standard deviation of the field, as far as the pictures have it.
    best = np.clip(np.log2(2 * EXTENT * 2 / 3 / size), np.log2(bank.frequencies.min()), np.log2(bank.frequencies.max()))
    best = best + random.normal(scale=0.5, size=len(size))
    apart = (np.log2(bank.frequencies)[:, None] - best) / facts["octaves"]
    tuned = np.exp(facts["orientation"] * turned - apart**2 / 2)
    tuned = tuned / tuned.sum(0)
    coloured = facts["colour"] * random.dirichlet(np.full(N_COLOURS, 0.5), len(size)).T
    mixing = random.lognormal(sigma=0.5, size=(N_GABORS + N_COLOURS, len(size)))
    return (np.concatenate([tuned, coloured]) * mixing).astype(np.float32)
