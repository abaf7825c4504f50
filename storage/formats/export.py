"""Write betas and what was seen as the files that can be taken in: a 4-D image, a mask, events and pictures."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import csv
import gzip
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas, Stimuli
from voxelight.storage.formats.images import write_png
from voxelight.storage.formats.names import safe_name
from voxelight.storage.formats.streams import replacing

_COLUMNS = {"category": "trial_type"}


@dataclass(frozen=True)
class BetasFiles:
    """Files of one subject's betas."""

    betas: Path
    mask: Path
    events: Path
    pictures: tuple[Path, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return self.betas, self.mask, self.events, *self.pictures


def write_betas(folder: Path, stem: str, betas: Betas, stimuli: Stimuli) -> BetasFiles:
    """Write betas so that `read_betas_nifti` and `read_stimuli` give them back.

    The voxels stand in a box in their order, which says nothing about their places in a head. Pictures lose what 8 bits
    can't hold.

    Parameters
    ----------
    folder : made where it is missing
    stem : what the names of betas, mask and events begin with
    betas : Betas (trial, voxel)
    stimuli : the pictures of its stimuli

    Raises
    ------
    BadInput
        A stimulus has no picture, or an id is no part of a file name.
    """
    names = [safe_name(f"{name}.png") for name in stimuli.ids.tolist()]
    stimuli.select(np.unique(betas.stimulus_ids))
    folder.mkdir(parents=True, exist_ok=True)
    files = BetasFiles(
        folder / f"{stem}_betas.nii.gz",
        folder / f"{stem}_mask.nii.gz",
        folder / f"{stem}_events.tsv",
        tuple(folder / name for name in names),
    )
    mask = _box(betas.values.shape[1])
    image = np.zeros((*mask.shape, len(betas.values)), dtype=np.float32)
    image[mask] = betas.values.T
    for path, picture in zip(files.pictures, stimuli.images, strict=True):
        write_png(path, picture)
    _write_events(files.events, betas)
    _write_image(files.mask, mask.astype(np.uint8))
    _write_image(files.betas, image)  # last: where it is, all are
    return files


def _box(voxels: int) -> NDArray[np.bool_]:
    """Return a mask (i, j, k), nearly a cube, with this many voxels set."""
    side = math.ceil(voxels ** (1 / 3))
    layers = -(-voxels // side**2)
    inside = np.arange(layers * side * side) < voxels
    return inside.reshape(layers, side, side)


def _write_image(path: Path, array: NDArray[Any]) -> None:
    image = nib.Nifti1Image(array, np.eye(4))  # placed as aligned to each other, and to nothing else
    with replacing(path) as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        packed.write(image.to_bytes())


def _write_events(path: Path, betas: Betas) -> None:
    labels = {_COLUMNS.get(name, name): column.tolist() for name, column in betas.labels.items()}
    if "stim_file" in labels:
        raise BadInput("a label named stim_file", "labels such as run, session and category", "Rename it.")
    columns = {"stim_file": [f"{name}.png" for name in betas.stimulus_ids.tolist()], **labels}
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(columns)
    table.writerows(zip(*columns.values(), strict=True))
    with replacing(path) as file:
        file.write(text.getvalue().encode())
