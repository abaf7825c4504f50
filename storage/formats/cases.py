"""A folder of training cases: ``images/`` and ``labels/`` with one name a case."""

from dataclasses import dataclass
from pathlib import Path

from voxelight.medseg.cases import Case
from voxelight.models.errors import BadInput
from voxelight.storage.formats.nifti import read_label_map, read_volume

_SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class CasePaths:
    """Where the image and the labels of a case lie."""

    name: str
    image: Path
    labels: Path


def find_cases(folder: Path) -> list[CasePaths]:
    """List the cases of a folder, by name.

    Parameters
    ----------
    folder : holds ``images`` and ``labels``, NIfTI files of one name a case

    Raises
    ------
    BadInput
        A folder is missing, a file has no partner, or there is no case.
    """
    images, labels = (_list(folder / part) for part in ("images", "labels"))
    lonely = sorted(set(images) ^ set(labels))
    if lonely or not images:
        raise BadInput(
            f"{len(images)} images and {len(labels)} label maps in {folder}"
            + (f", {len(lonely)} without a partner, {lonely[0]} for one" if lonely else ""),
            "an image in images/ and a label map of the same name in labels/ for every case",
            "Complete the folder, or point to another.",
        )
    return [CasePaths(name, images[name], labels[name]) for name in sorted(images)]


def read_case(paths: CasePaths, names: dict[int, str]) -> Case:
    """Read one case, axes turned to RAS+.

    Parameters
    ----------
    paths : of `find_cases`
    names : label number -> name, background (0) left out

    Raises
    ------
    BadInput
        A file is damaged, a label has no name, or the two lie on different grids.
    """
    return Case(paths.name, read_volume(paths.image), read_label_map(paths.labels, names))


def read_cases(folder: Path, names: dict[int, str]) -> list[Case]:
    """Read every case of a folder.

    Raises
    ------
    BadInput
        As `find_cases` and `read_case`.
    """
    return [read_case(paths, names) for paths in find_cases(folder)]


def _list(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise BadInput(f"no folder {folder}", "the folders images and labels", "Point to the folder that holds both.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((suffix for suffix in _SUFFIXES if path.name.endswith(suffix)), None)
        # Archives made on a Mac carry a shadow "._name" of every file.
        if suffix and not path.name.startswith("."):
            found[path.name.removesuffix(suffix)] = path
    return found
