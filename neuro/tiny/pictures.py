"""Pictures with classes, and which of them are kept aside."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput


@dataclass(frozen=True, eq=False)
class Pictures:
    """Square pictures, one class each.

    Parameters
    ----------
    pixels : uint8 (picture, 3, side, side), red to blue
    labels : int64 (picture,), row of `names`
    keys : one a picture, each once; they say which pictures are kept aside
    names : of the classes
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    keys: tuple[str, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
            raise BadInput(
                f"pixels of shape {shape} and type {self.pixels.dtype}",
                "uint8 (picture, 3, side, side)",
                "Bring the pictures to one square size and put the colours on the second axis.",
            )
        if not len(self.pixels) == len(self.labels) == len(self.keys) == len(set(self.keys)):
            raise BadInput(
                f"{len(self.pixels)} pictures, {len(self.labels)} labels, {len(set(self.keys))} keys",
                "one label and one key of its own for every picture",
                "Name each picture once.",
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.names):
            raise BadInput(
                f"labels from {self.labels.min()} to {self.labels.max()}",
                f"0 to {len(self.names) - 1}, as there are {len(self.names)} names",
                "Give the names of all classes.",
            )

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "Pictures":
        """Return some of the pictures, in the order given."""
        rows = np.asarray(rows, np.int64)
        return Pictures(self.pixels[rows], self.labels[rows], tuple(self.keys[row] for row in rows), self.names)

    def sha256(self) -> str:
        """Return the hash of keys, labels, names and pixels, which a training run records."""
        digest = hashlib.sha256("\n".join((*self.names, "", *self.keys)).encode())
        digest.update(self.labels.astype("<i8").tobytes())
        digest.update(self.pixels.tobytes())
        return digest.hexdigest()


def split_pictures(pictures: Pictures, held_out: int) -> tuple[Pictures, Pictures]:
    """Keep pictures aside, the same number of every class.

    Of each class those whose keys have the smallest SHA-256 are kept aside, so that the choice hangs on nothing but
    the keys: not on the order of the pictures, nor on a generator. A picture that occurs twice, pixel by pixel, is
    kept aside once and trained on never.

    Parameters
    ----------
    pictures : of any number a class
    held_out : how many are kept aside, a multiple of the number of classes

    Returns
    -------
    training, held out
        Each sorted by class and hash.

    Raises
    ------
    BadInput
        The number can't be had from every class with something left.
    """
    each, rest = divmod(held_out, len(pictures.names))
    smallest = int(np.bincount(pictures.labels, minlength=len(pictures.names)).min())
    if rest or not 0 < each < smallest:
        raise BadInput(
            f"{held_out} of {len(pictures)} pictures to keep aside",
            f"a multiple of {len(pictures.names)} classes, less than {smallest} from each",
            "Keep another number aside.",
        )
    hashes = [hashlib.sha256(key.encode()).hexdigest() for key in pictures.keys]
    order = sorted(range(len(pictures)), key=lambda row: (int(pictures.labels[row]), hashes[row]))
    contents = [pictures.pixels[row].tobytes() for row in range(len(pictures))]
    aside: list[int] = []
    seen: set[bytes] = set()
    for row in order:
        taken = len(aside) - each * int(pictures.labels[row])
        if taken < each and contents[row] not in seen:
            aside.append(row)
            seen.add(contents[row])
    training = [row for row in order if contents[row] not in seen]
    return pictures.take(training), pictures.take(aside)
