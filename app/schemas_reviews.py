"""Requests and answers of quality control and of follow-up."""

import uuid
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from voxelight.app.schemas import JobKind, MetricAnswer, Sent, Wire

Verdict = Literal["accept", "reject", "unsure"]
VerdictFilter = Literal["accept", "reject", "unsure", "none"]
Convention = Literal["neurological", "radiological"]
Reviewer = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120, pattern=r"^[^/\x00-\x1f\x7f]+$")
]


class ReviewRequest(Sent):
    """What a reviewer thinks of a result."""

    verdict: Verdict
    comment: str = Field("", max_length=4000)


class ReviewAnswer(Wire):
    """What a reviewer thinks of a result; `version` counts how often it was saved."""

    run: uuid.UUID
    reviewer: str
    verdict: Verdict
    comment: str
    created_at: datetime
    updated_at: datetime
    version: int


class CasePicture(Wire):
    """A picture to judge a case by; `small` ones are shown pixel by pixel."""

    title: str
    url: str
    alt: str
    small: bool = False


class OutlierAnswer(Wire):
    """A number of a case that lies far from those of the others of its job."""

    name: str
    label: str
    value: float
    unit: str
    median: float
    z: float = Field(description="distance from the median in robust standard deviations (1.4826 MAD)")


class CaseAnswer(Wire):
    """A result as it is reviewed.

    `own` is the reviewer's own view. `others` stays empty until that is saved, so that nobody is swayed; `hidden`
    counts what is kept back.
    """

    run: uuid.UUID
    job: uuid.UUID
    position: int = Field(description="place in the job, from 0")
    item: str
    kind: JobKind
    dataset: str
    subject: str
    session: str
    scan: str
    simulated: bool
    random_weights: bool
    finished_at: datetime
    pictures: list[CasePicture]
    captions: list[str]
    metrics: list[MetricAnswer]
    outliers: list[OutlierAnswer]
    corrections: int = Field(description="label maps that people have drawn over this one")
    own: ReviewAnswer | None
    others: list[ReviewAnswer]
    hidden: int
    notice: str


class ProgressAnswer(Wire):
    """How far a reviewer is with a job."""

    job: uuid.UUID
    reviewer: str
    total: int
    reviewed: int
    accept: int
    reject: int
    unsure: int


class ReviewerAnswer(Wire):
    """Somebody who has reviewed results of a job, and how many; not with which verdict."""

    reviewer: str
    reviewed: int


class DisagreementAnswer(Wire):
    """A result on which two reviewers differ."""

    run: uuid.UUID
    item: str
    first: Verdict
    second: Verdict


class CaseDice(Wire):
    """How well the newest corrections of two reviewers agree on one label of one result."""

    run: uuid.UUID
    item: str
    subject: str
    label: str
    dice: float


class LabelDice(Wire):
    """Mean Dice of two reviewers' corrections by label, with its 95 % interval over subjects."""

    label: str
    dice: float
    low: float
    high: float
    cases: int
    subjects: int


class AgreementAnswer(Wire):
    """Whether two reviewers of a job say the same.

    `kappa` is Cohen's, with the 95 % interval of Fleiss, Cohen and Everitt; it is null where there is nothing to
    compare, or where both use one and the same word for all. `revised` counts results on which one of them saved again
    after both had saved, when the other's view could be seen.
    """

    job: uuid.UUID
    first: str
    second: str
    items: int
    kappa: float | None
    low: float | None
    high: float | None
    observed: float | None = Field(description="share of results with equal verdicts")
    expected: float | None = Field(description="what the reviewers' habits alone would give")
    words: list[Verdict]
    table: list[list[int]] = Field(description="results by the verdict of the first (row) and of the second (column)")
    revised: int
    differ: list[DisagreementAnswer]
    corrections: list[CaseDice]
    dice: list[LabelDice]
    notice: str


class MeasuredValue(Wire):
    """One case in a group."""

    run: uuid.UUID
    item: str
    value: float
    z: float
    outlier: bool


class MeasureAnswer(Wire):
    """One number over all cases of a job."""

    name: str
    label: str
    unit: str
    median: float
    low: float = Field(description="25th percentile")
    high: float = Field(description="75th percentile")
    values: list[MeasuredValue]


