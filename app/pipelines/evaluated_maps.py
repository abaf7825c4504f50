"""Score label maps against references: of a finished job, or in two folders."""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from voxelight.app.pipelines.choice import find_conditions
from voxelight.app.pipelines.train_data import LABEL_ENDINGS, TAKES
from voxelight.app.schemas import ScanQuery
from voxelight.medseg.evaluation import Evaluation, compare_runs, evaluate_cases
from voxelight.medseg.metrics import CaseScores, score_case
from voxelight.models.errors import BadInput, VoxelightError
from voxelight.models.values import LabelMap
from voxelight.storage.formats.groups import CaseGroups
from voxelight.storage.formats.images import read_numbers
from voxelight.storage.formats.label_names import read_label_names
from voxelight.storage.formats.names import image_stem
from voxelight.storage.formats.nifti import read_volume
from voxelight.storage.formats.nifti_header import place_grid
from voxelight.storage.formats.volumes import read_image, read_label_map
from voxelight.storage.queries import find_dataset, find_row, select_scans
from voxelight.storage.schema import Artifact, Correction, ImagingSession, Job, Run, Scan, Segmentation, Subject
from voxelight.storage.stores import Stores

_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
_DSEG, _CONFIDENCE = "_dseg", "_confidence"
_NO_LABELS = (_CONFIDENCE, "_uncertainty", "_instances")
_SHOWN = 3
Read = tuple[LabelMap, LabelMap, NDArray[np.float32] | None]


@dataclass(frozen=True)
class Wishes:
    """How label maps are scored.

    Parameters
    ----------
    tolerance_mm : of the normalised surface distance
    seed : of the bootstrap over persons
    missing_as_empty : a reference without a label map counts as missed; else it is left out
    groups : person and fold of each case; None: as the job or the file names say
    labels : label number -> name, where the files don't say
    regions : name -> names of labels that are scored as one besides
    """

    tolerance_mm: float = 1.0
    seed: int = 0
    missing_as_empty: bool = False
    groups: CaseGroups | None = None
    labels: Mapping[int, str] | None = None
    regions: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Stored:
    """References that lie in a data set beside the images, or under the same subject and session in another one.

    Parameters
    ----------
    dataset : its name; None: that of the job
    """

    dataset: str | None = None


@dataclass(frozen=True, eq=False)
class Pair:
    """One case to be: its names, and how its two label maps are read."""

    case: str
    person: str
    read: Callable[[], Read]
    run: uuid.UUID | None = None


@dataclass(frozen=True, eq=False)
class Scored:
    """Pairs of one run, and what is to be said of them."""

    title: str
    pairs: Sequence[Pair]
    conditions: dict[str, str]
    provenance: dict[str, Any]


def score_pairs(found: Scored, wishes: Wishes, progress: Callable[[float], None] | None = None) -> Evaluation:
    """Read and score one case after the other; what can't be scored is left out with the reason.

    Raises
    ------
    BadInput
        There is no case, or a case has no person.
    VoxelightError
        Nothing could be scored: what kept the first case out.
    """
    known = wishes.groups.person_of if wishes.groups else None
    strange = [pair.case for pair in found.pairs if known is not None and pair.case not in known]
    if strange:
        raise BadInput(f"{len(strange)} cases without a person, {strange[0]} for one", "a row for every case",
                       "Add them to the table of groups.")  # fmt: skip
    cases: list[CaseScores] = []
    faults: dict[str, VoxelightError] = {}
    for number, pair in enumerate(found.pairs, start=1):
        person = pair.person if known is None else known[pair.case]
        try:
            label_map, reference, confidence = pair.read()
            cases.append(
                score_case(label_map, reference, wishes.tolerance_mm, pair.case, person, confidence, wishes.regions)
            )
        except VoxelightError as error:
            faults[pair.case] = error
        if progress is not None:
            progress(number / len(found.pairs))
    if faults and not cases:
        raise next(iter(faults.values()))
    evaluation = evaluate_cases(cases, found.title, wishes.tolerance_mm, wishes.seed)
    left_out = {case: str(error) for case, error in faults.items()}
    return replace(evaluation, conditions=found.conditions, provenance=found.provenance, left_out=left_out)


def compare(ours: Evaluation, theirs: Evaluation, wishes: Wishes) -> Evaluation:
    """Return ours with its tests against another run, by fold too where folds are told."""
    folds = wishes.groups.folds if wishes.groups else ()
    return replace(ours, other=theirs.title, tests=compare_runs(ours, theirs, folds))


