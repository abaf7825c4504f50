"""What crosses a door about jobs beside the request and the answer: copies, order, single items, the log, recipes."""

import uuid
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from voxelight.app.schemas import Label, Priority, QueueName, RecipeAnswer, ScanQuery, Sent, Wire


class ScanChoice(Wire):
    """A scan that a recipe can take; `held` says why it waits for a person, and is left out until then."""

    id: uuid.UUID
    name: str
    kind: str
    subject: str
    session: str
    held: str


class JobClone(Sent):
    """What differs in a copy of a job; what is left out stays as it was."""

    recipe: str | None = None
    dataset: Label | None = None
    scans: list[uuid.UUID] | None = None
    query: ScanQuery | None = None
    queue: QueueName | None = None
    priority: Priority | None = None
    seed: int | None = Field(None, ge=0, lt=2**63)
    options: dict[str, Any] | None = Field(None, description="all of them, in place of those of the job")


class JobChange(Sent):
    """What may be changed on a job that waits."""

    priority: Priority = Field(description="-2 lowest, 0 normal, 2 highest")


class RetryRequest(Sent):
    """Which items to run again."""

    runs: list[uuid.UUID] = Field(
        default_factory=list, description="ids of failed or cancelled items; empty: all of them"
    )


class LogAnswer(Wire):
    """One line of a job's log; hand `cursor` back for what follows it."""

    at: datetime
    level: Literal["info", "warning", "error"]
    message: str
    run: uuid.UUID | None
    cursor: str


class CostAnswer(Wire):
    """What an item of a recipe takes, and how that is known."""

    queue: QueueName
    seconds_an_item: float | None
    memory_gib: float | None = Field(description="of the worker, weights included; on a card: of the card")
    source: str


class RecipeCardAnswer(RecipeAnswer):
    """A recipe with the card of its model, what it takes and what to mind."""

    card: str = Field(description="Markdown; empty where none ships")
    costs: list[CostAnswer]
    warnings: list[str]
    options: dict[str, Any] = Field(description="JSON schema of what a job can set")
    takes: list[str] = Field(description="kinds of scans that it reads")
