"""Answers that only the shell gives; the others are those of every door."""

from pathlib import Path

from voxelight.app.schemas import JobAnswer, Problem, ResultAnswer, ScanAnswer, Wire


class RefusedFile(Wire):
    """A file that was not taken, and why."""

    path: Path
    problem: Problem


class IngestAnswer(Wire):
    """What was stored and what was refused."""

    scans: list[ScanAnswer]
    refused: list[RefusedFile]


class WorkAnswer(Wire):
    """A job that was carried out, what it gave, and the files that were written."""

    job: JobAnswer
    results: list[ResultAnswer]
    files: list[Path]
    refused: list[RefusedFile]


class FilesAnswer(Wire):
    """Files that were written."""

    files: list[Path]


class DataAnswer(Wire):
    """A public data set, and whether it was fetched into the home folder."""

    name: str
    title: str
    source: str
    size: str
    recipe: str
    fetched: bool


class UpgradeAnswer(Wire):
    """A database, and whether migrations were missing."""

    database: str
    applied: bool


class RekeyAnswer(Wire):
    """How many blobs are under another key now."""

    changed: int


class SweepAnswer(Wire):
    """What was removed: hashes of blobs and names of temporary files."""

    removed: list[str]


class DemoAnswer(Wire):
    """The jobs of the demo and where their files are."""

    segmentation: JobAnswer
    reconstruction: JobAnswer
    decoding: JobAnswer
    folder: Path


class SimulateAnswer(Wire):
    """A simulation: its kind, the encoder of its late voxels, and a folder for each subject."""

    simulated: bool
    kind: str
    encoder: str
    folders: list[Path]
    dataset: str | None


class TrainAnswer(Wire):
    """The files of a training, and the mean Dice of each label over the held-out cases."""

    files: list[Path]
    dice: dict[str, float]


class PlanAnswer(Wire):
    """A planned recipe: its file, and what was chosen for the data set."""

    file: Path
    network: str
    spacing_mm: tuple[float, float, float]
    window: tuple[int, int, int]
    batch: int
    memory_gib: float
    cases: int


class SeriesAnswer(Wire):
    """A DICOM series: its voxels (columns, rows, slices), or why it can't be taken in."""

    name: str
    modality: str
    files: int
    shape: tuple[int, int, int] | None
    problem: Problem | None


class ModelImported(Wire):
    """A model of another program that is kept here now."""

    name: str
    origin: str
    labels: dict[int, str]
    folds: int
    weights_sha256: str
    licence: str
    differences: list[str]


class AlignedFile(Wire):
    """An image on the grid of a reference, and by how much it was moved."""

    source: Path
    file: Path
    shift_mm: float
    turn_degrees: float
    similarity: float


class ArchiveRow(Wire):
    """A study or a series as an archive tells it, by keyword; it names a patient."""

    facts: dict[str, str]


class CountAnswer(Wire):
    """How many."""

    count: int
