"""What a form of a job starts from: nothing, or a job that is to be done again with other settings."""

import uuid
from dataclasses import dataclass
from typing import Any

import streamlit as st

from voxelight.app.schemas import JobRequest
from voxelight.app.services import Services
from voxelight.app.ui.wording import plain
from voxelight.models.errors import BadInput


@dataclass(frozen=True)
class Draft:
    """Where the fields of a form start; each draft has fields of its own."""

    request: JobRequest | None = None
    job: uuid.UUID | None = None

    def key(self, name: str) -> str:
        """Return the key of a field."""
        return f"{name}-{self.job}" if self.job else name

    def start(self, name: str, default: Any) -> Any:
        """Return where a field of the request starts."""
        return getattr(self.request, name) if self.request else default

    def option(self, name: str, default: Any) -> Any:
        """Return where an option of the recipe starts."""
        return self.request.options.get(name, default) if self.request else default

    def place(self, name: str, choices: list[Any], default: int | None = 0) -> int | None:
        """Return where a list of choices starts."""
        wanted = self.start(name, None)
        return choices.index(wanted) if wanted in choices else default


def open_draft(services: Services) -> Draft:
    """Return the draft that the address names as `clone`, and say so; without one, an empty draft."""
    name = st.query_params.get("clone")
    if not name:
        return Draft()
    try:
        job = uuid.UUID(name)
    except ValueError:
        raise BadInput(f"the job id {name[:60]!r}", "an id as the list of jobs gives it", "Copy a job there.") from None
    request = services.jobs.find_request(job)
    st.info(f"A copy of {plain(request.recipe)} on {plain(request.dataset)}: change what is to differ, and submit.")
    if st.button("Start from nothing instead", type="tertiary", icon=":material/close:"):
        del st.query_params["clone"]
        st.rerun()
    return Draft(request, job)
