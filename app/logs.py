"""Structured logs: a document a line, each with the request, the job and the worker that it is about."""

import json
import logging
import re
import sys
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

REQUEST_HEADER = "X-Request-ID"
_SHAPE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_ABOUT: ContextVar[dict[str, str]] = ContextVar("about", default={})  # noqa: B039  # never changed, always replaced


def name_request(sent: str | None) -> str:
    """Return the id of a request: the one that was sent where it is one, else a new one."""
    return sent if sent and _SHAPE.fullmatch(sent) else uuid.uuid4().hex


@contextmanager
def about(**facts: str) -> Iterator[None]:
    """Add facts to every line that is logged in the block: request, job, run, worker."""
    token = _ABOUT.set(_ABOUT.get() | facts)
    try:
        yield
    finally:
        _ABOUT.reset(token)


def find_fact(name: str) -> str:
    """Return a fact of the block that this is in, else an empty text."""
    return _ABOUT.get().get(name, "")


class JsonLines(logging.Formatter):
    """One JSON document a line: time in UTC, level, logger, message, and what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a line."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_ABOUT.get(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = "".join(traceback.format_exception(*record.exc_info))
        line |= getattr(record, "facts", {})
        return json.dumps(line, default=str)


def log_as_json(stream: Any = None) -> None:
    """Write everything that this process logs as JSON lines, to standard error."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    ours = logging.getLogger("voxelight")
    ours.handlers[:], ours.propagate = [], True
    ours.setLevel(logging.INFO)
