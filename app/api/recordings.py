"""Folders of fMRI betas over HTTP: below the folders that the installation opens, looked into and registered."""

from fastapi import APIRouter

from voxelight.app.api.dependencies import Door
from voxelight.app.schemas import Label, Page
from voxelight.app.schemas_recordings import (
    LayoutAnswer,
    RecordingIndex,
    RecordingLook,
    RecordingRequest,
    RecordingsAnswer,
)

router = APIRouter(tags=["recordings"])


@router.get("/layouts")
def list_layouts(services: Door) -> Page[LayoutAnswer]:
    """List the layouts of fMRI betas that can be read."""
    return Page(items=services.recordings.list_layouts(), next_cursor=None)


@router.post("/recordings/index")
def look_into_recording(services: Door, look: RecordingLook) -> RecordingIndex:
    """Say what a folder on the server holds, from tables and headers alone; 403 where it isn't opened to this door."""
    return services.recordings.look(look)


@router.post("/datasets/{name}/recordings", status_code=201)
def register_recording(services: Door, name: Label, request: RecordingRequest) -> RecordingsAnswer:
    """Register a folder on the server in a data set: one scan a subject, the files stay where they are.

    A sample of trials is read: the warnings of a scan say where trials and stimuli seem misaligned.
    """
    return services.recordings.register(name, request)
