"""Requests and answers of the viewer and of corrections."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from voxelight.app.schemas import JobKind, Sent, Wire

Plane = Literal["sagittal", "coronal", "axial"]
Author = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]


class LabelAnswer(Wire):
    """A label with the colour that it has everywhere."""

    number: int
    name: str
    colour: str


class ChangeAnswer(Wire):
    """How a label differs from that of the map that was corrected."""

    added: int = Field(description="voxels")
    removed: int = Field(description="voxels")
    dice: float


class VersionAnswer(Wire):
    """A label map of a result: the model's own, without author, or a correction of it."""

    artifact: uuid.UUID
    name: str
    url: str
    sha256: str
    author: str
    note: str
    base: uuid.UUID | None = Field(description="the label map that was corrected")
    created_at: datetime
    volumes_ml: dict[str, float]
    changes: dict[str, ChangeAnswer] = Field(description="against its base, by label")


class ImageAnswer(Wire):
    """An image as NIfTI, and where its voxels lie."""

    url: str
    name: str
    kind: str
    frames: int
    geometry: dict[str, Any] = Field(description="shape, spacing_mm, orientation and affine as stored")


class PictureAnswer(Wire):
    """A picture that stands in where a browser can draw no volume."""

    url: str
    alt: str


class ViewAnswer(Wire):
    """What the viewer shows: an image, and of a segmentation its labels and the label maps, the oldest first."""

    title: str
    dataset: str
    subject: str
    session: str
    scan: uuid.UUID
    result: uuid.UUID | None
    job: uuid.UUID | None
    kind: JobKind | None
    recipe: str
    simulated: bool
    held: str = Field(description="why the scan waits for a person, empty where it does not")
    image: ImageAnswer
    labels: list[LabelAnswer]
    versions: list[VersionAnswer]
    pictures: list[PictureAnswer]
    notice: str


class CorrectionRequest(Sent):
    """Who corrected a label map, which one and why."""

    author: Author
    note: str = Field("", max_length=2000)
    base: uuid.UUID | None = Field(None, description="artifact that was corrected; empty: the model's own label map")


class InterpolationRequest(Sent):
    """What to fill in between drawn slices."""

    label: int = Field(ge=1, lt=2**16, description="its number")
    plane: Plane = Field("axial", description="of the slices that were drawn")
    first: int | None = Field(None, ge=0, lt=2**31, description="slice that holds the label, counted along R, A or S")
    last: int | None = Field(
        None, ge=0, lt=2**31, description="another; what lies between the two is drawn anew. Without both, gaps only"
    )
