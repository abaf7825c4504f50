"""What is chosen voxel by voxel: the response by its likelihood; components and shrinkage on held-out runs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.neuro.glm.frames import Frame
from voxelight.neuro.glm.solve import solve_ridge

Floats = NDArray[np.floating[Any]]
Step = Callable[[str, float], None]

_VARIANCES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # of the betas over that of the noise
_COMMON = 1.0  # variance of the response that trials have in common, over that of the betas
_ENOUGH = 0.95  # of the gain of the best number of components


@dataclass(frozen=True, eq=False)
class Likely:
    """Which response makes the signal of each voxel most likely.

    Parameters
    ----------
    response : array (voxel,), number in the library
    gain : array (voxel,), its log-likelihood above that of no response
    r2 : array (voxel,), share of the variance, without nuisance, that trials explain by it
    """

    response: NDArray[np.intp]
    gain: NDArray[np.float64]
    r2: NDArray[np.float64]


def blocks(frames: Sequence[Frame], size: int) -> Iterator[slice]:
    """Yield the voxels of a session in blocks."""
    voxels = frames[0].run.bold.shape[1]
    yield from (slice(start, min(start + size, voxels)) for start in range(0, voxels, size))


def choose_responses(frames: Sequence[Frame], count: int, size: int, step: Step) -> Likely:
    """Choose a response for each voxel by the marginal likelihood of its signal.

    The betas of a voxel are taken as drawn from a normal distribution, b ~ N(m 1, s² g I) with m ~ N(0, s² g), and the
    noise as N(0, s²). With the design X = U S V' of a response, scaled by that covariance, the signal's log-likelihood
    is -T/2 log(sum_i c_i² / (1 + g S_i²) + rest) - 1/2 sum_i log(1 + g S_i²), c = U'y, at the best s² and the best of
    some g. A response fits no better by being smoother, as it may by least squares where trials overlap.

    Parameters
    ----------
    frames : of the runs of a session
    count : components that are taken out
    size : voxels in memory at a time
    step : called after each block with what is done and its share
    """
    parts = []
    decompositions = [[_decompose(frame, number, count) for number in range(len(frame.designs))] for frame in frames]
    voxels = frames[0].run.bold.shape[1]
    for block in blocks(frames, size):
        signals = [without(frame, frame.load(block), count) for frame in frames]
        parts.append(_find_likely(frames, signals, decompositions, count))
        step("responses", block.stop / voxels)
    return Likely(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _decompose(frame: Frame, response: int, count: int) -> tuple[Floats, Floats, Floats]:
    design = frame.find_design(response, count)
    trials = design.shape[1]
    common = np.linalg.cholesky(np.eye(trials) + _COMMON * np.ones((trials, trials)))
    u, s, _ = np.linalg.svd(design @ common, full_matrices=False)
    return u, s**2, design


def without(frame: Frame, signal: Floats, count: int) -> Floats:
    """Take the first components of a run out of its signal, array (volume, voxel)."""
    if not count:
        return signal
    some = frame.components[:, :count]
    return np.asarray(signal - some @ (some.T @ signal))


def _find_likely(
    frames: Sequence[Frame],
    signals: Sequence[Floats],
    decompositions: Sequence[Sequence[tuple[Floats, Floats, Floats]]],
    count: int,
) -> tuple[NDArray[np.intp], Floats, Floats]:
    free = sum(frame.free - count for frame in frames)
    total = np.sum([(signal**2).sum(0) for signal in signals], axis=0)
    alive = total > 0
    logs, explained = [], []
    for number in range(len(decompositions[0])):
        left, determinants, inside = [], [], np.zeros_like(total)
        products = []
        for signal, decomposition in zip(signals, decompositions, strict=True):
            u, squares, _ = decomposition[number]
            products.append(((u.T @ signal) ** 2, squares))
            inside += products[-1][0].sum(0)
        for variance in _VARIANCES:
            shrunk = sum(((p / (1 + variance * s)[:, None]).sum(0) for p, s in products), np.zeros_like(total))
            left.append(shrunk + (total - inside).clip(min=0))
            determinants.append(sum(float(np.log1p(variance * s).sum()) for _, s in products))
        share = np.stack(left) / np.where(alive, total, 1.0)
        logs.append((-free / 2 * np.log(share.clip(min=1e-12)) - np.array(determinants)[:, None] / 2).max(0))
        explained.append(inside / np.where(alive, total, 1.0))
    likelihood, r2 = np.stack(logs), np.stack(explained)
    best = likelihood.argmax(0)
    picked = np.arange(len(best))
    gain = np.where(alive, likelihood[best, picked], -np.inf)
    return best, gain, np.where(alive, r2[best, picked], 0.0)


def add_components(frames: Sequence[Frame], pool: NDArray[np.bool_], most: int, size: int) -> list[Frame]:
    """Give each run the principal components of voxels without a response.

    Each voxel's signal has length 1, so that none outweighs the others; components come from the sum of outer products
    over blocks of voxels.

    Parameters
    ----------
    frames : of the runs of a session
    pool : array (voxel,), which voxels
    most : components
    size : voxels in memory at a time

    References
    ----------
    Kay et al. (2013), Frontiers in Neuroscience 7:247 (GLMdenoise).
    """
    numbers = np.flatnonzero(pool)
    found = []
    for frame in frames:
        volumes = len(frame.basis)
        gram = np.zeros((volumes, volumes))
        for start in range(0, len(numbers), size):
            signal = frame.load(numbers[start : start + size])
            lengths = np.linalg.norm(signal, axis=0)
            signal = signal[:, lengths > 0] / lengths[lengths > 0]
            gram += signal @ signal.T
        _, vectors = np.linalg.eigh(gram)
        found.append(replace(frame, components=np.ascontiguousarray(vectors[:, ::-1][:, :most])))
    return found


class Repeats:
    """Which trials of other runs showed what a trial shows.

    Parameters
    ----------
    frames : of the runs of a session
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        ids = np.concatenate([frame.run.events.stimulus_ids for frame in frames])
        self._number = np.unique(ids, return_inverse=True)[1]
        self._run = np.repeat(np.arange(len(frames)), [len(frame.run.events.onsets) for frame in frames])
        pairs = np.unique(np.stack([self._number, self._run]), axis=1)[0]
        self.stimuli = int((np.bincount(pairs) > 1).sum())
        """Stimuli that were shown in two runs or more."""

    def rows(self, run: int) -> NDArray[np.intp]:
        """Return the trials of a run among those of all."""
        return np.flatnonzero(self._run == run)

    def expect(self, betas: Floats, run: int) -> Floats:
        """Return for each trial of a run the mean of the betas that other runs gave its stimulus, less their mean.

        A stimulus that no other run showed is expected at the mean.

        Parameters
        ----------
        betas : array (trial, ...), of all runs
        run : number of the run that is held out

        Returns
        -------
        array (trial of the run, ...)
        """
        others = self._run != run
        matrix = (self._number[self.rows(run)][:, None] == self._number[others][None]).astype(np.float64)
        counts = matrix.sum(1, keepdims=True)
        weights = np.where(counts > 0, matrix / np.maximum(counts, 1), 1 / others.sum()) - 1 / others.sum()
        flat = betas[others].reshape(int(others.sum()), -1)
        return np.asarray((weights @ flat).reshape(len(matrix), *betas.shape[1:]))


