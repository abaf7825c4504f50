"""Bytes of pictures, read once; content goes by its hash, so it never changes under its name."""

import streamlit as st

from voxelight.app.schemas import ArtifactAnswer, ScanAnswer
from voxelight.app.services import Services

_KEPT = 512


def read_thumbnail(services: Services, scan: ScanAnswer) -> bytes | None:
    """Return the small picture of a scan, where it has one."""
    return _read_thumbnail(services, scan, scan.thumbnail_sha256) if scan.thumbnail_sha256 else None


def read_picture(services: Services, artifact: ArtifactAnswer) -> bytes:
    """Return a picture that came out of a run or of a job."""
    return _read_artifact(services, artifact, artifact.sha256)


# A leading underscore keeps an argument out of the key: the hash alone names the content.
@st.cache_data(max_entries=_KEPT, show_spinner=False)
def _read_thumbnail(_services: Services, _scan: ScanAnswer, sha256: str) -> bytes | None:
    return _services.scans.read_thumbnail(_scan.id)


@st.cache_data(max_entries=_KEPT, show_spinner=False)
def _read_artifact(_services: Services, _artifact: ArtifactAnswer, sha256: str) -> bytes:
    return _services.results.read(_artifact)
