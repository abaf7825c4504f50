"""Segment volumes: one scan, one label map on the scan's own grid."""

import json
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.pipelines import Item, ModelFacts, Pipeline, Plan, check_options
from voxelight.app.pipelines.ahead import Ahead
from voxelight.app.pipelines.choice import Choice, choose_scans
from voxelight.app.pipelines.segment_options import SegmentOptions, describe_inference
from voxelight.app.pipelines.segmenters import KnownRecipe, find_known, list_known
from voxelight.app.provenance import describe, find_device, find_revision
from voxelight.app.schemas import NOTICE, JobRequest, RecipeAnswer
from voxelight.app.warm import WARM, count_bytes
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.models.errors import BadInput, Conflict
from voxelight.models.values import LabelMap, Provenance, Volume
from voxelight.storage.formats.images import encode_label_png, encode_number_png, encode_png
from voxelight.storage.formats.maps import encode_share
from voxelight.storage.formats.names import image_stem
from voxelight.storage.formats.nifti import SourceGrid, write_label_map
from voxelight.storage.results import JobOutcome, Outcome, OutputFile, Score
from voxelight.storage.schema import Dataset, Job, Run, Scan
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.medseg.head import PlacedHead
    from voxelight.medseg.segment import Prepared, Segmentation, Segmenter

_TAKES = ("volume", "picture")
_ASK_EVERY_S = 1.0


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
            takes=[known.recipe.takes],
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
    check_options(SegmentOptions, request.options).count_folds(known.folds)
    choice = _choose(session, dataset, request, known.recipe.takes)
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


def _choose(session: Session, dataset: Dataset, request: JobRequest, kind: str) -> Choice:
    choice = choose_scans(session, dataset, request, (kind,))
    for scan in choice.scans:
        if scan.kind != kind:
            raise BadInput(
                f"{scan.name}, a {scan.kind} of data set {dataset.name}",
                f"{kind}s{' (3-D NIfTI)' * (kind == 'volume')} of data set {dataset.name}",
                f"Choose {kind}s only, or leave the choice empty to take all of them.",
            )
    if not choice.scans:
        raise BadInput(
            f"no {kind} in data set {dataset.name}{' that is not held' if choice.notes else ''}",
            "at least one 3-D NIfTI image" if kind == "volume" else "at least one PNG, JPEG or TIFF",
            "Look at the held images on the page Upload." if choice.notes else "Upload the images to segment first.",
        )
    return choice


def _name_item(scan: Scan) -> str:
    visit = scan.imaging_session
    return f"{visit.subject.label}/{visit.label}/{scan.name}"


@dataclass(frozen=True, eq=False)
class _Read:
    """A scan in memory, as it came and as the networks read it."""

    volume: Volume
    grid: SourceGrid
    prepared: "Prepared"
    placed: "PlacedHead | None" = None


