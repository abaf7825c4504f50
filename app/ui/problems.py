"""A refusal on the page: what was found, what was expected, what to do; never a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import streamlit as st
from pydantic import BaseModel, ValidationError

from voxelight.app.schemas import Problem
from voxelight.app.ui.wording import plain, say_name
from voxelight.models.errors import BadInput, VoxelightError

M = TypeVar("M", bound=BaseModel)
_LABEL_PATTERN = "[A-Za-z0-9]"


class BadField(BadInput):
    """What a person typed into one field of a form.

    Parameters
    ----------
    field : name of the field, as the request calls it
    found, expected, remedy : as of every refusal
    """

    def __init__(self, field: str, found: str, expected: str, remedy: str) -> None:
        super().__init__(found, expected, remedy)
        self.field = field


def show_problem(error: VoxelightError | Problem, about: str = "") -> None:
    """Show a refusal."""
    title = f"**{plain(about)}**  \n" if about else ""
    st.error(
        f"{title}**Found:** {plain(error.found)}  \n**Expected:** {plain(error.expected)}  \n"
        f"**What to do:** {plain(error.remedy)}",
        icon=":material/block:",
    )


def show_beside(error: VoxelightError | None, *fields: str) -> None:
    """Show a refusal beside the field that it is about; one that names no field belongs beside `""`."""
    if error is not None and getattr(error, "field", "") in fields:
        show_problem(error)


@contextmanager
def problems_shown() -> Iterator[None]:
    """Show a refusal in place of what the block would have shown."""
    try:
        yield
    except VoxelightError as error:
        show_problem(error)


def build(model: type[M], /, **fields: Any) -> M:
    """Return a request from what a person typed.

    Raises
    ------
    BadField
        A field does not hold what it should.
    """
    try:
        return model(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "the form"
        label = _LABEL_PATTERN in str(first.get("ctx", {}).get("pattern", ""))
        raise BadField(
            name,
            f"{say_name(name).lower()} {str(first['input'])[:80]!r}",
            "letters, digits, dots, dashes and underscores, starting with a letter or digit" if label else first["msg"],
            "Correct it and try again.",
        ) from None


def find_problem(model: type[M], /, **fields: Any) -> BadField | None:
    """Return what `build` would refuse, to be shown beside its field while a person types."""
    try:
        build(model, **fields)
    except BadField as error:
        return error
    return None
