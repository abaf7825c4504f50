"""What the intake says of a file."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["volume", "series", "betas", "events", "picture", "recording", "confounds", "sidecar"]


class Frozen(BaseModel):
    """Base of what is said of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(Frozen):
    """Something a person should know of a file that is accepted all the same."""

    found: str
    remedy: str


class Grid(Frozen):
    """The grid of an image as its file stores it.

    Parameters
    ----------
    shape : (i, j, k), voxels
    spacing_mm : (i, j, k)
    orientation : where the stored axes point, e.g. ``LAS``
    affine : (4, 4), stored voxel index -> RAS+ mm
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    affine: tuple[tuple[float, ...], ...]


class Intake(Frozen):
    """What was found in an accepted file; no text of its header, which may name a person.

    Parameters
    ----------
    kind : what it holds
    suffix : as in its name, lower case
    media_type : for HTTP
    geometry : of images in space, else None
    facts : name -> number or word, by kind
    warnings : what to look at before use
    """

    kind: Kind
    suffix: str
    media_type: str
    geometry: Grid | None
    facts: dict[str, int | float | str]
    warnings: tuple[Finding, ...]
