"""Requests and answers about evaluations, relevance maps and exports."""

import uuid
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from voxelight.app.schemas import ArtifactAnswer, Sent, Wire

ActionKind = Literal["evaluate", "evaluate-maps", "relevance"]
ExportFormat = Literal["bids", "nifti", "dicom-seg", "rtstruct", "surfaces", "colours", "pictures", "tables", "report"]
ExportName = Literal["archive.zip", "report.html", "report.pdf", "metrics.csv", "metrics.parquet"]
Space = Literal["native", "MNI152"]


class EvaluationRequest(Sent):
    """What is stated and chosen for the evaluation of a job that decoded."""

    betas: str | None = Field(None, max_length=200, description="version of the betas, where they were measured")
    sessions: str | None = Field(None, max_length=200, description="sessions that the decoder was trained on")
    test_set: str | None = Field(None, max_length=200, description="how the scored stimuli were chosen")
    permutations: int = Field(999, ge=19, le=100_000, description="draws of the null")
    networks: tuple[str, ...] | None = Field(
        None, max_length=8, description="networks that judge pictures; empty: none; left out: the one that is here"
    )
    ceiling: bool = Field(False, description="generate from the tokens of the pictures too: as long as the job took")
    captions: dict[str, list[str]] = Field(
        default_factory=dict, description="reference captions of stimuli, by which captions are scored; empty: none are"
    )
    caption_set: str = Field("", max_length=200, description="name of the set of reference captions")
    regions: tuple[str, ...] = Field(
        (), max_length=32, description="masks of the same subject, or regions of a registered folder, by which a brain "
        "encoder scores pictures; the first that shares no voxel with the decoder chooses among samples"
    )  # fmt: skip

    @model_validator(mode="after")
    def _names_its_references(self) -> Self:
        if bool(self.captions) != bool(self.caption_set.strip()):
            raise ValueError("give reference captions and the name of their set together")
        return self


class MapsEvaluationRequest(Sent):
    """What the label maps of a job are scored against, and how."""

    references: Literal["stored", "corrections"] = Field(
        "stored",
        description="stored: for NAME.nii.gz a label map NAME_dseg.nii.gz of the same subject and session; "
        "corrections: the newest correction of each result",
    )
    dataset: str | None = Field(
        None, max_length=200, description="data set that holds the references; left out: that of the job"
    )
    against: uuid.UUID | None = Field(None, description="another job to compare with, case by case")
    tolerance_mm: float = Field(1.0, gt=0, le=100, description="of the normalised surface distance")
    missing: Literal["left-out", "empty"] = Field("left-out", description="references without a label map")
    labels: dict[int, str] | None = Field(None, description="label number -> name; left out: those of the recipe")
    regions: dict[str, list[str]] = Field(
        default_factory=dict, description="name -> names of labels that are scored as one besides"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of the bootstrap over persons")


class RelevanceRequest(Sent):
    """What is stated for the maps of where a decoder looks."""

    space: Space | None = Field(
        None, description="in which the betas lie; left out: MNI152 where the header of the mask says so, else native"
    )


class ActionAnswer(Wire):
    """What was asked of a finished job besides, and how far it is; `problem` says why it failed."""

    id: uuid.UUID
    job: uuid.UUID
    kind: ActionKind
    status: str
    options: dict[str, Any]
    problem: dict[str, Any]
    artifacts: list[ArtifactAnswer]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    notice: str


class ControlAnswer(Wire):
    """What stands beside a decoded picture so that it is not overrated.

    `shuffled`: what the same decoder and generator made of another stimulus's betas, that of `shuffled_item`.
    """

    result: uuid.UUID
    shuffled_item: str
    shuffled: list[ArtifactAnswer]
    notice: str


class FormatAnswer(Wire):
    """How much of an export one format holds; with nothing, `reason` says why."""

    name: ExportFormat
    title: str
    files: int
    reason: str


class ExportAnswer(Wire):
    """What an export would hold."""

    results: int
    jobs: int
    datasets: list[str]
    bytes: int = Field(description="of the stored files that it would hold, before compression")
    formats: list[FormatAnswer]
    licences: dict[str, str] = Field(description="data set or model -> its licence")
    warnings: list[str]
    notice: str
