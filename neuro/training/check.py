"""How well a trained decoder finds the pictures that it was not trained on, beside its null."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voxelight.models.decoders.mindeye2 import MindEye2
from voxelight.models.values import ClipTokens
from voxelight.neuro.evaluate.compare import FEWEST_PICTURES, adjust_p, score_by_distance
from voxelight.neuro.evaluate.controls import draw_exchanges, find_exchange
from voxelight.neuro.evaluate.guards import SAME_PICTURE_COSINE, Guard, Side, check_overlap
from voxelight.neuro.evaluate.intervals import bootstrap_mean, permutation_p
from voxelight.neuro.evaluate.similarity import two_way
from voxelight.neuro.evaluate.uncertainty import check_retrieval
from voxelight.neuro.retrieve import find_cosine, find_hits, score_retrieval
from voxelight.neuro.stages import find_repeat_weights
from voxelight.neuro.training.batches import Rows
from voxelight.neuro.training.recorded import PreparedSubject

Floats = NDArray[np.floating[Any]]
ReadTokens = Callable[[Sequence[str]], Floats]

_BATCH, _BLOCK = 96, 256
_NULL_DRAWS, _BOOTSTRAP_DRAWS = 999, 2000
_FEWEST_CALIBRATED = 40


@dataclass(frozen=True)
class HeldOutScore:
    """One number over held-out pictures.

    Parameters
    ----------
    name : as in the tables
    value, low, high : mean and 95 % interval
    detail : what it was compared with and how: ``n``, ``interval``, and where they are known ``chance``, ``pool``,
        ``draws``, ``null_mean``, ``p``, ``q``, ``published_as``
    """

    name: str
    value: float
    low: float
    high: float
    detail: dict[str, Any] = field(default_factory=dict)


@torch.inference_mode()
def decode_held_out(
    network: MindEye2,
    number: int,
    prepared: PreparedSubject,
    device: str,
    on_step: Callable[[int, int], None],
    keep: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
) -> NDArray[np.float16]:
    """Return the retrieval tokens (picture, token, dim) of held-out pictures, averaged over their trials as published.

    Parameters
    ----------
    network : in evaluation mode
    number : of the subject in it
    prepared : of that subject
    device : where the network is
    on_step : called before each batch of trials
    keep : what of the betas is decoded, array (trial, voxel) both; all without
    """
    found: list[NDArray[np.float16]] = []
    waiting: list[Rows] = []
    total, done = len(prepared.test), 0

    def decode() -> None:
        nonlocal waiting
        on_step(done, total)
        rows = np.concatenate(waiting)
        betas = prepared.training.read(rows)
        values = torch.from_numpy(betas if keep is None else keep(betas)).to(device)
        tokens = network(values[:, None], number).retrieval.float().cpu()
        for part in torch.split(tokens, [len(each) for each in waiting]):
            weights = torch.tensor(find_repeat_weights(len(part)))
            found.append(torch.tensordot(weights, part, dims=1).half().numpy())
        waiting = []

    for rows in prepared.test.values():
        waiting.append(rows)
        done += 1
        if sum(map(len, waiting)) >= _BATCH:
            decode()
    if waiting:
        decode()
    return np.stack(found)


def check_pictures(
    train: Sequence[str], test: Sequence[str], read: ReadTokens, space: str, meaningful: bool
) -> tuple[tuple[Guard, ...], Floats | None]:
    """Refuse one picture on both sides of a split under two ids, by its pixels or by its tokens.

    Parameters
    ----------
    train, test : keys, which are hashes of pixels
    read : keys -> tokens (key, token, dim)
    space : of the tokens
    meaningful : whether likeness of tokens means likeness of pictures; it does not where the encoder is random

    Returns
    -------
    records of the guard-rails, and the cosine distance of each held-out picture to the nearest training picture

    Raises
    ------
    Leak
        A picture is on both sides.
    """
    check_overlap(Side(np.array(train)), Side(np.array(test)))
    ids = Guard("ids", "held", f"{len(train)} training and {len(test)} held-out pictures.")
    pixels = Guard("pictures", "held", f"Pixels of {len(train)} and {len(test)} pictures compared by their hash.")
    if not meaningful:
        return (ids, pixels, Guard("tokens", "not checked", "The image encoder has random weights.")), None
    shown = ClipTokens(np.asarray(read(test)), space)
    nearest = np.full(len(test), -np.inf)
    for start in range(0, len(train), _BLOCK):
        some = train[start : start + _BLOCK]
        known = ClipTokens(np.asarray(read(some)), space)
        check_overlap(Side(np.array(some), tokens=known), Side(np.array(test), tokens=shown))
        nearest = np.maximum(nearest, find_cosine(shown, known).max(1))
    told = f"Largest cosine {nearest.max():.3f} in {space}; {SAME_PICTURE_COSINE} would have been refused."
    return (ids, pixels, Guard("tokens", "held", told)), 1 - nearest


def score_held_out(
    predicted: ClipTokens, shown: ClipTokens, prepared: PreparedSubject, seed: int
) -> tuple[HeldOutScore, ...]:
    """Score retrieval both ways as published, and two-way identification, against whole stimuli exchanged.

    Parameters
    ----------
    predicted : ClipTokens (picture, token, dim), of `decode_held_out`
    shown : ClipTokens of the pictures, in the same order
    prepared : of the subject
    seed : of the draws
    """
    own, count = np.arange(len(shown.values)), len(shown.values)
    cosine = find_cosine(predicted, shown)
    orders, within = _draw_orders(prepared, seed)
    rates = score_retrieval(predicted, shown, seed=seed)
    scores = [_score_rates(rates, cosine, orders)[name] for name in ("image_of_brain", "brain_of_image")]
    identified = two_way(cosine, own)
    null = np.array([two_way(cosine, order).mean() for order in orders])
    low, high = bootstrap_mean(identified, own.astype(str), _BOOTSTRAP_DRAWS, seed)
    told = {"chance": 0.5, "interval": "bootstrap, over pictures", "of": "cosine of retrieval tokens"}
    scores.append(HeldOutScore("two_way_tokens", float(identified.mean()), low, high,
                               told | _tell_null(float(identified.mean()), null)))  # fmt: skip
    adjusted = adjust_p(np.array([score.detail["p"] for score in scores])).tolist()
    for score, q in zip(scores, adjusted, strict=True):
        score.detail.update(q=q, n=count, null=f"whole stimuli permuted within {within}, {len(orders)} draws")
    if count >= _FEWEST_CALIBRATED:
        coverage = check_retrieval(cosine, own, seed=seed)
        scores.append(HeldOutScore("retrieval_coverage", coverage.share, coverage.low, coverage.high, {
            "nominal": coverage.nominal, "size": coverage.size, "n": coverage.n, "interval": "bootstrap, over pictures",
            "of": "conformal sets of pictures, calibrated on one half of the held-out pictures, checked on the other",
        }))  # fmt: skip
    return tuple(scores)


def tell_distance(predicted: ClipTokens, shown: ClipTokens, distance: Floats) -> dict[str, Any] | None:
    """Return two-way identification by distance to the nearest training picture; None with too few pictures."""
    if len(distance) < 2 * FEWEST_PICTURES:
        return None
    curve = score_by_distance(two_way(find_cosine(predicted, shown), np.arange(len(distance))), distance)
    return {
        "title": curve.title,
        **{name: getattr(curve, name).tolist() for name in ("x", "y", "low", "high", "n")},
        "score": "two_way_tokens",
    }


def _score_rates(rates: Any, cosine: Floats, orders: NDArray[np.intp]) -> dict[str, HeldOutScore]:
    published = {"image_of_brain": "brain retrieval (bwd)", "brain_of_image": "image retrieval (fwd)"}
    conditions = {"chance": rates.chance, "pool": rates.pool, "draws": rates.draws, "interval": rates.interval}
    found = {}
    for name, matrix in (("image_of_brain", cosine), ("brain_of_image", cosine.T)):
        rate, best = getattr(rates, name), matrix.argmax(1)
        # Among all held-out pictures; a pool is drawn for the published figure alone.
        null = np.array([(best == order).mean() for order in orders])
        detail = {**conditions, "published_as": published[name], **_tell_null(float(find_hits(matrix).mean()), null)}
        found[name] = HeldOutScore(f"retrieval_{name}", rate.mean, rate.low, rate.high, detail)
    return found


def _tell_null(value: float, null: Floats) -> dict[str, float]:
    return {"null_mean": float(null.mean()), "null_std": float(null.std()), "p": permutation_p(value, null)}


def _draw_orders(prepared: PreparedSubject, seed: int) -> tuple[NDArray[np.intp], str]:
    trials = [(key, row) for key, rows in prepared.test.items() for row in rows.tolist()]
    names = np.array([key for key, _ in trials])
    sessions = np.array([prepared.training.sessions[row] for _, row in trials])
    ids = np.array(list(prepared.test))
    exchange = find_exchange(names, sessions, ids)
    if exchange.fixed == 1:
        exchange = find_exchange(names, np.full(len(names), "all"), ids)
        return draw_exchanges(exchange, _NULL_DRAWS, seed), "all trials"
    return draw_exchanges(exchange, _NULL_DRAWS, seed), exchange.within
