"""Calibrated uncertainty of tokens and of retrieval, and its check by coverage on held-out trials."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import NDArray
from scipy.stats import norm

from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.intervals import bootstrap_mean

Floats = NDArray[np.floating[Any]]
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Coverage:
    """How often the truth lay inside what was said to hold it.

    Parameters
    ----------
    what : of what: ``tokens``, ``retrieval``, ``pictures``, ``captions``, and by which method
    nominal : share that was promised
    share : share of held-out items, or of their values, that lay inside
    low, high : 95 % bootstrap interval of the share, over items
    size : mean width of the intervals, or mean number of pictures in a set
    n : held-out items
    """

    what: str
    nominal: float
    share: float
    low: float
    high: float
    size: float
    n: int

    @property
    def holds(self) -> bool:
        """Whether the promise is inside the interval, or kept with room."""
        return self.nominal <= self.high


def find_coverage(what: str, nominal: float, inside: NDArray[Any], sizes: Floats, seed: int = 0) -> Coverage:
    """Measure coverage on held-out items; the values of one item are drawn together, since they err together.

    Parameters
    ----------
    what : see `Coverage`
    nominal : share that was promised
    inside : array (item, ...), whether each value lay inside
    sizes : array (...), widths or numbers
    seed : of the bootstrap
    """
    shares = inside.reshape(len(inside), -1).mean(1).astype(np.float64)
    low, high = bootstrap_mean(shares, np.arange(len(shares)).astype(str), 2000, seed)
    return Coverage(what, nominal, float(shares.mean()), low, high, float(np.mean(sizes)), len(shares))


@dataclass(frozen=True, eq=False)
class TokenUncertainty:
    """What the held-out errors of inner folds say about new predictions.

    Parameters
    ----------
    deviation : array (token, dim), root mean square of the held-out errors
    errors : array (item, token, dim), absolute held-out errors, sorted over items
    """

    deviation: NDArray[np.float64]
    errors: Floats

    def half_width(self, level: float = 0.9, method: str = "conformal") -> NDArray[np.float64]:
        """Return half the width of an interval round a prediction, array (token, dim).

        ``conformal`` takes the ceil((n + 1) level)-th smallest of n absolute errors of each value: the promise is kept
        for exchangeable trials whatever the distribution (Vovk, Gammerman and Shafer 2005; Lei et al. 2018, split
        conformal). ``gaussian`` takes z sigma, narrower where few trials calibrate, and right for normal errors only.

        Raises
        ------
        BadInput
            The level can't be promised with so few trials, or the method is unknown.
        """
        if method == "gaussian":
            return float(norm.ppf(0.5 + level / 2)) * self.deviation
        if method != "conformal":
            raise BadInput(f"the method {method!r}", "conformal or gaussian", "Correct it.")
        return np.asarray(self.errors[find_rank(len(self.errors), level)], np.float64)


def fit_token_uncertainty(errors: Floats) -> TokenUncertainty:
    """Learn the uncertainty of each value from errors that inner folds made on trials they did not fit.

    Parameters
    ----------
    errors : array (item, token, dim), predicted minus true; never of the rows that the decoder was fitted on

    Raises
    ------
    BadInput
        There are fewer than two items.
    """
    if len(errors) < 2:
        raise BadInput(f"{len(errors)} held-out errors", "two or more", "Use more inner folds.")
    deviation = np.sqrt((np.asarray(errors, np.float64) ** 2).mean(0))
    return TokenUncertainty(deviation, np.sort(np.abs(errors), axis=0))


@dataclass(frozen=True)
class RetrievalUncertainty:
    """Similarities as probabilities: p(j | i) = exp(s_ij / T) / sum_k exp(s_ik / T).

    Parameters
    ----------
    temperature : T, in units of the similarity
    loss : mean negative log-likelihood on the trials that T was fitted on, nats
    scores : sorted probability masses that were needed to reach the true picture, for `find_sets`
    """

    temperature: float
    loss: float
    scores: tuple[float, ...]

    def probabilities(self, similarity: Floats) -> NDArray[np.float64]:
        """Return how likely each picture of the gallery is, array (trial, picture)."""
        probabilities: NDArray[np.float64] = scipy.special.softmax(similarity / self.temperature, axis=1)
        return probabilities

    def find_sets(self, similarity: Floats, level: float = 0.9) -> NDArray[np.bool_]:
        """Return which pictures belong to the set of each trial: array (trial, picture).

        The most likely ones, until their probabilities add up to the level. Where T was fitted on held-out trials of
        the same kind and gallery, that sum is replaced by its conformal quantile, and the coverage is kept even where
        the softmax is wrong (Romano, Sesia and Candes 2020, adaptive sets).
        """
        probabilities = self.probabilities(similarity)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        sums = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
        reach = self.scores[find_rank(len(self.scores), level)]
        sets = np.zeros(similarity.shape, dtype=bool)
        # Everything up to the mass that was enough to reach the truth; the likeliest picture always.
        np.put_along_axis(sets, order, sums <= reach + 1e-12, axis=1)
        sets[np.arange(len(sets)), order[:, 0]] = True
        return sets


def fit_retrieval_uncertainty(similarity: Floats, own: Places) -> RetrievalUncertainty:
    """Choose the temperature that makes the true pictures of held-out folds most likely (Guo et al. 2017).

    Parameters
    ----------
    similarity : array (trial, picture), of held-out folds, never of trials that the decoder was fitted on
    own : array (trial,), the column that was seen

    Raises
    ------
    BadInput
        Similarities are not finite or all alike.
    """
    spread = float(np.std(similarity - similarity.mean(1, keepdims=True)))
    if not np.isfinite(spread) or spread == 0:
        raise BadInput(f"similarities that spread by {spread}", "finite ones that differ", "Check the tokens.")
    scaled = np.asarray(similarity, np.float64) / spread
    rows = np.arange(len(scaled))

    def loss(log_temperature: float) -> float:
        logs = scipy.special.log_softmax(scaled / np.exp(log_temperature), axis=1)
        return float(-logs[rows, own].mean())

    found = scipy.optimize.minimize_scalar(loss, bounds=(-7, 7), method="bounded", options={"xatol": 1e-6})
    temperature = float(np.exp(found.x) * spread)
    probabilities = scipy.special.softmax(np.asarray(similarity, np.float64) / temperature, axis=1)
    true = probabilities[rows, own][:, None]
    # Ties in the order of the columns, as in `find_sets`.
    ahead = (probabilities > true) | ((probabilities == true) & (np.arange(probabilities.shape[1]) <= own[:, None]))
    scores = np.sort((probabilities * ahead).sum(1))
    return RetrievalUncertainty(temperature, float(found.fun), tuple(scores.tolist()))


def check_top_k(uncertainty: RetrievalUncertainty, similarity: Floats, own: Places, k: int) -> Coverage:
    """Compare the probability that the k likeliest pictures hold the true one with how often they do."""
    probabilities = uncertainty.probabilities(similarity)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    promised = float(np.take_along_axis(probabilities, order, axis=1).sum(1).mean())
    inside = (order == own[:, None]).any(1)
    return find_coverage(f"retrieval, top {k} by calibrated softmax", promised, inside, np.array([float(k)]))


def find_rank(n: int, level: float) -> int:
    """Return which of n sorted calibration values keeps the promise for one more."""
    rank = int(np.ceil((n + 1) * level - 1e-9))
    if not 0 < level < 1 or rank > n:
        raise BadInput(
            f"the level {level} with {n} calibration trials",
            f"a level between 0 and {n / (n + 1):.3f}",
            "Calibrate on more held-out trials, or promise less.",
        )
    return rank - 1


def check_tokens(predicted: Floats, truth: Floats, level: float = 0.9, seed: int = 0) -> Coverage:
    """Calibrate intervals on one half of held-out predictions and check them on the other, both ways.

    Parameters
    ----------
    predicted, truth : array (item, ...), held-out predictions of tokens, or of pixels, and what they should be
    level : to be covered
    seed : of the halves

    Raises
    ------
    BadInput
        A half has too few items for the level.
    """
    shape = (len(predicted), -1, 1)
    errors = np.asarray(predicted, np.float64).reshape(shape) - np.asarray(truth, np.float64).reshape(shape)
    inside, widths = np.zeros(errors.shape, dtype=bool), []
    for fitted, checked in _halves(len(errors), seed):
        half = fit_token_uncertainty(errors[fitted]).half_width(level)
        inside[checked] = np.abs(errors[checked]) <= half
        widths.append(2 * half.mean())
    return find_coverage("values, conformal", level, inside, np.array(widths))


def check_retrieval(similarity: Floats, own: Places, level: float = 0.9, seed: int = 0) -> Coverage:
    """Calibrate sets of pictures on one half of held-out trials and check them on the other, both ways.

    Parameters
    ----------
    similarity : array (trial, picture)
    own : array (trial,)
    level, seed : as `check_tokens`
    """
    inside, sizes = np.zeros(len(own), dtype=bool), []
    for fitted, checked in _halves(len(own), seed):
        sets = fit_retrieval_uncertainty(similarity[fitted], own[fitted]).find_sets(similarity[checked], level)
        inside[checked] = sets[np.arange(len(checked)), own[checked]]
        sizes.append(sets.sum(1).mean())
    return find_coverage("sets of pictures, conformal", level, inside, np.array(sizes))


def _halves(count: int, seed: int) -> list[tuple[Places, Places]]:
    order = np.random.default_rng(seed).permutation(count)
    first, second = order[: count // 2], order[count // 2 :]
    return [(first, second), (second, first)]
