"""Segment volumes: one scan, one label map on the scan's own grid."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from voxelight.app.pipelines import Item, ModelFacts, Pipeline, Plan, check_options
from voxelight.app.pipelines.choice import Choice, choose_scans
from voxelight.app.pipelines.segmenters import KnownRecipe, find_known, list_known
from voxelight.app.provenance import describe, find_device, find_revision
from voxelight.app.schemas import NOTICE, JobRequest, RecipeAnswer
from voxelight.models.errors import BadInput, Conflict
from voxelight.models.values import LabelMap, Provenance, Volume
from voxelight.storage.formats.images import encode_png
from voxelight.storage.formats.names import image_stem
from voxelight.storage.formats.nifti import write_label_map
from voxelight.storage.formats.volumes import read_image
from voxelight.storage.results import JobOutcome, Outcome, OutputFile, Score
from voxelight.storage.schema import Dataset, Job, Run, Scan
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.medseg.segment import Segmenter

_TAKES = ("volume",)


class SegmentOptions(BaseModel):
    """What a segmentation job can set beside its recipe: nothing yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def show_recipes(weights: Path) -> list[RecipeAnswer]:
    """Return what a person chooses from: what ships, then what was trained or imported here."""
    return [
        RecipeAnswer(
            name=known.recipe.name,
            kind="segment",
            title=known.recipe.title,
            summary=known.recipe.summary,
            model=known.model,
            weights_sha256=known.sha256,
            licence=known.licence,
        )
        for known in list_known(weights)
    ]


def plan(session: Session, stores: Stores, dataset: Dataset, request: JobRequest) -> Plan:
    """Choose the volumes of a request.

    Raises
    ------
    NotFound
        The recipe or a scan is not there.
    BadInput
        A scan is no volume or belongs to another data set, or there is none.
    Refused
        A scan that was named is held.
    """
    known = find_known(stores.weights, request.recipe)
    check_options(SegmentOptions, request.options)
    choice = _choose(session, dataset, request)
    return Plan(
        items=tuple(
            Item(key=_name_item(scan), scan_id=scan.id, subject_id=scan.imaging_session.subject_id)
            for scan in choice.scans
        ),
        model=ModelFacts(
            name=known.model,
            version=known.sha256[:12],
            task="segmentation",
            config={"network": known.recipe.network, **known.recipe.config},
            weights_sha256=known.sha256,
            licence=known.licence,
        ),
        notes=choice.notes,
    )


def _choose(session: Session, dataset: Dataset, request: JobRequest) -> Choice:
    choice = choose_scans(session, dataset, request, _TAKES)
    for scan in choice.scans:
        if scan.kind != "volume":
            raise BadInput(
                f"{scan.name}, a {scan.kind} of data set {dataset.name}",
                f"volumes (3-D NIfTI) of data set {dataset.name}",
                "Choose volumes only, or leave the choice empty to take all of them.",
            )
    if not choice.scans:
        raise BadInput(
            f"no volume in data set {dataset.name}{' that is not held' if choice.notes else ''}",
            "at least one 3-D NIfTI image",
            "Look at the held images on the page Upload." if choice.notes else "Upload the images to segment first.",
        )
    return choice


def _name_item(scan: Scan) -> str:
    visit = scan.imaging_session
    return f"{visit.subject.label}/{visit.label}/{scan.name}"


class OpenSegmentation:
    """A segmenter on its device, for the scans of one job."""

    at_once = 1

    def __init__(self, stores: Stores, job: Job, device: str) -> None:
        self._stores = stores
        known = find_known(stores.weights, job.recipe)
        _refuse_others(job, known)
        self._recipe, self._sha256 = known.recipe, known.sha256
        self._device = find_device(device)
        self._seed = job.seed
        self._segmenter = _load(stores.weights, job.recipe, known.sha256, self._device)

    def run_items(self, runs: Sequence[Run], go_on: Callable[[], None]) -> Iterator[tuple[Run, Outcome]]:
        """Segment one scan after the other."""
        for run in runs:
            go_on()
            yield run, self._segment(run)

    def _segment(self, run: Run) -> Outcome:
        from voxelight.medseg.draw import draw_overlay
        from voxelight.medseg.segment import segment

        stem = image_stem(run.scan.name)
        with self._stores.blobs.local_file(run.scan.blob_sha256, run.scan.name) as path:
            volume, grid = read_image(path)
        label_map = segment(volume, self._segmenter)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{stem}_dseg.nii.gz"
            write_label_map(file, label_map, grid)
            content = file.read_bytes()
        provenance = self._describe(run)
        return Outcome(
            files=(
                OutputFile("label_map", f"{stem}_dseg.nii.gz", "application/gzip", content),
                OutputFile("overlay", f"{stem}_overlay.png", "image/png", encode_png(draw_overlay(volume, label_map))),
                OutputFile("sidecar", f"{stem}_dseg.json", "application/json", _sidecar(run, label_map, provenance)),
            ),
            provenance=provenance,
            scores=_score(volume, label_map),
            label_names=label_map.names,
            volumes_ml=label_map.volumes_ml(),
        )

    def finish(self, runs: list[Run]) -> JobOutcome:
        """Nothing belongs to a segmentation job as a whole."""
        return JobOutcome()

    def _describe(self, run: Run) -> dict[str, Any]:
        provenance = Provenance(
            recipe=self._recipe.name,
            weights_sha256=self._sha256,
            revision=find_revision(),
            seed=self._seed,
            device=self._device,
        )
        return describe(provenance, {run.scan.name: run.scan.blob_sha256})


def _score(volume: Volume, label_map: LabelMap) -> tuple[Score, ...]:
    """Return volumes, and what finds odd cases without a reference."""
    from voxelight.medseg.quality import measure_quality

    volumes = [Score("volume", value, label=name, unit="ml") for name, value in label_map.volumes_ml().items()]
    return (*volumes, *(Score(each.name, each.value, label=each.label) for each in measure_quality(volume, label_map)))


def _refuse_others(job: Job, known: KnownRecipe) -> None:
    """Refuse weights that are not those that the job was asked for with."""
    if known.sha256 != job.model.weights_sha256:
        raise Conflict(f"weights {known.sha256[:12]} of {job.recipe}", f"{job.model.weights_sha256[:12]}, as when the "
                       "job was submitted", "The model was replaced meanwhile: submit the job again.")  # fmt: skip


@lru_cache(maxsize=2)
def _load(weights: Path, recipe: str, sha256: str, device: str) -> "Segmenter":
    """Read a segmenter once; the hash is part of the key, since a model may be replaced."""
    from voxelight.medseg.segment import build_segmenter

    known = find_known(weights, recipe)
    [state] = known.load()
    return build_segmenter(known.recipe, state, device)


def _sidecar(run: Run, label_map: LabelMap, provenance: dict[str, Any]) -> bytes:
    content = {
        "Sources": [run.scan.name],
        "LabelNames": {str(number): name for number, name in label_map.names.items()},
        "VolumesMl": label_map.volumes_ml(),
        "GeneratedBy": [{"Name": "voxelight", "Version": provenance["revision"]}],
        "Provenance": provenance,
        "Notice": NOTICE,
    }
    return json.dumps(content, indent=2).encode()


PIPELINE = Pipeline(
    list_recipes=show_recipes,
    plan=plan,
    open=OpenSegmentation,
    step_size=1,
    options=SegmentOptions,
    takes=_TAKES,
)
