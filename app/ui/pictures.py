"""Pictures, byte for byte as they are stored; read once in a while, since content never changes under its hash."""

import streamlit as st

from voxelight.app.schemas import ArtifactAnswer, ScanAnswer
from voxelight.app.services import Services

_KEPT, KEPT_S = 512, 600  # what was deleted through another door is out of this memory by then


def show_thumbnail(services: Services, scan: ScanAnswer, caption: str, width: int | None = None) -> None:
    """Show the small picture of a scan, where it has one."""
    content = _read_thumbnail(services, scan, scan.thumbnail_sha256) if scan.thumbnail_sha256 else None
    if content:
        st.image(content, caption=caption, width=width or "content", alt=f"Preview of {scan.name}", output_format="PNG")


def show_picture(services: Services, artifact: ArtifactAnswer, alt: str, caption: str | None = None) -> None:
    """Show a picture that came out of a run or of a job, as wide as there is room."""
    content = _read_artifact(services, artifact, artifact.sha256)
    st.image(content, caption=caption, width="stretch", alt=alt, output_format="PNG")


# A leading underscore keeps an argument out of the key: the hash alone names the content.
@st.cache_data(max_entries=_KEPT, ttl=KEPT_S, show_spinner=False)
def _read_thumbnail(_services: Services, _scan: ScanAnswer, sha256: str) -> bytes | None:
    return _services.scans.read_thumbnail(_scan.id)


@st.cache_data(max_entries=_KEPT, ttl=KEPT_S, show_spinner=False)
def _read_artifact(_services: Services, _artifact: ArtifactAnswer, sha256: str) -> bytes:
    return _services.results.read(_artifact)
