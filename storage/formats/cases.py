"""Cases on a disk: a folder `images` and a folder `labels` whose files go by one name."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelight.medseg.cases import Case
from voxelight.models.errors import BadInput, VoxelightError
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.storage.formats.images import PICTURE_SUFFIXES, read_numbers
from voxelight.storage.formats.names import image_stem
from voxelight.storage.formats.streams import refuse_if
from voxelight.storage.formats.volumes import VOLUME_SUFFIXES, read_image, read_label_map

_SHOWN = 3
_TOLD = 20
_PICTURES = PICTURE_SUFFIXES
_MOST_LABELS = 255


def read_cases(folder: Path, names: dict[int, str], values: Mapping[int, int] | None = None) -> list[Case]:
    """Read every case of a folder, axes turned to RAS+, in the order of their names.

    Parameters
    ----------
    folder : holds ``images/NAME.nii.gz``, ``.nii``, ``.nrrd``, ``.mha`` or ``.dcm.zip``, and ``labels/NAME`` as any of
        these but DICOM; or pictures, ``.png``, ``.jpg`` or ``.tif``, with label maps as ``.png``, whose pixels count as
        1 mm, numbered (column, row)
    names : label number -> name, background (0) left out
    values : value in a label map -> label number, for those that differ

    Raises
    ------
    BadInput
        There is no case, an image has no labels or the reverse, a file can't be read, or labels lie on another grid.
        Every such case is named at once.
    """
    return [case for _, _, case in walk_cases(folder, names, values)]


def walk_cases(
    folder: Path, names: dict[int, str] | None, values: Mapping[int, int] | None = None
) -> Iterator[tuple[int, int, Case]]:
    """Read one case of a folder after the other.

    Parameters
    ----------
    folder, values : as of `read_cases`
    names : the same; None: every number that is drawn goes by its number

    Yields
    ------
    number of the case, from 1; cases in all; the case

    Raises
    ------
    BadInput
        As `read_cases`.
    """
    images, labels = _by_stem(folder / "images"), _by_stem(folder / "labels")
    lonely = sorted(set(images) ^ set(labels))
    refuse_if(
        bool(lonely),
        f"{len(lonely)} cases with an image or with labels only: {', '.join(lonely[:_SHOWN])}",
        "an image and labels of one name for every case",
        "Add or remove what is alone.",
    )
    faults: dict[str, VoxelightError] = {}
    for number, stem in enumerate(sorted(images), start=1):
        with noting(stem, faults):
            case = read_case(stem, (images[stem], labels[stem]), names, values)
        if stem not in faults:
            yield number, len(images), case
    refuse_faults(faults, len(images))


@contextmanager
def noting(name: str, faults: dict[str, VoxelightError]) -> Iterator[None]:
    """Note why a case can't be read, so that others are looked at before all are refused together."""
    try:
        yield
    except VoxelightError as error:
        faults[name] = error


def refuse_faults(faults: Mapping[str, VoxelightError], cases: int) -> None:
    """Refuse every case that can't be read, in one go.

    Raises
    ------
    VoxelightError
        There is one; of the kind of the first.
    """
    if len(faults) == 1:
        raise next(iter(faults.values()))
    if faults:
        told = "; ".join(f"{name}: {error.found}" for name, error in list(faults.items())[:_TOLD])
        first = next(iter(faults.values()))
        raise type(first)(
            f"{len(faults)} of {cases} cases that can't be used: {told}{'; ...' if len(faults) > _TOLD else ''}",
            first.expected,
            first.remedy,
        )


def read_case(
    name: str, paths: tuple[Path, Path], names: dict[int, str] | None, values: Mapping[int, int] | None = None
) -> Case:
    """Read an image and the labels drawn on it.

    Parameters
    ----------
    name : of the case
    paths : of the image and of its labels
    names, values : as of `walk_cases`

    Raises
    ------
    BadInput
        A file can't be read, or labels lie on another grid.
    """
    image, labels = paths
    return Case(name, read_case_image(image), _read_labels(labels, names, values))


def read_case_image(path: Path) -> Volume:
    """Read the image of a case; a picture is a volume of one slice, (channel, column, row, 1).

    Raises
    ------
    BadInput
        It can't be read.
    """
    return read_image(path)[0]


def _read_labels(path: Path, names: dict[int, str] | None, values: Mapping[int, int] | None) -> LabelMap:
    array, geometry = _read_picture_labels(path) if path.name.lower().endswith(_PICTURES) else _read_numbers(path)
    renumbered = array.copy()
    for value, number in (values or {}).items():
        renumbered[array == value] = number
    there = {int(number) for number in np.unique(renumbered)} - {0}
    found = names or {number: f"label {number}" for number in sorted(there)}
    strange = sorted(there - set(found))
    refuse_if(
        bool(strange),
        f"{path.name} with label {strange[0] if strange else 0}",
        f"0 and {', '.join(map(str, sorted(found)))}",
        "Name the label, say under which number it goes, or correct the label map.",
    )
    return LabelMap(renumbered.astype(np.uint8), geometry, dict(found))


def _read_numbers(path: Path) -> tuple[NDArray[np.int64], Geometry]:
    read = read_label_map(path, {number: str(number) for number in range(1, _MOST_LABELS + 1)})
    return read.array.astype(np.int64), read.geometry


def _read_picture_labels(path: Path) -> tuple[NDArray[np.int64], Geometry]:
    """Return the values of a grey or indexed picture, array (column, row, 1), and its grid."""
    turned = read_numbers(path).T[..., None]
    return turned, Geometry((turned.shape[0], turned.shape[1], 1), np.eye(4))


def _by_stem(folder: Path) -> dict[str, Path]:
    suffixes = (*VOLUME_SUFFIXES, *_PICTURES)
    paths = [path for path in folder.glob("*") if path.name.lower().endswith(suffixes) and path.name[0] != "."]
    found = {path.stem if path.suffix.lower() in _PICTURES else image_stem(path.name): path for path in paths}
    if not paths:
        raise BadInput(f"no image in {folder}", "images/ and labels/ with one file a case", "Check the folder.")
    refuse_if(len(found) != len(paths), f"one name with several suffixes in {folder}", "one file a case", "Remove one.")
    return found
