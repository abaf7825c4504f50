"""Pictures judged by a network: two-way identification and distance of its features, with every control row."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.neuro.evaluate.compared import Compared, Reduce
from voxelight.neuro.evaluate.controls import Places
from voxelight.neuro.evaluate.evaluation import MetricFacts
from voxelight.neuro.evaluate.metrics.features import Extractor
from voxelight.neuro.evaluate.metrics.identification import DISTANCE, TWO_WAY
from voxelight.neuro.evaluate.metrics.table import METRICS
from voxelight.neuro.evaluate.similarity import correlate, own_correlation, two_way

Floats = NDArray[np.floating[Any]]


class Judge:
    """A network that looks at every picture once, however many rows of a report show it.

    Parameters
    ----------
    extractor : Extractor, of a network that took no part in the decoding
    """

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self._seen: dict[str, dict[str, NDArray[np.float32]]] = {}

    def look(self, pictures: Floats) -> dict[str, NDArray[np.float32]]:
        """Return the features of each layer, array (picture, feature).

        Parameters
        ----------
        pictures : array (picture, row, column, channel), one or three channels, to be clipped to [0, 1]
        """
        clipped = np.clip(pictures, 0, 1)
        colour = np.ascontiguousarray(np.broadcast_to(clipped, (*clipped.shape[:3], 3)), np.float32)
        names = [hashlib.sha256(repr(each.shape).encode() + each.tobytes()).hexdigest() for each in colour]
        new = {name: row for row, name in enumerate(names) if name not in self._seen}
        if new:
            found = self.extractor.extract(colour[list(new.values())])
            for place, name in enumerate(new):
                self._seen[name] = {layer: features.values[place] for layer, features in found.items()}
        layers = self.extractor.network.layers
        return {layer: np.stack([self._seen[name][layer] for name in names]) for layer in layers}


def describe_network(judge: Judge) -> tuple[MetricFacts, ...]:
    """Return what the scores of a network mean."""
    facts = []
    for name, (layer, _) in _find_metrics(judge).items():
        row, conditions = METRICS[name], judge.extractor.describe(layer)
        told = f"{conditions.network}, {layer}; {conditions.preprocessing}; {conditions.weights_sha256[:12]}."
        chance = 0.5 if name in TWO_WAY.values() else None
        title = f"{row.title}, two-way" if chance else row.title
        note = f"{told} {row.validity}"
        facts.append(MetricFacts(name, title, "pictures", row.higher_is_better, chance, row.agreement, note))
    return tuple(facts)


def compare_features(judge: Judge, pictures: Floats, shown: Floats) -> Compared:
    """Correlate the features of samples with those of every picture of the gallery.

    Parameters
    ----------
    judge : Judge
    pictures : array (seed, item, row, column, channel), one or three channels, to be clipped to [0, 1]
    shown : array (item, row, column, channel)

    Returns
    -------
    Compared, the two-way score and the distance of the layers that are published for the network
    """
    gallery, found = judge.look(shown), [judge.look(each) for each in pictures]
    metrics = _find_metrics(judge)
    tables = {
        layer: np.stack([correlate(each[layer], gallery[layer]) for each in found])
        for layer in {layer for layer, _ in metrics.values()}
    }
    return Compared(
        {name: tables[layer] for name, (layer, _) in metrics.items()},
        {name: reduce for name, (_, reduce) in metrics.items()},
    )


def _find_metrics(judge: Judge) -> dict[str, tuple[str, Reduce]]:
    network = judge.extractor.network
    found: dict[str, tuple[str, Reduce]] = {}
    for layer in network.layers:
        if (network.name, layer) in DISTANCE:
            found[DISTANCE[network.name, layer]] = (layer, _distance)
        if (network.name, layer) in TWO_WAY:
            found[TWO_WAY[network.name, layer]] = (layer, two_way)
    return found


def _distance(correlations: Floats, own: Places) -> Floats:
    distance: Floats = 1 - own_correlation(correlations, own)
    return distance
