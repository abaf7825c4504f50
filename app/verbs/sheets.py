"""Contact sheets of results, drawn when first asked for and kept."""

import os
import tempfile
import uuid
from collections import defaultdict
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.pipelines.outputs import file_stem
from voxelight.app.schemas_reviews import Convention
from voxelight.app.verbs.answers import is_random
from voxelight.models.errors import NotFound
from voxelight.storage.queries import find_row
from voxelight.storage.schema import Artifact, Reconstruction, Run, Segmentation
from voxelight.storage.stores import Stores

_DRAWN_AS = 1  # goes up when sheets are drawn in another way, so that kept ones are drawn anew


class Sheets:
    """All of a result at one look, as PNG."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._folder = stores.cache / "sheets"

    def draw(self, run_id: uuid.UUID, convention: Convention = "neurological") -> tuple[bytes, str]:
        """Return the contact sheet of a result, and a tag that changes when the sheet does.

        Parameters
        ----------
        run_id : of a run that is done
        convention : which side of a label map's sheet is the person's left; nothing else depends on it

        Raises
        ------
        NotFound
            There is no such run, or it has given nothing that can be drawn.
        """
        with self._stores.sessions() as session:
            run = find_row(session, Run, run_id)
            if run.status != "done":
                raise NotFound(f"a run that is {run.status}", "one that is done", "Follow its job until it has ended.")
            found = session.scalar(select(Segmentation).where(Segmentation.run_id == run_id))
            made_of = f"decoded-{run.attempts}"
            if found is not None:
                artifact = find_row(session, Artifact, found.artifact_id)
                made_of = f"{artifact.blob_sha256[:16]}-{convention}"
            path = self._folder / f"{run_id}-{made_of}-{_DRAWN_AS}.png"
            if path.exists():
                return path.read_bytes(), f'"{path.stem}"'
            if found is not None:
                content = self._draw_labels(run, found, artifact, convention)
            else:
                content = self._draw_decoded(session, run)
        _keep(path, content)
        return content, f'"{path.stem}"'

    def _draw_labels(self, run: Run, found: Segmentation, artifact: Artifact, convention: Convention) -> bytes:
        from voxelight.medseg.sheets import draw_sheet
        from voxelight.storage.formats.images import encode_png
        from voxelight.storage.formats.nifti import read_label_map

        blobs = self._stores.blobs
        with blobs.local_file(run.scan.blob_sha256, run.scan.name) as path:
            volume, _ = self._stores.checks.read_image(path)
        with blobs.local_file(artifact.blob_sha256, artifact.name) as path:
            labels = read_label_map(path, {int(number): name for number, name in found.labels.items()})
        return encode_png(draw_sheet(volume, labels, radiological=convention == "radiological"))

    def _draw_decoded(self, session: Session, run: Run) -> bytes:
        from voxelight.neuro.draw import DecodedStages, draw_stages
        from voxelight.storage.formats.images import decode_png, encode_png

        stages: dict[str, dict[str, Artifact]] = defaultdict(dict)
        captions: dict[str, str] = {}
        seen = _find_seen(session, run.id)
        rows = session.scalars(
            select(Reconstruction)
            .where(Reconstruction.run_id == run.id)
            .order_by(Reconstruction.stimulus_id, Reconstruction.rank)
        )
        for row in rows:
            picture = find_row(session, Artifact, row.artifact_id)
            stem = file_stem(row.stimulus_id)
            captions.setdefault(row.stimulus_id, row.caption)
            if stem in seen:
                stages[row.stimulus_id]["stimulus"] = seen[stem]
            if picture.role == "reconstruction":
                stages[row.stimulus_id][f"estimate {row.rank + 1}"] = picture
        drawn = [
            DecodedStages(
                stimulus,
                {stage: decode_png(self._stores.blobs.read(each.blob_sha256)) for stage, each in pictures.items()},
                captions[stimulus],
            )
            for stimulus, pictures in stages.items()
        ]
        if not any(each.pictures for each in drawn):
            raise NotFound(
                "a result without a picture", "one that was decoded to pictures", "Read its captions instead."
            )
        sheet = draw_stages(drawn, run.job.dataset.simulated, is_random(run.job.model), title=run.item_key)
        return encode_png(sheet)


def _find_seen(session: Session, run_id: uuid.UUID) -> dict[str, Artifact]:
    """Return the pictures that were seen, by the stem that their names share with what was decoded."""
    seen = session.scalars(select(Artifact).where(Artifact.run_id == run_id, Artifact.role == "stimulus"))
    return {artifact.name.removesuffix("_stimulus.png"): artifact for artifact in seen}


def _keep(path: Path, content: bytes) -> None:
    """Write a file in one step; two who draw the same at once write the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    with os.fdopen(number, "wb") as file:
        file.write(content)
    Path(name).replace(path)
