"""One's own betas beside a published set of the same experiment: the same trials, voxel by voxel and as a geometry."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas
from voxelight.neuro.alignment import Alignment, check_alignment
from voxelight.neuro.betas import average_repeats, normalise
from voxelight.neuro.evaluate.ceiling import find_ceiling
from voxelight.neuro.evaluate.intervals import permutation_p

Rows = NDArray[np.intp]
Floats = NDArray[np.floating[Any]]

_FEWEST_TRIALS, _FEWEST_STIMULI, _MOST_STIMULI = 10, 6, 600


@dataclass(frozen=True)
class BetaComparison:
    """How two sets of betas agree.

    Parameters
    ----------
    trials : that both hold, paired by stimulus and showing, and by session where both say it
    left_out : trials of one's own, and of the published set, that the other lacks
    voxels : columns of one's own and of the published set
    voxel_correlation : quartiles over voxels of the correlation over trials; None where the columns are not the same
    voxel_null : largest median of that correlation with trials permuted
    slope : median over voxels of published regressed on own: 1 where both have one unit, 300 where one is unscaled
    by_session : session -> median correlation
    geometry : Spearman correlation of the dissimilarities of stimuli
    geometry_p : its permutation p
    reliability : median ncsnr of one's own and of the published betas; None without repeats
    alignment : of both, in words
    notes : what a person should know
    """

    trials: int
    left_out: tuple[int, int]
    voxels: tuple[int, int]
    voxel_correlation: tuple[float, float, float] | None
    voxel_null: float | None
    slope: float | None
    by_session: dict[str, float]
    geometry: float
    geometry_p: float
    reliability: tuple[float | None, float | None]
    alignment: tuple[str, str]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        own, published = self.reliability
        lines = [
            f"{self.trials} trials in both; {self.left_out[0]} only in one's own, {self.left_out[1]} only published",
            f"geometry of stimuli: Spearman {self.geometry:.3f}, p = {self.geometry_p:.3g}",
        ]
        if self.voxel_correlation is not None:
            low, middle, high = self.voxel_correlation
            null = f", at most {self.voxel_null:.3f} with trials permuted"
            lines.append(f"voxels: correlation {middle:.3f} (quartiles {low:.3f} to {high:.3f}){null}")
            lines.append(f"published = {self.slope:.3g} x own, median over voxels")
            lines += [f"{session}: {value:.3f}" for session, value in self.by_session.items()]
        if own is not None and published is not None:
            lines.append(f"median ncsnr {own:.3f} (own) and {published:.3f} (published)")
        return [*lines, f"own: {self.alignment[0]}", f"published: {self.alignment[1]}", *self.notes]


def compare_betas(own: Betas, published: Betas, permutations: int = 199, seed: int = 0) -> BetaComparison:
    """Compare betas with a published set of the same subject and stimuli.

    Parameters
    ----------
    own, published : Betas (trial, voxel)
        Stimuli must have the same names in both. Columns are compared one by one where there are as many of them, which
        the caller answers for; the geometry of stimuli in any case.
    permutations : draws of the nulls
    seed : of the draws

    Raises
    ------
    BadInput
        They share fewer than ten trials or six stimuli.
    """
    first, second = _pair(own, published)
    if len(first) < _FEWEST_TRIALS:
        raise BadInput(
            f"{len(first)} trials in both sets",
            f"{_FEWEST_TRIALS} or more with the same stimuli",
            "Give betas of one subject whose stimuli have the same names, nsd-00042 for one.",
        )
    draw = np.random.default_rng(seed)
    a, b = own.values[first].astype(np.float64), published.values[second].astype(np.float64)
    same = a.shape[1] == b.shape[1]
    voxelwise = _correlate(a, b) if same else None
    sessions = own.labels.get("session")
    by_session = {}
    if voxelwise is not None and sessions is not None:
        for session in dict.fromkeys(sessions[first].tolist()):
            rows = np.flatnonzero(sessions[first] == session)
            by_session[session] = float(np.median(_correlate(a[rows], b[rows])))
    geometry, p = _compare_geometry(own, published, draw, permutations)
    shuffled = [float(np.median(_correlate(a, b[draw.permutation(len(b))]))) for _ in range(9)] if same else []
    checks = [check_alignment(each, permutations, seed) for each in (own, published)]
    return BetaComparison(
        trials=len(first),
        left_out=(len(own.values) - len(first), len(published.values) - len(second)),
        voxels=(a.shape[1], b.shape[1]),
        voxel_correlation=None if voxelwise is None else _quartiles(voxelwise),
        voxel_null=max(shuffled) if shuffled else None,
        slope=_median_slope(a, b) if same else None,
        by_session=by_session,
        geometry=geometry,
        geometry_p=p,
        reliability=(_reliability(own), _reliability(published)),
        alignment=(checks[0].line(), checks[1].line()),
        notes=_note(a, b, checks),
    )


def _pair(own: Betas, published: Betas) -> tuple[Rows, Rows]:
    """Pair trials by stimulus and showing; inside sessions where both name the same ones."""
    shared = set(own.labels.get("session", np.array([])).tolist()) & set(
        published.labels.get("session", np.array([])).tolist()
    )
    places = {key: row for row, key in enumerate(_keys(published, bool(shared)))}
    found = [(row, places[key]) for row, key in enumerate(_keys(own, bool(shared))) if key in places]
    pairs = np.array(found, dtype=np.intp).reshape(len(found), 2)
    return pairs[:, 0], pairs[:, 1]


def _keys(betas: Betas, by_session: bool) -> list[tuple[str, str, int]]:
    sessions = betas.labels["session"].tolist() if by_session else [""] * len(betas.values)
    seen: dict[tuple[str, str], int] = {}
    keys = []
    for session, stimulus in zip(sessions, betas.stimulus_ids.tolist(), strict=True):
        seen[session, stimulus] = seen.get((session, stimulus), 0) + 1
        keys.append((session, stimulus, seen[session, stimulus]))
    return keys


def _correlate(a: Floats, b: Floats) -> Floats:
    a, b = a - a.mean(0), b - b.mean(0)
    norms = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    correlation: Floats = np.divide((a * b).sum(0), norms, out=np.zeros(a.shape[1]), where=norms > 0)
    return correlation


def _quartiles(values: Floats) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return low, middle, high


def _median_slope(a: Floats, b: Floats) -> float:
    centred = a - a.mean(0)
    squares = (centred**2).sum(0)
    return float(np.median((centred * (b - b.mean(0))).sum(0)[squares > 0] / squares[squares > 0]))


def _compare_geometry(
    own: Betas, published: Betas, draw: np.random.Generator, permutations: int
) -> tuple[float, float]:
    names = sorted(set(own.stimulus_ids.tolist()) & set(published.stimulus_ids.tolist()))
    if len(names) < _FEWEST_STIMULI:
        raise BadInput(f"{len(names)} stimuli in both", f"{_FEWEST_STIMULI} or more", "Check the names of stimuli.")
    chosen = np.array(sorted(draw.permutation(np.array(names))[:_MOST_STIMULI].tolist()))
    squares = []
    for betas in (own, published):
        means = average_repeats(normalise(betas, np.arange(len(betas.values)), "training-rows"))
        place = {name: row for row, name in enumerate(means.stimulus_ids.tolist())}
        squares.append(squareform(pdist(means.values[[place[name] for name in chosen.tolist()]], "correlation")))
    upper = np.triu_indices(len(chosen), 1)
    ranks = [stats.rankdata(np.nan_to_num(square)[upper]) for square in squares]
    rank_square = squareform(ranks[1])
    observed = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    null = []
    for _ in range(permutations):
        order = draw.permutation(len(chosen))
        null.append(float(np.corrcoef(ranks[0], rank_square[np.ix_(order, order)][upper])[0, 1]))
    return observed, permutation_p(observed, np.array(null))


def _reliability(betas: Betas) -> float | None:
    _, counts = np.unique(betas.stimulus_ids, return_counts=True)
    return float(np.median(find_ceiling(betas).ncsnr)) if (counts > 1).sum() > 1 else None


def _note(a: Floats, b: Floats, checks: list[Alignment]) -> tuple[str, ...]:
    spread = float(np.median(b.std(0)) / max(float(np.median(a.std(0))), 1e-12))
    notes = {
        f"One set is {max(spread, 1 / spread):.0f} times as large as the other: their units differ; NSD's int16 are "
        "300 times percent signal change.": not 1 / 30 < spread < 30,
        "The sets have other numbers of voxels, so only the geometry of stimuli is compared.": a.shape[1] != b.shape[1],
        "One set seems misaligned, so a low agreement says nothing of the estimates.": any(
            check.aligned is False for check in checks
        ),
    }
    return tuple(note for note, holds in notes.items() if holds)
