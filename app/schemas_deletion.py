"""Requests and answers of deletion."""

import uuid
from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator

from voxelight.app.schemas import Label, Sent, Wire

What = Literal["dataset", "subject", "scan", "job", "result"]


class DeletionTarget(Sent):
    """What is to go: a data set by name, a subject by data set and label, anything else by id."""

    what: What
    dataset: Label | None = None
    subject: Label | None = None
    id: uuid.UUID | None = None

    @model_validator(mode="after")
    def _is_named(self) -> "DeletionTarget":
        named = {"dataset": self.dataset, "subject": self.dataset and self.subject}.get(self.what, self.id)
        if not named:
            raise ValueError(f"say which {self.what}")
        return self


class DeletionRequest(Sent):
    """Who deletes, why, and the name typed once more."""

    confirm: str = Field("", max_length=600, description="name of the data set, label of the subject, else the id")
    author: str = Field("", max_length=120, description="who deletes")
    reason: str = Field("", max_length=2000)
    models: Literal["delete", "keep"] | None = Field(
        None, description="what becomes of models that were trained on it; has to be said where there are any"
    )
    prove: bool = Field(False, description="search everything for it afterwards; takes as long as reading it all")
    dry_run: bool = Field(False, description="only say what would go")


class SearchedAnswer(Wire):
    """One place that was searched after a deletion: what was looked through, and what was found."""

    place: str
    things: int = Field(description="rows or files")
    bytes: int
    found: list[str] = Field(description="nothing, where all of it is gone")


class DeletionAnswer(Wire):
    """What went, or with `dry_run` what would go: counts, and hashes of the files that no other row names."""

    what: What
    name: str
    confirm: str = Field(description="what has to be typed to delete it")
    dry_run: bool
    counts: dict[str, int]
    shared: int = Field(description="files that stay, since something else names the same content")
    sha256s: list[str]
    receipt: uuid.UUID | None
    url: str | None = Field(description="of the receipt")
    models: list[str] = Field(description="models of this installation that were trained on it")
    proof: list[SearchedAnswer] = Field(description="where it was searched for afterwards; empty: it was not asked for")
    not_searched: list[str] = Field(description="what could not be searched for, and why")


class ReceiptAnswer(Wire):
    """A deletion as it was written down: never any content."""

    id: uuid.UUID
    what: str
    name: str
    author: str
    reason: str
    counts: dict[str, int]
    sha256s: list[str]
    proof: list[SearchedAnswer] = Field(description="where it was searched for afterwards")
    created_at: datetime
