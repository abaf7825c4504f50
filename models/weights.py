"""Weights by name: where they lie, what they hash to, under which licence."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from voxelight.models.errors import Conflict, NotFound, Unavailable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights that ships with the package.

    Parameters
    ----------
    file : name in ``models/shipped``, safetensors
    sha256 : hash of the whole file
    licence : SPDX identifier
    source : the data and where its terms are
    card : name of the model card in ``models/shipped``
    """

    file: str
    sha256: str
    licence: str
    source: str
    card: str


def find_weights(name: str) -> WeightsFile:
    """Return what is known of weights, without reading them.

    Raises
    ------
    NotFound
        No weights have this name.
    """
    if name not in WEIGHTS:
        raise NotFound(f"the weights {name!r}", f"one of {', '.join(sorted(WEIGHTS))}", "Correct the name.")
    return WEIGHTS[name]


def weights_sha256(name: str) -> str:
    """Return the hash that the weights must have.

    Raises
    ------
    NotFound
        No weights have this name.
    """
    return find_weights(name).sha256


def load_weights(name: str) -> "dict[str, Tensor]":
    """Read weights after checking their hash.

    Returns
    -------
    parameter name -> tensor, as stored (half precision for those that ship)

    Raises
    ------
    NotFound
        No weights have this name.
    Unavailable
        The file is not where it should be.
    Conflict
        The file is not the one that was released.
    """
    from safetensors.torch import load

    known = find_weights(name)
    try:
        content = files("voxelight.models.shipped").joinpath(known.file).read_bytes()
    except FileNotFoundError:
        raise Unavailable(
            f"no file {known.file}", "the weights beside the package", "Install the package again."
        ) from None
    return load(verify(content, known))


def verify(content: bytes, known: WeightsFile) -> bytes:
    """Return the content if it is what was released.

    Raises
    ------
    Conflict
        Its hash is another.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != known.sha256:
        raise Conflict(
            f"{known.file} with sha256 {found}",
            f"sha256 {known.sha256}",
            "The file was changed or damaged: install the package again.",
        )
    return content


WEIGHTS: dict[str, WeightsFile] = {
    "hippocampus-agunet": WeightsFile(
        file="hippocampus-agunet.safetensors",
        sha256="18d2771cd62c7bfb7c1217e4dfb01be5adcfc6c6e9f65933bf4ff4e9bf5b90c8",
        licence="CC-BY-SA-4.0",
        source="Medical Segmentation Decathlon, Task04 Hippocampus (Antonelli et al. 2022, Simpson et al. 2019)",
        card="hippocampus-agunet.md",
    ),
}