def pair_folders(found: Path, references: Path, wishes: Wishes) -> Scored:
    """Pair label maps and references of two folders by their names, ``_dseg`` left out.

    Raises
    ------
    BadInput
        A folder holds no label map, or no name is in both.
    """
    maps, truths = _by_stem(found), _by_stem(references)
    wanted = truths if wishes.missing_as_empty else [stem for stem in truths if stem in maps]
    pairs = [Pair(stem, stem, _reader(maps.get(stem), truths[stem], wishes.labels)) for stem in wanted]
    conditions = _tell(str(references), set(truths) - set(maps), set(maps) - set(truths), wishes)
    _refuse_none(pairs, maps, truths)
    return Scored(found.name, pairs, conditions, {})


def pair_job(stores: Stores, job_id: uuid.UUID, references: Path | Stored | None, wishes: Wishes) -> Scored:
    """Pair the label maps of a job with references of a folder or a data set, or with what people corrected them to.

    Parameters
    ----------
    stores : where the job lies
    job_id : a job that segmented
    references : folder with a label map named as each scan; `Stored`: for ``NAME.nii.gz`` a scan ``NAME_dseg.nii.gz``
        of the same subject and session; None: the newest correction of each result
    wishes : how they are scored

    Raises
    ------
    BadInput
        The job segmented nothing, or no reference belongs to any of its scans.
    """
    with stores.sessions() as session:
        job = find_row(session, Job, job_id)
        if job.kind != "segment":
            raise BadInput(f"a job of the kind {job.kind}", "a job that segmented", "Leave out the references.")
        runs = list(session.scalars(_select_runs(job_id)))
        maps = {run.id: _find_files(session, run) for run in runs}
        recipe, dataset = job.recipe, job.dataset.name
        truths = _find_truths(session, references, job)
    pairs, lonely = [], set()
    for run in runs:
        stem = image_stem(run.scan.name)
        files = maps[run.id]
        truth = files.get("correction") if references is None else truths.pop(_place(run.scan, references), None)
        if truth is None or ("label_map" not in files and not wishes.missing_as_empty):
            lonely.add(stem)
            continue
        person = run.scan.imaging_session.subject.label
        name = "/".join(map(str, _place(run.scan, references))) if isinstance(references, Stored) else stem
        pairs.append(Pair(name, person, _stored_reader(stores, files, truth, wishes.labels), run.id))
    stems = {image_stem(run.scan.name) for run in runs}
    named = {"a correction"} if references is None else {key if isinstance(key, str) else key[-1] for key in truths}
    _refuse_none(pairs, stems, named)
    said = _tell(_name(references, dataset), set(truths), lonely, wishes)
    provenance: dict[str, Any] = next((dict(run.provenance) for run in runs if run.provenance), {})
    return Scored(f"{recipe} on {dataset}", pairs, said | {"Job": str(job_id)}, provenance)


def _find_truths(session: Session, references: Path | Stored | None, job: Job) -> dict[Any, Any]:
    """Return the references by what a scan has in common with its own, each a path, or hash and name."""
    if references is None:
        return {}
    if isinstance(references, Path):
        return dict(_by_stem(references))
    dataset = job.dataset if references.dataset is None else find_dataset(session, references.dataset)
    scans = session.scalars(select_scans().where(*find_conditions(dataset.id, ScanQuery(), TAKES), Scan.held == ""))
    drawn = [scan for scan in scans if LABEL_ENDINGS.search(scan.name)]
    return {_place(scan, references): (scan.blob_sha256, scan.name) for scan in drawn}


def _place(scan: Scan, references: Path | Stored) -> Any:
    stem = image_stem(scan.name)
    if isinstance(references, Path):
        return stem
    visit = scan.imaging_session
    return visit.subject.label, visit.label, image_stem(LABEL_ENDINGS.sub("", scan.name)).lower()


def _name(references: Path | Stored | None, dataset: str) -> str:
    if references is None:
        return "the newest correction of each result"
    return str(references) if isinstance(references, Path) else f"label maps in {references.dataset or dataset}"


def _select_runs(job_id: uuid.UUID) -> Any:
    scan = joinedload(Run.scan).joinedload(Scan.imaging_session).joinedload(ImagingSession.subject)
    return select(Run).where(Run.job_id == job_id).options(scan.joinedload(Subject.dataset)).order_by(Run.position)


