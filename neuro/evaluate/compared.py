"""Predictions compared with every picture of a gallery, once: scores, control rows and null all follow from that."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.neuro.evaluate.controls import Places, draw_null

Floats = NDArray[np.floating[Any]]
Reduce = Callable[[Floats, Places], Floats]


@dataclass(frozen=True, eq=False)
class Compared:
    """Similarities, and the scores that are made of them.

    Parameters
    ----------
    similarity : metric -> array (seed, item, picture); item and picture of one number belong together
    reduce : metric -> (array (item, picture), the column that was seen (item,)) -> array (item,)
    """

    similarity: Mapping[str, Floats]
    reduce: Mapping[str, Reduce]

    def score(self, orders: Sequence[Places] = ()) -> dict[str, Floats]:
        """Score every seed: metric -> array (seed, item).

        Parameters
        ----------
        orders : where given, what item stands in each place: the control row of exchanged predictions, whose seeds
            are those of each order in turn
        """
        own = [np.arange(len(next(iter(self.similarity.values()))[0]))]
        return {
            name: np.stack([self.reduce[name](each[order], own[0]) for order in (orders or own) for each in similarity])
            for name, similarity in self.similarity.items()
        }

    def draw_null(self, orders: Places) -> dict[str, Floats]:
        """Score every permutation of what was seen: metric -> array (draw,), means over seeds and items."""

        def score(name: str, own: Places) -> Floats:
            mean: Floats = np.mean([self.reduce[name](each, own) for each in self.similarity[name]], axis=0)
            return mean

        return {
            name: draw_null(lambda own, name=name: score(name, own), orders)  # type: ignore[misc]
            for name in self.similarity
        }

    def join(self, other: "Compared") -> "Compared":
        """Return both sets of metrics as one."""
        return Compared({**self.similarity, **other.similarity}, {**self.reduce, **other.reduce})
