"""Take files home; the bytes are read when a button is pressed, not before."""

from collections.abc import Callable, Iterable
from functools import partial

import streamlit as st

from voxelight.app.schemas import ArtifactAnswer
from voxelight.app.services import Services
from voxelight.app.ui.wording import say_name, say_size
from voxelight.models.errors import Refused


def stays_here(refuse: Callable[[], None]) -> bool:
    """Say so where a file is of clinical data, which is looked at here and not taken home.

    Parameters
    ----------
    refuse : raises `Refused` then
    """
    try:
        refuse()
    except Refused:
        st.caption(":material/lock: Clinical and local: nothing of it is taken home.", width="content")
        return True
    return False


def offer_downloads(services: Services, artifacts: Iterable[ArtifactAnswer]) -> None:
    """Offer each file under its role; of clinical data say that nothing leaves."""
    files = list(artifacts)
    if not files or stays_here(partial(services.privacy.refuse_artifacts, [file.id for file in files])):
        return
    for artifact in files:
        st.download_button(
            say_name(artifact.role),
            data=partial(services.results.read, artifact),
            file_name=artifact.name,
            mime=artifact.media_type,
            key=f"download-{artifact.id}",
            icon=":material/download:",
            on_click="ignore",
            help=f"{artifact.name}, {say_size(artifact.size)}, sha256 {artifact.sha256}",
        )
