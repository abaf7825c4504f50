"""What a job computes from, read in a sandbox: betas with their pictures, images with the labels drawn on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.medseg.cases import Case
from voxelight.models.values import Betas, LabelMap, Stimuli, Volume
from voxelight.storage.checks import VOXELS, Checks, read_array, read_geometry
from voxelight.storage.formats.names import SEALED_SUFFIXES, find_suffix

VALUES, IMAGES, LABELS = "values", "images", "labels"
_FORMATS = "voxelight.storage.formats"
_MODULES = (f"{_FORMATS}.betas", f"{_FORMATS}.images")
_OF_CASES = (f"{_FORMATS}.cases", f"{_FORMATS}.nifti")


@dataclass(frozen=True)
class BetasFiles:
    """Files of the betas of one subject: a `.mat` alone, or a 4-D image with its mask, its events and pictures."""

    betas: Path
    mask: Path | None = None
    events: Path | None = None
    pictures: tuple[Path, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """All of them."""
        return [path for path in (self.betas, self.mask, self.events, *self.pictures) if path is not None]


def read_betas(checks: Checks, files: BetasFiles, subject: str) -> tuple[Betas, Stimuli | None]:
    """Read betas, and every picture there is, as `formats.betas` and `formats.images` do.

    Raises
    ------
    BadInput
        A file is damaged, or the parts don't belong together.
    """
    told: dict[str, Any] = {"betas": str(files.betas), "subject": subject}
    told |= {"mask": files.mask and str(files.mask), "events": files.events and str(files.events)}
    told["pictures"] = [str(path) for path in files.pictures]
    with checks.run("read_betas", told, files.betas.name, files.paths, _MODULES) as answer:
        value = answer.value
        labels = {str(name): _texts(column) for name, column in value["labels"].items()}
        values = read_array(answer, VALUES, "f4", 2, value["values"])
        betas = Betas(values, _texts(value["shown"]), subject, str(value["roi"]), labels)
        if value["images"] is None:
            return betas, None
        return betas, Stimuli(read_array(answer, IMAGES, "f4", 4, value["images"]), _texts(value["ids"]))


def read_case(
    checks: Checks,
    name: str,
    paths: tuple[Path, Path],
    names: dict[int, str] | None,
    values: Mapping[int, int] | None = None,
) -> Case:
    """Read an image and the labels drawn on it, as `formats.cases.read_case` does."""
    told: dict[str, Any] = {"name": name, "paths": [str(path) for path in paths]}
    told |= {"names": names and [[number, text] for number, text in names.items()]}
    told["values"] = [[value, number] for value, number in (values or {}).items()]
    suffixes = {find_suffix(path.name) for path in paths}
    modules = (*_OF_CASES, *((f"{_FORMATS}.dicom.volume",) if suffixes & set(SEALED_SUFFIXES) else ()))
    with checks.run("read_case", told, paths[0].name, paths, modules) as answer:
        value = answer.value
        array = read_array(answer, VOXELS, "f4", 4, value["image"])
        volume = Volume(array, read_geometry(array.shape[1:], value["image_affine"]))
        drawn = read_array(answer, LABELS, "u1", 3, value["labels"])
        named = {int(number): str(text) for number, text in value["names"]}
        return Case(name, volume, LabelMap(drawn, read_geometry(drawn.shape, value["labels_affine"]), named))


def _texts(column: Sequence[Any]) -> NDArray[np.str_]:
    return np.array([str(text) for text in column], dtype=np.str_)
