"""Pictures to the features that scores compare."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voxelight.models.errors import BadInput
from voxelight.models.feature_weights import read_feature_weights
from voxelight.models.weights import load_into
from voxelight.neuro.evaluate.metrics.networks import DEFAULT_NETWORK, FeatureNetwork, find_network
from voxelight.neuro.evaluate.metrics.pictures import check_pictures, resize, take_common_size
from voxelight.neuro.evaluate.metrics.result import Conditions

Floats = NDArray[np.floating[Any]]

_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Features:
    """Features of pictures, and what they are.

    Parameters
    ----------
    values : float32 array (picture, feature)
    conditions : network, layer, preprocessing, hash
    """

    values: NDArray[np.float32]
    conditions: Conditions


@dataclass(frozen=True, eq=False)
class Extractor:
    """A network that gives features.

    Parameters
    ----------
    network : FeatureNetwork
    module : pixels (b, 3, side, side) -> layer -> features
    weights_sha256 : hash of the file of weights; empty for fresh weights
    device : where it works
    """

    network: FeatureNetwork
    module: nn.Module
    weights_sha256: str
    device: torch.device

    @torch.inference_mode()
    def extract(self, pictures: Floats) -> dict[str, Features]:
        """Return the features of every layer, in float32.

        Parameters
        ----------
        pictures : array (picture, row, column, 3) in [0, 1]

        Returns
        -------
        layer -> Features (picture, feature), places and channels flattened

        Raises
        ------
        BadInput
            The array is not such pictures.
        """
        check_pictures(pictures)
        found: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in self.network.layers}
        for pixels in self._batches(pictures):
            given = self.module(pixels)
            for layer, parts in found.items():
                parts.append(given[layer].flatten(1).float().cpu().numpy())
        return {layer: Features(np.concatenate(parts), self.describe(layer)) for layer, parts in found.items()}

    def describe(self, layer: str) -> Conditions:
        """Return what the features of a layer are."""
        return Conditions(
            preprocessing=self.network.say_preprocessing(),
            network=self.network.title,
            layer=layer,
            weights_sha256=self.weights_sha256 or "fresh weights",
        )

    def _batches(self, pictures: Floats) -> Iterator[Tensor]:
        for start in range(0, len(pictures), _AT_ONCE):
            some = take_common_size(pictures[start : start + _AT_ONCE]).to(self.device)
            yield prepare_pixels(some, self.network)


def prepare_pixels(pictures: Tensor, network: FeatureNetwork) -> Tensor:
    """Return pictures as a network takes them.

    Parameters
    ----------
    pictures : tensor (b, 3, 256, 256) in [0, 1]
    network : FeatureNetwork

    Returns
    -------
    tensor (b, 3, side, side)
    """
    mean, std = (pictures.new_tensor(values)[:, None, None] for values in (network.mean, network.std))
    return (resize(pictures, network.side) - mean) / std


def load_extractor(
    name: str = DEFAULT_NETWORK, weights_folder: Path | None = None, device: torch.device | str = "cpu"
) -> Extractor:
    """Load a network with its published weights.

    Parameters
    ----------
    name : key of `NETWORKS`; the default's weights come in a Python package
    weights_folder : of all weights, as in the settings
    device : where it works

    Raises
    ------
    NotFound
        No network has this name.
    Unavailable
        Its package or its weights are not here; the text says how they come.
    Conflict
        The file is another one than was published.
    BadInput
        The file is not of this network.
    """
    row = find_network(name)
    content = read_feature_weights(row.weights, weights_folder)
    network = row.build()
    load_into(network, row.rename(content.tensors()))
    return make_extractor(row, network, content.sha256, device)


def make_extractor(
    row: FeatureNetwork, network: nn.Module, weights_sha256: str = "", device: torch.device | str = "cpu"
) -> Extractor:
    """Tap a network that has its weights."""
    module = row.tap(network.eval().requires_grad_(False), row.layers)
    return Extractor(row, module.eval().to(device), weights_sha256, torch.device(device))


def refuse_other_features(first: Features, second: Features) -> None:
    """Refuse features of different networks, layers or weights.

    Raises
    ------
    BadInput
        They are.
    """
    if first.conditions != second.conditions or first.values.shape[1:] != second.values.shape[1:]:
        raise BadInput(
            f"features of {first.conditions.network} {first.conditions.layer} {first.values.shape[1:]} and of "
            f"{second.conditions.network} {second.conditions.layer} {second.values.shape[1:]}",
            "one network, layer and file of weights",
            "Extract both with one extractor.",
        )
