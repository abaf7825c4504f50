"""Saved searches, results in part, and comparisons, as they cross a door."""

import uuid
from datetime import datetime
from typing import Any, Literal, cast

from pydantic import Field, create_model

from voxelight.app.schemas import JobKind, Label, ResultAnswer, ResultQuery, Sent, Wire

# Everything that a result has, and nothing that must be there.
_OPTIONAL: Any = {name: (cast(Any, field.annotation) | None, None) for name, field in ResultAnswer.model_fields.items()}
SparseResult = create_model(
    "SparseResult", __base__=Wire, __doc__="A result with the fields that were asked for.", **_OPTIONAL
)


class SearchRequest(Sent):
    """A search under a name that can be shared."""

    title: str = Field(min_length=1, max_length=200)
    slug: Label | None = Field(None, description="its name in addresses; made from the title where it is left out")
    query: ResultQuery
    project: Label | None = Field(None, description="whose members see it; empty: the one that there is, else default")


class SearchChange(Sent):
    """What may be changed on a saved search."""

    title: str | None = Field(None, min_length=1, max_length=200)
    query: ResultQuery | None = None


class SearchAnswer(Wire):
    """A saved search; `url` opens it on the page."""

    id: uuid.UUID
    slug: str
    title: str
    project: str
    query: ResultQuery
    url: str
    created_at: datetime
    version: int


class ItemAnswer(Wire):
    """One value of both sides: the same scan, or the same stimulus of the same subject."""

    subject: str
    item: str
    label: str
    first: float
    second: float
    difference: float
    first_run: uuid.UUID
    second_run: uuid.UUID


class DifferenceAnswer(Wire):
    """How much one side differs from the other in one metric, over what both have.

    `difference` is the mean of first minus second with its 95 % bootstrap interval; `p` is that of Wilcoxon's
    signed-rank test, `q` the same among all metrics compared here (Benjamini and Hochberg). No interval and p: fewer
    than five items.
    """

    metric: str
    label: str
    unit: str
    n: int
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    q: float | None
    drawn: Literal["subject", "item"] = Field(description="what the bootstrap draws")
    items: list[ItemAnswer]


class SideAnswer(Wire):
    """One of the two that are compared."""

    name: str
    jobs: list[uuid.UUID]
    recipes: list[str]
    models: list[str]
    results: int
    simulated: bool
    random_weights: bool


class PairAnswer(Wire):
    """What both gave of one scan or stimulus."""

    subject: str
    item: str
    first: uuid.UUID
    second: uuid.UUID
    overlap: dict[str, float] | None = Field(
        None, description="Dice of both label maps by label, where it was asked for; where neither holds a label, none"
    )


class CompareAnswer(Wire):
    """Two jobs, or two models, over what both worked on."""

    kind: JobKind
    first: SideAnswer
    second: SideAnswer
    matched: int
    only_first: int
    only_second: int
    metrics: list[DifferenceAnswer]
    pairs: list[PairAnswer] = Field(description="in the order of subject and item, as many as were asked for")
    notes: list[str]
    notice: str