def predict_held_out(
    frames: Sequence[Frame], signals: Sequence[Floats], responses: NDArray[np.intp], betas: Floats, repeats: Repeats
) -> NDArray[np.float64]:
    """Return how well betas of other runs predict the signal of each run that is held out.

    The part of the signal that all trials have in common is taken out of both; the correlation of the rest is over the
    volumes of all runs, each predicted once. It says nothing about the size of betas, as shrinkage changes that.

    Parameters
    ----------
    frames : of the runs of a session
    signals : for each an array (volume, voxel), whitened, without nuisance
    responses : array (voxel,)
    betas : array (trial, candidate, voxel), of all runs
    repeats : Repeats

    Returns
    -------
    array (candidate, voxel)
    """
    candidates, voxels = betas.shape[1:]
    cross, own = np.zeros((candidates, voxels)), np.zeros((candidates, voxels))
    total = np.zeros(voxels)
    for number, (frame, signal) in enumerate(zip(frames, signals, strict=True)):
        expected = repeats.expect(betas, number)
        for response in np.unique(responses):
            of = np.flatnonzero(responses == response)
            design = frame.find_design(int(response))
            common = design.sum(1)
            common = common / np.linalg.norm(common)
            design = design - np.outer(common, common @ design)
            rest = signal[:, of] - np.outer(common, common @ signal[:, of])
            total[of] += (rest**2).sum(0)
            for candidate in range(candidates):
                predicted = design @ expected[:, candidate, of]
                cross[candidate, of] += (predicted * rest).sum(0)
                own[candidate, of] += (predicted**2).sum(0)
    lengths = np.sqrt(own * total)
    return np.divide(cross, lengths, out=np.zeros_like(cross), where=lengths > 0)


def estimate_fractions(
    frame: Frame, signal: Floats, responses: NDArray[np.intp], count: int, fractions: Floats
) -> NDArray[np.float64]:
    """Return the betas of a run at each fraction of their length: array (trial, fraction, voxel)."""
    betas = np.zeros((len(frame.run.events.onsets), len(fractions), signal.shape[1]))
    clean = without(frame, signal, count)
    for response in np.unique(responses):
        of = responses == response
        betas[:, :, of] = solve_ridge(frame.find_design(int(response), count), clean[:, of], fractions)
    return betas


def choose_count(scores: Floats) -> int:
    """Return the least number of components that reaches nearly all of the gain of the best.

    Parameters
    ----------
    scores : array (count + 1,), from none to the most
    """
    gains = np.asarray(scores) - scores[0]
    if gains.max() <= 0:
        return 0
    return int(np.argmax(gains >= _ENOUGH * gains.max()))
