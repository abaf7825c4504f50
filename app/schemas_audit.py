"""The audit log as it crosses a door."""

from datetime import datetime
from typing import Any

from pydantic import Field

from voxelight.app.schemas import Wire


class AuditAnswer(Wire):
    """One event: who (empty: the shell or a worker) did what to what; its hash covers that of the event before."""

    seq: int
    at: datetime
    actor: str
    action: str
    target: str
    detail: dict[str, Any]
    previous: str
    hash: str


class AuditVerified(Wire):
    """What a look at the whole chain gave; `head` is to be kept elsewhere, and handed to the next look."""

    ok: bool
    events: int
    head: str | None = Field(description="number and hash of the newest event that was looked at")
    wrong: int | None = Field(description="number of the first event that is wrong or missing")
    why: str