def _find_files(session: Any, run: Run) -> dict[str, Any]:
    """Return the stored files of a run by role, each with hash and name, and the names of its labels."""
    files: dict[str, Any] = {}
    rows = session.scalars(
        select(Artifact).where(Artifact.run_id == run.id, Artifact.role.in_(("label_map", "confidence")))
    )
    for row in rows:
        files[row.role] = row.blob_sha256, row.name
    drawn = select(Correction).where(Correction.run_id == run.id).order_by(Correction.created_at.desc(), Correction.id)
    newest = session.scalar(drawn.options(joinedload(Correction.artifact)).limit(1))
    if newest is not None:
        files["correction"] = newest.artifact.blob_sha256, newest.artifact.name
    own = session.scalar(select(Segmentation).where(Segmentation.run_id == run.id))
    files["names"] = {int(number): str(name) for number, name in own.labels.items()} if own else {}
    return files


def _stored_reader(
    stores: Stores, files: dict[str, Any], truth: Any, labels: Mapping[int, str] | None
) -> Callable[[], Read]:
    names = dict(labels or files["names"])

    def read_stored(stored: tuple[str, str], read: Callable[[Path], Any]) -> Any:
        with stores.blobs.local_file(*stored) as path:
            return read(path)

    def read() -> Read:
        def as_map(path: Path) -> LabelMap:
            return stores.checks.read_label_map(path, names) if path.suffix != ".png" else _read_flat(path, names)

        reference = as_map(truth) if isinstance(truth, Path) else read_stored(truth, as_map)
        if "label_map" not in files:
            return _empty(reference), reference, None
        found = read_stored(files["label_map"], lambda path: read_label_map(path, files["names"]))
        sure = read_stored(files["confidence"], read_volume).array[0] if "confidence" in files else None
        return found, reference, sure

    return read


def _reader(found: Path | None, reference: Path, labels: Mapping[int, str] | None) -> Callable[[], Read]:
    def read() -> Read:
        names = dict(labels or _read_names(found))
        truth = read_label_map(reference, names)
        if found is None:
            return _empty(truth), truth, None
        sure = found.with_name(found.name.replace(_DSEG, _CONFIDENCE))
        there = sure != found and sure.is_file()
        return read_label_map(found, names), truth, read_image(sure)[0].array[0] if there else None

    return read


def _read_flat(path: Path, names: dict[int, str]) -> LabelMap:
    numbers = read_numbers(path).T[..., None]
    strange = sorted(set(np.unique(numbers).tolist()) - {0} - set(names))
    if strange:
        raise BadInput(f"{path.name} with label {strange[0]}", f"0 and {', '.join(map(str, sorted(names)))}",
                       "Name every label that is drawn.")  # fmt: skip
    grid = place_grid((numbers.shape[0], numbers.shape[1], 1), np.eye(4))
    return LabelMap(numbers.astype(np.uint8), grid.geometry, names)


def _empty(reference: LabelMap) -> LabelMap:
    return LabelMap(np.zeros(reference.array.shape, np.uint8), reference.geometry, reference.names)


def _read_names(found: Path | None) -> dict[int, str]:
    """Return the label names that stand beside a label map, as `voxelight segment` writes them."""
    beside = None if found is None else found.with_name(f"{image_stem(found.name)}.json")
    if beside is not None and beside.is_file():
        names = json.loads(beside.read_text("utf-8")).get("LabelNames", {})
        return {int(number): str(name) for number, name in names.items()}
    if found is not None and ".nii" in found.suffixes and (carried := read_label_names(found)):
        return carried
    raise BadInput(
        f"no names of labels beside {found.name if found else 'a reference'}",
        "STEM_dseg.json with LabelNames, or names in the file itself",
        "Name the labels: --label 1=NAME.",
    )


def _by_stem(folder: Path) -> dict[str, Path]:
    paths = sorted(path for path in folder.glob("*") if path.name.endswith(_SUFFIXES) and not path.name.startswith("."))
    maps = [path for path in paths if not image_stem(path.name).endswith(_NO_LABELS)]
    if not maps:
        raise BadInput(f"no NIfTI, NRRD or MetaImage file in {folder}", "label maps, one a case", "Check the folder.")
    return {image_stem(path.name).removesuffix(_DSEG): path for path in maps}


def _refuse_none(pairs: Sequence[Pair], maps: Any, truths: Any) -> None:
    if not pairs:
        raise BadInput(
            f"label maps of {', '.join(sorted(maps)[:_SHOWN])} and references of {', '.join(sorted(truths)[:_SHOWN])}",
            "at least one of one name",
            "Name each reference as the image that was segmented.",
        )


def _tell(references: str, without_map: set[Any], without_reference: set[str], wishes: Wishes) -> dict[str, str]:
    said = {"References": Path(references).name or references}
    if without_reference:
        said["Without a reference, left out"] = str(len(without_reference))
    if without_map:
        said["Without a label map, " + ("counted as missed" if wishes.missing_as_empty else "left out")] = str(
            len(without_map)
        )
    return said
