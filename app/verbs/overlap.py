"""How far the label maps of two results cover the same voxels."""

import math
import uuid
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.models.errors import BadInput
from voxelight.storage.queries import find_row
from voxelight.storage.schema import Artifact, Segmentation
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.models.values import LabelMap


def find_overlap(session: Session, stores: Stores, first: uuid.UUID, second: uuid.UUID) -> dict[str, float]:
    """Return the Dice of the label maps of two runs, for each label that both know and one of them holds.

    Parameters
    ----------
    session, stores : open session, and where the maps lie
    first, second : ids of two runs over one scan

    Raises
    ------
    BadInput
        One is no segmentation, or the two lie on different grids.
    """
    from voxelight.medseg.evaluate import dice

    one, other = (_read_map(session, stores, run) for run in (first, second))
    if not one.geometry.matches(other.geometry):
        raise BadInput("label maps on two grids", "two of one scan", "Compare results of the same scan.")
    numbers = {name: number for number, name in other.names.items()}
    found = {}
    for number, name in one.names.items():
        if name in numbers:
            there = (other.array == numbers[name]) * number
            found[name] = dice(one.array, there, number)
    return {name: score for name, score in found.items() if not math.isnan(score)}


def _read_map(session: Session, stores: Stores, run: uuid.UUID) -> "LabelMap":
    from voxelight.storage.formats.nifti import read_label_map

    stored = session.scalar(select(Segmentation).where(Segmentation.run_id == run))
    if stored is None:
        raise BadInput(f"result {run}, which is no segmentation", "two label maps", "Compare results of segmentations.")
    artifact = find_row(session, Artifact, stored.artifact_id)
    with stores.blobs.local_file(artifact.blob_sha256, artifact.name) as path:
        return read_label_map(path, {int(number): name for number, name in stored.labels.items()})
