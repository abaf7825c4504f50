"""Requests and answers about folders of fMRI betas that stay where they are."""

from typing import Any

from pydantic import Field

from voxelight.app.schemas import Label, ScanAnswer, Sent, Wire
from voxelight.storage.formats.fmri.options import ReadingOptions

LAYOUT = "how the files are laid out, nsd for one; left out, told by the files"


class RecordingLook(Sent):
    """A folder of betas to look at."""

    path: str = Field(min_length=1, max_length=4000, description="folder or file on the machine of the server")
    layout: str | None = Field(None, max_length=40, description=LAYOUT)
    options: ReadingOptions = ReadingOptions()


class RecordingRequest(RecordingLook):
    """A folder of betas to register."""

    subjects: tuple[Label, ...] | None = Field(None, min_length=1, description="left out: all of them")
    roi: str | None = Field(None, max_length=200, description="region; left out, the first of each subject")


class SubjectRow(Wire):
    """What a folder holds of one subject."""

    subject: str
    sessions: int
    runs: int
    trials: int
    stimuli: int
    repeated: int = Field(description="stimuli that were shown more than once")
    labels: list[str]
    rois: list[str] = Field(description="regions that can be asked for; the first is taken where none is")


class RecordingIndex(Wire):
    """What a folder holds, from tables and headers alone."""

    layout: str
    title: str
    terms: str = Field(description="under which terms the published data of this layout stand")
    simulated: bool
    subjects: list[SubjectRow]
    notes: list[str]


class RecordingsAnswer(Wire):
    """What was registered: one scan a subject; its facts and warnings say what was found."""

    layout: str
    simulated: bool
    scans: list[ScanAnswer]
    notes: list[str]


class LayoutAnswer(Wire):
    """One layout that can be read."""

    name: str
    title: str
    files: str
    reading: str = Field(description="mapped, streamed, or whole where the format leaves no choice")
    terms: str
    example: bool = Field(description="whether a small simulated example can be written")


class BetaReport(Wire):
    """One's own betas beside a published set."""

    subject: str
    report: dict[str, Any]
    lines: list[str]
