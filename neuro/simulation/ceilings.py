"""Noise ceilings: NSD's as the committed table tells them, drawn for a subject, and measured from repeats."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas

Floats = NDArray[np.floating[Any]]

REGIONS = ("V1", "V2", "V3", "V4", "higher")
TRIALS = 3
_BLOCK = 1024  # voxels at once


class NsdSubject(BaseModel):
    """One subject of NSD.

    Parameters
    ----------
    name : subj01 to subj08
    sessions : sessions that were scanned
    nsdgeneral : median noise ceiling over nsdgeneral, percent of the variance of three averaged trials
    voxels : region -> number of voxels
    ceilings : region -> median noise ceiling, percent
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sessions: PositiveInt
    nsdgeneral: PositiveFloat
    voxels: dict[str, PositiveInt]
    ceilings: dict[str, PositiveFloat]


class NsdTable(BaseModel):
    """What simulated subjects follow.

    Parameters
    ----------
    spread : region -> standard deviation of ncsnr over its median
    subjects : in NSD's order
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spread: dict[str, PositiveFloat]
    subjects: tuple[NsdSubject, ...]


@cache
def read_nsd() -> NsdTable:
    """Return the committed table ``nsd.toml``, which says where each figure comes from."""
    return NsdTable(**tomllib.loads((files(__package__) / "nsd.toml").read_text(encoding="utf-8")))


def find_nsd_subject(number: int) -> NsdSubject:
    """Return the NSD subject that a simulated one follows; after the eighth they begin again.

    Parameters
    ----------
    number : from 1
    """
    subjects = read_nsd().subjects
    return subjects[(number - 1) % len(subjects)]


def count_voxels(subject: NsdSubject, total: int | None = None) -> dict[str, int]:
    """Deal voxels onto regions in NSD's proportions, by largest remainders.

    Parameters
    ----------
    subject : whose proportions
    total : number of voxels; the subject's own where not given

    Raises
    ------
    BadInput
        There are fewer voxels than regions.
    """
    own = np.array([subject.voxels[region] for region in REGIONS])
    if total is None:
        return dict(zip(REGIONS, own.tolist(), strict=True))
    if total < len(REGIONS):
        raise BadInput(f"{total} voxels", f"{len(REGIONS)} or more, one a region", "Ask for more voxels.")
    # One each, so that no region is empty, and the others by their shares.
    exact = (total - len(REGIONS)) * own / own.sum()
    counts = 1 + np.floor(exact).astype(int)
    counts[np.argsort(np.floor(exact) - exact, kind="stable")[: total - counts.sum()]] += 1
    return dict(zip(REGIONS, counts.tolist(), strict=True))


def draw_ncsnr(subject: NsdSubject, counts: dict[str, int], random: np.random.Generator) -> Floats:
    """Draw the ncsnr of every voxel: max(0, Normal(median, spread x median)) in each region.

    Returns
    -------
    array (voxel,), region after region
    """
    spread = read_nsd().spread
    parts = []
    for region, count in counts.items():
        median = find_ncsnr(subject.ceilings[region])
        parts.append(np.maximum(random.normal(median, spread[region] * median, count), 0))
    return np.concatenate(parts)


def noise_ceiling(ncsnr: Floats, trials: int = TRIALS) -> Floats:
    """Return the share of variance that the signal has in an average of trials, NC = 100 ncsnr^2 / (ncsnr^2 + 1/n).

    Parameters
    ----------
    ncsnr : array, standard deviation of the signal over that of the noise of one trial
    trials : n

    Returns
    -------
    array, percent

    References
    ----------
    Allen et al. (2022), Nature Neuroscience 25:116, Methods, noise ceiling.
    """
    ceiling: Floats = 100 * ncsnr**2 / (ncsnr**2 + 1 / trials)
    return ceiling


def find_ncsnr(ceiling: float, trials: int = TRIALS) -> float:
    """Return the ncsnr that has this noise ceiling, percent: the inverse of `noise_ceiling`."""
    return float(np.sqrt(ceiling / (trials * (100 - ceiling))))


def measure_ncsnr(betas: Betas) -> Floats:
    """Estimate the ncsnr of every voxel from repeats.

    Each voxel is standardised in each session. The variance of the noise is the variance between repeats of a stimulus
    (divisor n - 1), pooled over stimuli; that of the signal is what is left of 1, and 0 where nothing is.

    Parameters
    ----------
    betas : Betas (trial, voxel) with the label `session`; they may lie on disk

    Returns
    -------
    array (voxel,)

    Raises
    ------
    BadInput
        The sessions are unknown, or no stimulus is repeated.

    References
    ----------
    Allen et al. (2022), Nature Neuroscience 25:116, Methods, noise ceiling.
    """
    _, stimulus, counts = np.unique(betas.stimulus_ids, return_inverse=True, return_counts=True)
    freedom = int((counts - 1).sum())
    if "session" not in betas.labels or freedom == 0:
        raise BadInput(
            f"betas with the labels {', '.join(betas.labels) or 'none'} and {freedom} repeated trials",
            "the label session, and stimuli that were shown more than once",
            "Keep sessions and repeats apart: do not average before.",
        )
    sessions = [np.flatnonzero(betas.labels["session"] == name) for name in np.unique(betas.labels["session"])]
    order = np.argsort(stimulus, kind="stable")
    starts = np.cumsum(counts) - counts
    measured = []
    for first in range(0, betas.values.shape[1], _BLOCK):
        values = betas.values[:, first : first + _BLOCK].astype(np.float64)
        for rows in sessions:
            std = values[rows].std(0)
            values[rows] = (values[rows] - values[rows].mean(0)) / np.where(std > 0, std, 1)
        within = (values**2).sum(0) - (np.add.reduceat(values[order], starts, axis=0) ** 2 / counts[:, None]).sum(0)
        noise = within / freedom
        signal = np.maximum(1 - noise, 0)
        measured.append(np.sqrt(np.divide(signal, noise, out=np.zeros_like(noise), where=noise > 0)))
    return np.concatenate(measured)
