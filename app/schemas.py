"""Requests and answers as they cross a door; every door shows the same ones."""

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

NOTICE = "Not for clinical use."
DECODING_NOTICE = "Model estimate, not a photograph of thought. Not for clinical use."
RANDOM_NOTICE = f"RANDOM WEIGHTS: these pictures mean nothing. {DECODING_NOTICE}"

Consent = Literal["none", "given", "public", "simulated"]
CONSENT_NOTE = "what the consent says: who approved it, what it covers, until when; no name of a person"
JobKind = Literal["segment", "reconstruct", "decode", "train-segmenter", "train-decoder", "train-linear", "glm"]
DECODING = ("reconstruct", "decode")
QueueName = Literal["cpu", "gpu"]
Priority = Annotated[int, Field(ge=-2, le=2)]
PRIORITIES = {-2: "lowest", -1: "low", 0: "normal", 1: "high", 2: "highest"}
Verdict = Literal["accept", "reject", "unsure", "none"]
_METRIC = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}(\[[^\[\]]{1,200}\])?"
NUMBER = r"([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?)?"
MetricText = Annotated[str, StringConstraints(pattern=rf"^{_METRIC}:{NUMBER}\.\.{NUMBER}$", max_length=400)]
SortText = Annotated[str, StringConstraints(pattern=rf"^-?{_METRIC}$", max_length=300)]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,119}$")]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("the years 1 to 9999 in UTC are known") from None


Moment = Annotated[datetime, AfterValidator(_in_utc)]


class Wire(BaseModel):
    """Frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sent(Wire):
    """What somebody sends: no text of it holds a NUL character, which PostgreSQL can't store."""

    @model_validator(mode="before")
    @classmethod
    def _holds_no_nul(cls, given: Any) -> Any:
        if has_nul(given):
            raise ValueError("text without NUL characters")
        return given


def has_nul(given: Any) -> bool:
    """Whether some text within lists and dictionaries, names included, holds a NUL character."""
    if isinstance(given, dict):
        return any(has_nul(each) for pair in given.items() for each in pair)
    if isinstance(given, list | tuple):
        return any(map(has_nul, given))
    return isinstance(given, str) and "\0" in given


class DatasetRequest(Sent):
    """A new data set."""

    name: Label
    project: Label | None = Field(None, description="whose members see it; empty: the one that there is, else default")
    consent: Consent = Field("none", description="on what ground the data may be decoded")
    consent_note: str = Field("", max_length=2000, description=CONSENT_NOTE)
    purpose: str = Field("", max_length=2000, description="what the data may be used for")
    licence: str = Field("", max_length=200)
    source: str = Field("", max_length=2000, description="where the data come from, with their citation")
    simulated: bool = Field(False, description="made by a model, not measured")
    keeps_headers: bool = Field(
        False, description="clinical and local: headers keep who was scanned, and nothing of it can be exported"
    )
    removes_faces: bool = Field(
        False, description="take faces out of heads on their way in; one from which it can't be taken is held"
    )

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "DatasetRequest":
        if self.keeps_headers and self.removes_faces:
            raise ValueError("a clinical data set keeps its files as they come: leave out one of the two")
        return self


class DatasetChange(Sent):
    """What may be changed on a data set afterwards."""

    consent: Consent | None = None
    consent_note: str | None = Field(None, max_length=2000, description=CONSENT_NOTE)
    purpose: str | None = Field(None, max_length=2000)
    licence: str | None = Field(None, max_length=200)
    source: str | None = Field(None, max_length=2000)


class DatasetAnswer(Wire):
    """A data set with the size of what it holds."""

    id: uuid.UUID
    name: str
    project: str
    consent: Consent
    consent_note: str
    purpose: str
    licence: str
    source: str
    simulated: bool
    keeps_headers: bool
    removes_faces: bool
    subjects: int
    scans: int
    created_at: datetime
    version: int


PREFER = "of two placements in a NIfTI header that differ, the one that holds; the other is made to agree"
VOLUME = "which volume of a DICOM series or 4-D NIfTI, or page of a TIFF file, is meant where there are several, from 1"


class ScanRequest(Sent):
    """Where an upload belongs."""

    name: str
    dataset: Label
    subject: Label = "01"
    session: Label = "01"
    prefer: Literal["sform", "qform"] | None = Field(None, description=PREFER)
    volume: int | None = Field(None, ge=1, le=1_000_000, description=VOLUME)


class ScanAnswer(Wire):
    """An uploaded file with what the intake check found."""

    id: uuid.UUID
    dataset: str
    subject: str
    session: str
    name: str
    kind: str
    geometry: dict[str, Any]
    facts: dict[str, Any]
    warnings: list[Any]
    deid_status: str = Field(description="clean, cleaned, kept (clinical and local), held, defaced or deface-failed")
    held: str = Field(description="why a person must look at it before any job may take it; else empty")
    sha256: str = Field(description="of what is stored; facts hold `source_sha256` where the upload was another")
    thumbnail_sha256: str | None
    size: int
    created_at: datetime


class ScanQuery(Sent):
    """Which scans of a data set: every condition that is set must hold."""

    subject: str | None = Field(None, max_length=120)
    session: str | None = Field(None, max_length=120)
    kind: str | None = Field(None, max_length=32)
    name: str | None = Field(None, max_length=255, description="pattern of the file name: * any letters, ? one letter")


