"""Label maps of slices: numbers out of grey values, and a Dice pooled over slices."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput


def number_labels(image: NDArray[Any], values: Sequence[int]) -> NDArray[np.uint8]:
    """Return the label that each grey value stands for, as in label maps kept as PNG.

    Parameters
    ----------
    image : array of any shape, grey values
    values : grey value of each label, background first

    Raises
    ------
    BadInput
        The image holds a grey value that is none of them.
    """
    found, places = np.unique(image, return_inverse=True)
    unknown = sorted(set(found.tolist()) - set(values))
    if unknown:
        raise BadInput(
            f"the grey values {', '.join(map(str, unknown[:5]))} in a label map",
            f"one of {', '.join(map(str, values))}",
            "Name the grey value of every label, or save the labels without smoothing.",
        )
    numbers = np.array([list(values).index(value) for value in found.tolist()], dtype=np.uint8)
    return numbers[places].reshape(image.shape)


def pooled_dice(
    found: Sequence[NDArray[Any]], references: Sequence[NDArray[Any]], labels: int, smooth: float = 1e-8
) -> NDArray[np.float64]:
    r"""Return the Dice of each label over all slices at once, :math:`2 \sum_s I_s / (\sum_s S_s + \epsilon)`.

    It weighs a slice by how much of the label it holds; a mean over cases is something else, and the two must not be
    compared.

    Parameters
    ----------
    found, references : arrays (i, j), label numbers
    labels : how many, background included

    Returns
    -------
    array (label,)
    """
    overlap, sizes = np.zeros(labels), np.zeros(labels)
    for one, other in zip(found, references, strict=True):
        for label in range(labels):
            a, b = one == label, other == label
            overlap[label] += np.count_nonzero(a & b)
            sizes[label] += np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * overlap / (sizes + smooth)
