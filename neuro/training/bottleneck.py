"""How few dimensions of the betas a decoder needs: what is reached with little speaks of its priors."""

from collections.abc import Callable
from typing import Any

import numpy as np

from voxelight.models.decoders.mindeye2 import MindEye2
from voxelight.models.values import ClipTokens
from voxelight.neuro.evaluate.bottleneck import Components
from voxelight.neuro.evaluate.intervals import bootstrap_mean
from voxelight.neuro.evaluate.similarity import two_way
from voxelight.neuro.retrieve import find_cosine
from voxelight.neuro.training.check import decode_held_out
from voxelight.neuro.training.recorded import PreparedSubject

KS = (1, 2, 4, 8, 16, 32, 64, 128)
_ROWS, _DRAWS = 1000, 2000


def sweep_decoder(
    network: MindEye2,
    number: int,
    prepared: PreparedSubject,
    shown: ClipTokens,
    device: str,
    on_step: Callable[[int, int], None],
    seed: int = 0,
) -> dict[str, Any]:
    """Identify held-out pictures from the first k principal components of the betas (Mayo et al. 2024, BrainBits).

    The components are those of training trials, and the decoder is the one that was trained on all dimensions.

    Parameters
    ----------
    network : in evaluation mode
    number : of the subject in it
    prepared : of that subject
    shown : ClipTokens of the held-out pictures, in the order of `prepared.test`
    device : where the network is
    on_step : called before each batch of trials
    seed : of the trials that the components are taken from, where there are more than a thousand

    Returns
    -------
    ``k``, and for each the mean two-way identification ``y`` with its 95 % interval ``low`` to ``high``
    """
    rows = prepared.training.rows
    drawn = np.sort(np.random.default_rng(seed).permutation(rows)[:_ROWS])
    components = Components(prepared.training.read(drawn))
    found: dict[str, Any] = {"k": [], "y": [], "low": [], "high": [], "score": "two_way_tokens", "trials": len(drawn)}
    own = np.arange(len(shown.values))
    for k in (k for k in KS if k <= components.rank):

        def keep(values: Any, k: int = k) -> Any:
            return (components.mean + components.project(values, k) @ components.axes[:k]).astype(np.float32)

        tokens = ClipTokens(decode_held_out(network, number, prepared, device, on_step, keep), shown.space)
        scores = two_way(find_cosine(tokens, shown), own)
        low, high = bootstrap_mean(scores, own.astype(str), _DRAWS, seed)
        for name, value in (("k", k), ("y", float(scores.mean())), ("low", low), ("high", high)):
            found[name].append(value)
    return found