class OpenSegmentation:
    """A segmenter on its device, for the scans of one job; the next scan is read while this one is segmented."""

    at_once = 1

    def __init__(self, stores: Stores, job: Job, device: str) -> None:
        self._stores = stores
        known = find_known(stores.weights, job.recipe)
        _refuse_others(job, known)
        self._options = check_options(SegmentOptions, job.params.get("options", {}))
        self._sha256, self._seed, self._device = known.sha256, job.seed, find_device(device)
        loaded = _load(stores.weights, job.recipe, known.sha256, self._device)
        self._segmenter = _apply(self._options, known.recipe, loaded)
        self._ahead = Ahead(self._read)

    def run_items(self, runs: Sequence[Run], go_on: Callable[[], None]) -> Iterator[tuple[Run, Outcome]]:
        """Segment one scan after the other."""
        for run in runs:
            go_on()
            yield run, self._segment(run, go_on)

    def _read(self, scan_id: str) -> _Read:
        from voxelight.medseg.segment import prepare

        with self._stores.sessions() as session:
            scan = session.get_one(Scan, uuid.UUID(scan_id))
            sha256, name = scan.blob_sha256, scan.name
        with self._stores.blobs.local_file(sha256, name) as path:
            volume, grid = self._stores.checks.read_image(path)
        recipe = self._segmenter.recipe
        if recipe.takes == "picture":
            from voxelight.medseg.domain import as_read

            volume = as_read(volume, recipe)
        if recipe.align is None:
            return _Read(volume, grid, prepare(volume, recipe))
        from voxelight.medseg.find import prepare_head
        from voxelight.storage.formats.template import read_template

        return _Read(volume, grid, *prepare_head(volume, recipe, read_template()))

    def _segment(self, run: Run, go_on: Callable[[], None]) -> Outcome:
        from voxelight.medseg.segment import label

        read = self._ahead.take(str(run.scan_id))
        self._ahead.start(self._find_next(run))
        found = label(read.prepared, self._segmenter, self._options.confidence, _now_and_then(go_on))
        unsure = self._map_uncertainty(read, go_on) if self._options.uncertainty else ()
        if read.placed is not None:
            from voxelight.medseg.find import refuse_empty

            refuse_empty(found.label_map, self._segmenter.recipe)
        provenance = self._describe(run, read)
        return Outcome(
            files=(
                *_encode(image_stem(run.scan.name), read, found, _sidecar(run, found, provenance)),
                *(replace(file, name=f"{image_stem(run.scan.name)}_{file.name}") for file in unsure),
                *_encode_objects(image_stem(run.scan.name), read, found, self._segmenter.recipe),
            ),
            provenance=provenance,
            scores=_score(read.volume, found.label_map),
            label_names=found.label_map.names,
            volumes_ml=found.label_map.volumes_ml(),
        )

    def _map_uncertainty(self, read: _Read, go_on: Callable[[], None]) -> tuple[OutputFile, ...]:
        from voxelight.medseg.uncertain import map_uncertainty

        content = encode_share(map_uncertainty(read.prepared, self._segmenter, tick=_now_and_then(go_on)), read.grid)
        return (OutputFile("uncertainty", "uncertainty.nii.gz", "application/gzip", content),)

    def _find_next(self, run: Run) -> str | None:
        """Return the scan that is most likely segmented after this one."""
        waiting = select(Run.scan_id).where(Run.job_id == run.job_id, Run.status == "pending", Run.attempts == 0)
        with self._stores.sessions() as session:
            scan_id = session.scalar(waiting.where(Run.position > run.position).order_by(Run.position).limit(1))
        return None if scan_id is None else str(scan_id)

    def finish(self, runs: list[Run]) -> JobOutcome:
        """Nothing belongs to a segmentation job as a whole."""
        self._ahead.drop()
        return JobOutcome()

    def _describe(self, run: Run, read: _Read) -> dict[str, Any]:
        options = describe_inference(self._segmenter.recipe, len(self._segmenter.networks), self._options.half)
        provenance = Provenance(
            recipe=self._segmenter.recipe.name,
            weights_sha256=self._sha256,
            revision=find_revision(),
            seed=self._seed,
            device=self._device,
            options=options | ({"aligned": read.placed.describe()} if read.placed else {}),
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


def _load(weights: Path, recipe: str, sha256: str, device: str) -> "Segmenter":
    """Read a segmenter once; the hash is part of the key, since a model may be replaced."""
    from voxelight.medseg.segment import build_segmenter

    def build() -> "Segmenter":
        known = find_known(weights, recipe)
        return build_segmenter(known.recipe, known.load(), device)

    key = f"{weights} {recipe} {sha256} {device}"
    return WARM.find(key, recipe, device, build, lambda found: count_bytes(found.networks))


def _now_and_then(go_on: Callable[[], None]) -> Callable[[float], None]:
    """Ask between windows whether to go on, but not more often than is worth the question."""
    asked = time.monotonic()

    def tell(_: float) -> None:
        nonlocal asked
        if time.monotonic() - asked > _ASK_EVERY_S:
            go_on()
            asked = time.monotonic()

    return tell


def _apply(options: SegmentOptions, recipe: SegmentationRecipe, loaded: "Segmenter") -> "Segmenter":
    """Return a segmenter as the options of a job want it."""
    if options.half and loaded.device == "cpu":
        raise BadInput("half precision on the processor", "half precision on a GPU", "Leave out the option half.")
    networks = loaded.networks[: options.count_folds(len(loaded.networks))]
    return replace(loaded, recipe=options.apply(recipe), networks=networks, half=options.half)


def _encode(stem: str, read: _Read, found: "Segmentation", sidecar: bytes) -> Iterator[OutputFile]:
    from voxelight.medseg.draw import draw_overlay

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{stem}_dseg.nii.gz"
        write_label_map(file, found.label_map, read.grid)
        yield OutputFile("label_map", file.name, "application/gzip", file.read_bytes())
    overlay = encode_png(draw_overlay(read.volume, found.label_map))
    yield OutputFile("overlay", f"{stem}_overlay.png", "image/png", overlay)
    yield OutputFile("sidecar", f"{stem}_dseg.json", "application/json", sidecar)
    if found.confidence is not None:
        content = encode_share(found.confidence, read.grid)
        yield OutputFile("confidence", f"{stem}_confidence.nii.gz", "application/gzip", content)


def _encode_objects(stem: str, read: _Read, found: "Segmentation", recipe: SegmentationRecipe) -> Iterator[OutputFile]:
    """Yield the label map of a picture as a picture, and the objects of a recipe that tells them apart."""
    png = "image/png"
    if recipe.takes == "picture":
        flat = found.label_map.array[..., 0].T
        yield OutputFile("label_picture", f"{stem}_dseg.png", png, encode_label_png(flat, found.label_map.names))
    if recipe.instances is not None:
        from voxelight.medseg.instances import split_instances

        objects = split_instances(found.label_map, recipe.instances)
        if recipe.takes == "picture":
            yield OutputFile("instances", f"{stem}_instances.png", png, encode_number_png(objects.array[..., 0].T))
        else:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / f"{stem}_instances.nii.gz"
                write_label_map(file, objects, read.grid)
                yield OutputFile("instances", file.name, "application/gzip", file.read_bytes())


def _sidecar(run: Run, found: "Segmentation", provenance: dict[str, Any]) -> bytes:
    content = {
        "Sources": [run.scan.name],
        "LabelNames": {str(number): name for number, name in found.label_map.names.items()},
        "VolumesMl": found.label_map.volumes_ml(),
        "Cleaned": {name: asdict(change) for name, change in found.cleaned.items()},
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
