"""What can be measured of a label map on its image without a reference, so that odd cases are found."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap, Volume

_SHELL_MM = 5.0
_ROBUST = 1.482602218505602  # MAD to standard deviation, of a normal sample


@dataclass(frozen=True)
class Measure:
    """One number about one label.

    Parameters
    ----------
    name : `intensity`, `contrast` or `pieces`
    label : name of the label
    value : the number; intensity is in the units of the image
    """

    name: str
    label: str
    value: float


def measure_quality(volume: Volume, label_map: LabelMap) -> list[Measure]:
    """Measure every label on the first channel of its image.

    `intensity` is the mean in the label. `contrast` is how far that lies from the median of the 5 mm around all labels,
    in robust standard deviations (1.4826 MAD) of what lies there. `pieces` counts the parts that don't touch, corners
    included; an organ in many pieces is worth a look. A label that is not there has neither intensity nor contrast.

    Parameters
    ----------
    volume : Volume (c, i, j, k)
    label_map : on the same grid

    Returns
    -------
    list of Measure

    Raises
    ------
    BadInput
        The two lie on different grids.
    """
    if not volume.geometry.matches(label_map.geometry):
        raise BadInput("an image and labels on different grids", "one grid", "Measure on the image that was segmented.")
    box = _find_box(label_map)
    labels, image = label_map.array[box], volume.array[0][box].astype(np.float64)
    around = image[_find_shell(labels > 0, label_map.geometry.spacing)]
    centre = float(np.median(around)) if around.size else 0.0
    spread = _ROBUST * float(np.median(np.abs(around - centre))) if around.size else 0.0
    measures = []
    for number, name in label_map.names.items():
        inside = labels == number
        pieces = int(ndimage.label(inside, np.ones((3, 3, 3)))[1])
        measures.append(Measure("pieces", name, float(pieces)))
        if pieces:
            mean = float(image[inside].mean())
            measures.append(Measure("intensity", name, mean))
            if spread > 0:
                measures.append(Measure("contrast", name, (mean - centre) / spread))
    return measures


def _find_box(label_map: LabelMap) -> tuple[slice, ...]:
    """Return the box of all labels with room for the shell; the whole grid where there is none."""
    found = ndimage.find_objects((label_map.array > 0).astype(np.uint8))
    if not found:
        return tuple(slice(0, side) for side in label_map.array.shape)
    room = [int(np.ceil(_SHELL_MM / side)) for side in label_map.geometry.spacing]
    return tuple(slice(max(0, part.start - more), part.stop + more) for part, more in zip(found[0], room, strict=True))


def _find_shell(inside: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.bool_]:
    if not inside.any():
        return np.zeros_like(inside)
    distance = ndimage.distance_transform_edt(~inside, sampling=spacing)
    shell: NDArray[np.bool_] = (distance > 0) & (distance <= _SHELL_MM)
    return shell
