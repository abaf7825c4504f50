"""Take files home; the bytes are read when a button is pressed, not before."""

from collections.abc import Iterable
from functools import partial

import streamlit as st

from voxelight.app.schemas import ArtifactAnswer
from voxelight.app.services import Services
from voxelight.app.ui.wording import say_name, say_size


def offer_downloads(services: Services, artifacts: Iterable[ArtifactAnswer]) -> None:
    """Offer each file under its role."""
    for artifact in artifacts:
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
