"""Cases on a disk: a folder `images` and a folder `labels` whose files go by one name."""

from pathlib import Path

from voxelight.medseg.cases import Case
from voxelight.models.errors import BadInput
from voxelight.storage.formats.names import image_stem
from voxelight.storage.formats.nifti import read_label_map
from voxelight.storage.formats.streams import refuse_if
from voxelight.storage.formats.volumes import VOLUME_SUFFIXES, read_image

_SHOWN = 3


def read_cases(folder: Path, names: dict[int, str]) -> list[Case]:
    """Read every case of a folder, axes turned to RAS+, in the order of their names.

    Parameters
    ----------
    folder : holds ``images/NAME.nii.gz``, ``.nii`` or ``.dcm.zip``, and ``labels/NAME.nii.gz`` or ``.nii``
    names : label number -> name, background (0) left out

    Raises
    ------
    BadInput
        There is no case, an image has no labels or the reverse, a file can't be read, or labels lie on another grid.
    """
    images, labels = _by_stem(folder / "images"), _by_stem(folder / "labels")
    lonely = sorted(set(images) ^ set(labels))
    refuse_if(
        bool(lonely),
        f"{len(lonely)} cases with an image or with labels only: {', '.join(lonely[:_SHOWN])}",
        "an image and labels of one name for every case",
        "Add or remove what is alone.",
    )
    return [Case(stem, read_image(images[stem])[0], read_label_map(labels[stem], names)) for stem in sorted(images)]


def _by_stem(folder: Path) -> dict[str, Path]:
    paths = [path for path in folder.glob("*") if path.name.endswith(VOLUME_SUFFIXES) and not path.name.startswith(".")]
    found = {image_stem(path.name): path for path in paths}
    if not paths:
        raise BadInput(f"no NIfTI file in {folder}", "images/ and labels/ with one file a case", "Check the folder.")
    refuse_if(len(found) != len(paths), f"one name with several suffixes in {folder}", "one file a case", "Remove one.")
    return found
