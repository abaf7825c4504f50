"""Contrasts of one visit on the grid of one of them, evened out: files in, files out; nothing is stored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voxelight.models.errors import BadInput, VoxelightError
from voxelight.storage.formats.names import image_stem

if TYPE_CHECKING:
    from voxelight.models.values import Volume
    from voxelight.storage.formats.nifti_header import SourceGrid

_ENDING = "_aligned.nii.gz"


@dataclass(frozen=True)
class Aligned:
    """One contrast on the grid of the reference.

    Parameters
    ----------
    source : what it was made of
    file : what was written
    shift_mm, turn_degrees : by how much it was moved; 0 for the reference
    similarity : mutual information with the reference, nats
    """

    source: Path
    file: Path
    shift_mm: float
    turn_degrees: float
    similarity: float


def align_files(
    paths: Sequence[Path], reference: Path, out: Path, even: bool, tell: Callable[[Path], None]
) -> tuple[list[Aligned], list[VoxelightError]]:
    """Bring images of one visit onto the grid of a reference by a rigid map each, and take out uneven brightness.

    An image that can't be read or aligned stops no other.

    Parameters
    ----------
    paths : images, with or without the reference
    reference : whose grid and place hold
    out : folder for STEM_aligned.nii.gz, made where it is missing
    even : correct bias fields first (N4)
    tell : called with each image that begins

    Returns
    -------
    what was written, the reference first; and why other images could not be read or aligned

    Raises
    ------
    BadInput
        The reference can't be read, or two images have one name.
    """
    from voxelight.medseg.register import correct_bias
    from voxelight.storage.formats.nifti_image import write_volume
    from voxelight.storage.formats.volumes import read_image

    others = [path for path in dict.fromkeys(paths) if path.resolve() != reference.resolve()]
    _refuse_one_name_twice([reference, *others])
    fixed, grid = read_image(reference)
    fixed = correct_bias(fixed) if even else fixed
    out.mkdir(parents=True, exist_ok=True)
    first = out / f"{image_stem(reference.name)}{_ENDING}"
    write_volume(first, fixed, grid)
    done, refused = [Aligned(reference, first, 0.0, 0.0, 0.0)], []
    for path in others:
        tell(path)
        try:
            done.append(_align(path, fixed, grid, out, even))
        except VoxelightError as error:
            refused.append(type(error)(f"{path.name}: {error.found}", error.expected, error.remedy))
    return done, refused


def _align(path: Path, fixed: "Volume", grid: "SourceGrid", out: Path, even: bool) -> Aligned:
    from voxelight.medseg.register import correct_bias, move, register_rigid
    from voxelight.medseg.transforms import resample
    from voxelight.models.values import Volume
    from voxelight.storage.formats.nifti_image import write_volume
    from voxelight.storage.formats.volumes import read_image

    moving, _ = read_image(path)
    moving = correct_bias(moving) if even else moving
    found = register_rigid(moving, fixed)
    moved = move(moving, found.to_fixed)
    target = out / f"{image_stem(path.name)}{_ENDING}"
    write_volume(target, Volume(resample(moved.array, moved.geometry, fixed.geometry), fixed.geometry), grid)
    middle = np.array([*((np.array(fixed.geometry.shape) - 1) / 2), 1.0])
    centre = fixed.geometry.affine @ middle
    back = np.linalg.inv(found.to_fixed)
    angle = np.arccos(np.clip((np.trace(back[:3, :3]) - 1) / 2, -1, 1))
    shift = float(np.linalg.norm((back @ centre - centre)[:3]))
    return Aligned(path, target, shift, float(np.rad2deg(angle)), found.similarity)


def _refuse_one_name_twice(paths: Sequence[Path]) -> None:
    stems: dict[str, Path] = {}
    for path in paths:
        stem = image_stem(path.name)
        if stem in stems:
            raise BadInput(f"{stems[stem]} and {path}, which would be written under one name", "file names that differ",
                           "Rename one.")  # fmt: skip
        stems[stem] = path
