"""Requests and answers of the search among embeddings."""

import uuid
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, model_validator

from voxelight.app.schemas import Label, Sent, Wire

Method = Literal["exact", "graph"]
SpaceKind = Literal["picture", "text", "case"]


class SpaceAnswer(Wire):
    """Vectors that may be compared: what made them, how many there are, and what they can be asked by."""

    name: str
    kind: SpaceKind
    dim: int
    count: int
    about: str
    asked_by: list[str] = Field(description="text, picture, result, scan")
    graph: bool = Field(description="has an approximate index on PostgreSQL beside the exact one")
    created_at: datetime


class NearConditions(Sent):
    """How many, in which space, and among what."""

    space: str | None = Field(None, max_length=200, description="left out: the one that fits the question")
    limit: int = Field(10, ge=1, le=100)
    dataset: Label | None = Field(None, description="only what belongs to this data set")
    role: str | None = Field(None, max_length=40, description="only reconstruction, stimulus, caption, labels, scan...")
    method: Method = Field("exact", description="graph: approximate, PostgreSQL with pgvector alone")


class NearRequest(NearConditions):
    """What to find things near to: exactly one of `text`, `result` and `scan`."""

    text: str | None = Field(None, min_length=1, max_length=2000, description="words")
    result: uuid.UUID | None = Field(None, description="a stored result")
    item: str | None = Field(None, max_length=600, description="which item of the result; left out, the first")
    scan: uuid.UUID | None = Field(None, description="a stored scan")

    @model_validator(mode="before")
    @classmethod
    def _one_question(cls, given: Any) -> Any:
        if isinstance(given, dict):
            asked = [name for name in ("text", "result", "scan") if given.get(name) is not None]
            if len(asked) != 1:
                raise ValueError("exactly one of text, result and scan is asked for")
        return given


class NearAnswer(Wire):
    """Something stored that is near to what was asked, with the cosine of both vectors."""

    score: float
    role: str = Field(description="what of it was embedded")
    item: str
    result: uuid.UUID | None
    job: uuid.UUID | None
    recipe: str
    kind: str = Field(description="of the job, else of the scan")
    scan: uuid.UUID
    scan_name: str
    dataset: str
    subject: str
    session: str
    caption: str
    labels: dict[str, float] = Field(description="label -> ml, of a segmentation")
    artifact: uuid.UUID | None
    picture_url: str | None
    simulated: bool
    random_weights: bool
    notice: str


class NeighboursAnswer(Wire):
    """The nearest, the nearest first; `exact` says whether nothing nearer can have been missed."""

    space: str
    method: Method
    exact: bool
    searched: int = Field(description="vectors of the space")
    items: list[NearAnswer]


class FilledAnswer(Wire):
    """What was embedded now, and what could not be."""

    runs: int
    scans: int
    vectors: int
    problems: list[str]
