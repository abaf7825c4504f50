"""Requests and answers about identity: scans that wait for a person, and results that go back to their study."""

import uuid
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints

from voxelight.app.schemas import Sent, Wire

Author = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class Decision(Sent):
    """Who decides, and why."""

    author: Author
    reason: Reason


class RelinkRequest(Decision):
    """Who needs to know whose result it is, and what for; only who holds the key is told."""

    key: SecretStr = Field(description="the 64 hexadecimal digits of identity.key of this installation")
    artifact: uuid.UUID | None = Field(
        None, description="which label map, the model's or a correction; none: the newest correction, else the model's"
    )


class RejectAnswer(Wire):
    """What was removed with a held scan; the receipt says the same for good."""

    receipt: uuid.UUID
    scan: str
    sha256s: list[str]
