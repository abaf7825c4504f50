"""Files that came out, over HTTP."""

import uuid
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse

from voxelight.app.api.dependencies import Door, Taken
from voxelight.app.api.files import RESPONSES, Asked, answer_file, describe_file
from voxelight.app.services import Services
from voxelight.app.verbs.files import StoredFile

router = APIRouter(prefix="/artifacts", tags=["artifacts"])


@router.head("/{artifact_id}", response_class=Response)
def describe_artifact(
    services: Door, artifact_id: uuid.UUID, taken: Taken, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """Say what a file is without its content."""
    return describe_file(_open(services, artifact_id, taken), if_none_match)


@router.get("/{artifact_id}", response_class=StreamingResponse, responses=RESPONSES)
def read_artifact(services: Door, artifact_id: uuid.UUID, asked: Asked, taken: Taken) -> Response:
    """Send the content of a file, or one range of it; its `ETag` is its sha256.

    Files made of clinical data are shown on the page of this server, and sent to nobody else (403).
    """
    return answer_file(_open(services, artifact_id, taken), asked)


def _open(services: Services, artifact_id: uuid.UUID, taken: bool) -> StoredFile:
    if taken:
        services.privacy.refuse_artifacts([artifact_id])
    artifact = services.results.show_artifact(artifact_id)
    read = partial(services.results.read_range, artifact)
    return StoredFile(artifact.name, artifact.media_type, artifact.size, artifact.sha256, read)
