"""One patient's study: an image and the labels drawn on it."""

from dataclasses import dataclass

from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap, Volume


@dataclass(frozen=True, eq=False)
class Case:
    """An image with its reference.

    Parameters
    ----------
    name : of the file, without its suffix
    volume : the image
    labels : the reference on the same grid

    Raises
    ------
    BadInput
        The labels lie on another grid.
    """

    name: str
    volume: Volume
    labels: LabelMap

    def __post_init__(self) -> None:
        if not self.volume.geometry.matches(self.labels.geometry):
            raise BadInput(
                f"case {self.name}: an image of shape {self.volume.geometry.shape} and labels of shape "
                f"{self.labels.geometry.shape}, or with other affines",
                "labels on the grid of their image",
                "Resample the labels to the image, nearest neighbour.",
            )