class JobRequest(Sent):
    """One recipe over many items: the scans that are named, or those that a query finds now, or all that fit."""

    kind: JobKind
    recipe: str
    dataset: Label
    scans: list[uuid.UUID] = Field(default_factory=list, description="ids; empty: every scan that the recipe can take")
    query: ScanQuery | None = Field(None, description="instead of ids: which scans of the data set")
    queue: QueueName | None = Field(None, description="empty: gpu where this machine has one, else cpu")
    priority: Priority = Field(0, description="-2 lowest, 0 normal, 2 highest: the higher, the sooner")
    seed: int = Field(0, ge=0, lt=2**63)
    options: dict[str, Any] = Field(default_factory=dict, description="see the recipe")
    cloned_from: uuid.UUID | None = Field(None, description="the job that this one repeats with other settings")

    @model_validator(mode="after")
    def _names_scans_one_way(self) -> Self:
        if self.scans and self.query is not None:
            raise ValueError("name scans by their ids or by a query, not by both")
        return self


class MetricAnswer(Wire):
    """A score with its interval, and in `detail` its null and how it was made."""

    name: str
    label: str
    value: float
    low: float | None
    high: float | None
    unit: str
    detail: dict[str, Any]


class ArtifactAnswer(Wire):
    """A file that came out."""

    id: uuid.UUID
    role: str
    name: str
    media_type: str
    size: int
    sha256: str
    url: str


class ModelAnswer(Wire):
    """What did the work; an empty hash: fitted anew in every run, its hash stands in the provenance.

    `config` says ``random_weights`` where nothing was learnt.
    """

    id: uuid.UUID
    name: str
    version: str
    task: str
    config: dict[str, Any]
    weights_sha256: str
    licence: str
    created_at: datetime


class JobAnswer(Wire):
    """A job and how far it is.

    `attempt` counts how often it went on its queue; `notes` say what was left out of it, and why.
    """

    id: uuid.UUID
    kind: JobKind
    recipe: str
    dataset: str
    simulated: bool
    random_weights: bool = Field(description="nothing was learnt: what comes out means nothing")
    model: str
    queue: QueueName
    status: str
    attempt: int
    priority: int
    place: int | None = Field(description="in its queue while it waits: 1 is next")
    total: int
    done: int
    failed: int
    seconds_left: float | None = Field(
        description="of work, by what items of this recipe took on this queue; null: nothing to go by, or over"
    )
    error: str
    notes: list[str]
    seed: int
    options: dict[str, Any]
    cloned_from: uuid.UUID | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    metrics: list[MetricAnswer]
    artifacts: list[ArtifactAnswer]
    notice: str


class RunAnswer(Wire):
    """One item of a job; `traceback` is filled where it failed."""

    id: uuid.UUID
    job: uuid.UUID
    item: str
    subject: str
    scan: str
    status: str
    attempts: int
    provenance: dict[str, Any]
    error_class: str
    error_message: str
    traceback: str
    started_at: datetime | None
    finished_at: datetime | None
    seconds: float | None = Field(description="of work; the share of one where several were done together")
    seconds_left: float | None = Field(description="of work until it is done, those before it included; null: unknown")


class ResultQuery(Sent):
    """Which results, in which order: every condition that is set must hold."""

    dataset: str | None = None
    subject: str | None = None
    session: str | None = None
    scan: str | None = Field(None, max_length=255, description="name of the file, or a pattern with *")
    model: str | None = None
    recipe: str | None = None
    kind: JobKind | None = None
    job: uuid.UUID | None = None
    simulated: bool | None = None
    since: Moment | None = Field(None, description="finished at this time or later; UTC where no offset is given")
    until: Moment | None = Field(None, description="finished before this time")
    verdict: Verdict | None = Field(None, description="of any reader; none: nobody has reviewed it")
    metric: list[MetricText] = Field(
        default_factory=list,
        max_length=8,
        description="name:low..high or name[label]:low..high, both ends included; either may be left out",
    )
    words: str | None = Field(
        None, max_length=200, description="words in captions and names of stimuli, each by its beginning"
    )
    sort: SortText = Field("-time", description="time, subject, or a metric: name or name[label]; - for descending")


class DecodedAnswer(Wire):
    """What was decoded from the responses to one stimulus.

    `artifact` is the picture, or where none was asked for the caption or the tokens; `rank` counts the samples of a
    stimulus; `retrieved` are the stimuli whose pictures come next, the closest first.
    """

    stimulus: str
    rank: int
    seed: int
    caption: str
    retrieved: list[str]
    artifact: uuid.UUID


class ResultAnswer(Wire):
    """What one run gave: a label map with its volumes, or what was decoded with its stimuli."""

    id: uuid.UUID
    kind: JobKind
    job: uuid.UUID
    recipe: str
    dataset: str
    subject: str
    session: str
    scan: str
    item: str
    model: str
    weights_sha256: str
    simulated: bool
    random_weights: bool = Field(description="nothing was learnt: what came out means nothing")
    finished_at: datetime
    provenance: dict[str, Any]
    artifacts: list[ArtifactAnswer]
    metrics: list[MetricAnswer]
    labels: dict[str, str]
    volumes_ml: dict[str, float]
    stimuli: list[str]
    decoded: list[DecodedAnswer]
    notice: str


class RecipeAnswer(Wire):
    """A recipe that a job can name."""

    name: str
    kind: JobKind
    title: str
    summary: str
    model: str
    weights_sha256: str
    licence: str
    takes: list[str] = Field(
        default_factory=list, description="kinds of scans that it reads, where others of its kind read more"
    )
    random_weights: bool = False
    generators: list[str] = Field(default_factory=list, description="of a linear decoder, one of which a job may name")


class HealthAnswer(Wire):
    """Whether the stores answer, and who works on the queues."""

    status: Literal["ok"]
    version: str
    database: str
    queued: dict[str, int]
    notice: str


T = TypeVar("T")


class Page(Wire, Generic[T]):
    """Part of a list; hand `next_cursor` back for what follows."""

    items: list[T]
    next_cursor: str | None


class Problem(Wire):
    """An error in the form of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    found: str
    expected: str
    remedy: str