class GroupAnswer(Wire):
    """The numbers of all cases of a job; outliers lie more than `far` robust deviations from the median."""

    job: uuid.UUID
    recipe: str
    dataset: str
    kind: JobKind
    simulated: bool
    cases: int
    fewest: int = Field(description="with fewer cases nothing is called an outlier")
    far: float
    measures: list[MeasureAnswer]
    verdicts: dict[str, int]
    notice: str


class SeriesAnswer(Wire):
    """Results of one subject that can be followed over time."""

    subject: str
    recipe: str
    sessions: list[str]
    labels: list[str]


class FollowupQuery(Sent):
    """What to follow, and what is known about measuring it twice."""

    recipe: str | None = Field(None, description="empty: the one with the newest result")
    label: str | None = Field(None, description="empty: every label")
    scan: str | None = Field(None, max_length=255, description="name or pattern of the scans, t1*.nii.gz for one")
    day: list[str] = Field(default_factory=list, description="SESSION:DAY, days since any one moment; repeat for more")
    minimal_change_ml: float | None = Field(None, ge=0, allow_inf_nan=False)
    minimal_change_percent: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="of the mean of the two volumes, from scan and rescan"
    )


class VisitAnswer(Wire):
    """One structure at one visit; the interval is that of the stored spread of the networks, where there is one."""

    session: str
    day: float | None
    run: uuid.UUID
    scan: str
    volume_ml: float
    low_ml: float | None
    high_ml: float | None
    spread: str = Field(description="what the interval comes from")
    corrected_by: str = Field(
        description="author of the newest correction, whose volume this is; empty: the model's own"
    )
    overlay: str | None = Field(description="picture of the labels on the scan")


class GrowthAnswer(Wire):
    """What happened between two visits; `beyond` says whether it is more than the minimal detectable change."""

    start: str
    end: str
    change_ml: float
    low_ml: float | None
    high_ml: float | None
    change_percent: float | None
    detectable_ml: float | None
    beyond: bool | None
    source: Literal["spread", "stated", "none"]
    doubling_days: float | None
    percent_per_year: float | None
    low_percent_per_year: float | None
    high_percent_per_year: float | None


class StructureAnswer(Wire):
    """One label of one subject over time."""

    label: str
    visits: list[VisitAnswer]
    growth: list[GrowthAnswer]


class FollowupAnswer(Wire):
    """One subject over time, on volumes as they were scanned: nothing was registered."""

    dataset: str
    subject: str
    recipe: str
    simulated: bool
    structures: list[StructureAnswer]
    interval: str = Field(description="where the intervals come from")
    warnings: list[str]
    notice: str


class LesionAnswer(Wire):
    """What overlaps over registered visits, taken together."""

    number: int = Field(description="from 1, the largest first")
    course: Literal["persists", "new", "gone", "new and gone"]
    volumes_ml: dict[str, float] = Field(description="session -> volume")
    pieces: dict[str, int] = Field(description="session -> parts that don't touch")
    growth: list[GrowthAnswer]


class RegisteredStructureAnswer(Wire):
    """One label of one subject over registered visits, in what all of them have seen."""

    label: str
    volumes_ml: dict[str, float]
    outside_ml: dict[str, float] = Field(description="volume that another visit has no picture of, left out")
    growth: list[GrowthAnswer]
    lesions: list[LesionAnswer]


class RegisteredAnswer(Wire):
    """One subject over time after rigid registration to the first visit."""

    dataset: str
    subject: str
    recipe: str
    simulated: bool
    sessions: list[str]
    moved_mm: dict[str, float] = Field(description="session -> how far the centre of the field was moved")
    turned_degrees: dict[str, float]
    seen: dict[str, float] = Field(description="session -> share of the first field that it covers")
    structures: list[RegisteredStructureAnswer]
    warnings: list[str]
    notice: str


class TrainingCase(Wire):
    """An image with a label map that people stand behind: the network's own, or a correction of it."""

    name: str
    subject: str
    kind: Literal["accepted", "corrected"]
    people: list[str] = Field(description="who accepted it, or who drew the correction")
    run: uuid.UUID
    recipe: str
    model: str
    weights_sha256: str
    image_sha256: str
    labels_sha256: str


class TrainingSetAnswer(Wire):
    """A folder that a network can be trained on."""

    folder: str
    cases: list[TrainingCase]
    labels: dict[int, str]
    left_out: dict[str, int] = Field(description="scans by the reason why they are not in it")
    notice: str
