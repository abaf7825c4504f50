"""Where the voxels of betas lie: which of the stored ones were taken, on which grid or surface."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry
from voxelight.storage.formats.nifti import read_source_grid, turn
from voxelight.storage.formats.nifti_header import SourceGrid, opened


@dataclass(frozen=True, eq=False)
class Space:
    """The voxels or vertices that columns of betas stand for.

    Parameters
    ----------
    name : e.g. ``func1pt8mm``, ``T1w``, ``fsaverage``, ``fsLR``; empty where the files don't say
    roi : region that was selected
    places : array (voxel,), where each one stands in one stored trial, read row by row in the axes of the file
    stored : values of one stored trial
    grid : of a volume, else None
    vertices : of a surface, numbers of the left and the right hemisphere; (0, 0) for others
    """

    name: str
    roi: str
    places: NDArray[np.intp]
    stored: int
    grid: SourceGrid | None = None
    vertices: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self.places)

    def keep(self, chosen: NDArray[np.intp]) -> "Space":
        """Return the space of some columns of the betas."""
        return replace(self, places=self.places[chosen])


def read_mask_space(path: Path, name: str, roi: str, threshold: float = 0, values: tuple[int, ...] = ()) -> Space:
    """Read voxels above a threshold, or of some values, in a 3-D image, in the order of the RAS+ volume, row by row.

    For files that are stored in RAS+, as NSD's are, this is the order of ``array[mask]``.

    Parameters
    ----------
    path : ``.nii`` or ``.nii.gz``
    name : of the space
    roi : of the region
    threshold : values above it belong to the region; NaN does not
    values : of a map of areas, those that belong to the region; empty: all above the threshold

    Raises
    ------
    BadInput
        The file is no intact image of one volume, or marks no voxel.
    """
    with opened(path) as (header, voxels):
        if len(header.shape) != 3:
            raise BadInput(f"{path.name} of shape {header.shape}", "a mask of three axes", "Choose one volume.")
        array = np.asanyarray(voxels)
    inside = np.isin(array, values) if values else array > threshold
    if not inside.any():
        sought = f"of {', '.join(map(str, values))}" if values else f"above {threshold:g}"
        raise BadInput(f"{path.name} without a voxel {sought}", "a region", "Check the mask.")
    order = turn(np.arange(inside.size).reshape(inside.shape), header.grid)
    return Space(name, roi, order[turn(inside, header.grid)].astype(np.intp), inside.size, header.grid)


def whole_volume(path: Path, name: str) -> Space:
    """Return every voxel of an image as a space, in the order of the RAS+ volume."""
    grid = read_source_grid(path)
    stored = int(np.prod(grid.shape))
    order = turn(np.arange(stored).reshape(grid.shape), grid)
    return Space(name, "all voxels", order.ravel().astype(np.intp), stored, grid)


def check_grid(path: Path, grid: SourceGrid, space: Space) -> None:
    """Refuse an image whose voxels are not those of the mask, by shape and by place.

    Raises
    ------
    BadInput
        It lies on another grid; nothing is resampled.
    """
    if space.grid is None or not _same_storage(grid, space.grid):
        mask = "no grid" if space.grid is None else _describe(space.grid)
        raise BadInput(
            f"{path.name} on the grid {_describe(grid)} and a mask for {space.roi} on {mask}",
            "one grid for both",
            "Resample the mask to the betas (nearest neighbour), after checking that they share a space.",
        )


def check_stored_shape(name: str, shape: tuple[int, ...], space: Space) -> None:
    """Refuse an array without an affine whose axes are not those of the mask, swapped ones by name.

    Parameters
    ----------
    name : of the file
    shape : (i, j, k) of the array, as it should stand in the axes of the mask
    space : of a volume

    Raises
    ------
    BadInput
        The shape is another one.
    """
    expected = space.grid.shape if space.grid is not None else (space.stored,)
    if tuple(shape) == tuple(expected):
        return
    swapped = sorted(shape) == sorted(expected)
    raise BadInput(
        f"{name} of {'x'.join(map(str, shape))} voxels a trial and a mask of {'x'.join(map(str, expected))}"
        + (", the same sides in another order" if swapped else ""),
        "one grid for both",
        "Its axes are in another order than those of the mask: write it in the order of its layout."
        if swapped
        else "Take the mask of the space that the betas were written in.",
    )


def describe_geometry(space: Space) -> Geometry | None:
    """Return the grid in RAS+ of a volume, else None."""
    return None if space.grid is None else space.grid.geometry


def _same_storage(first: SourceGrid, second: SourceGrid) -> bool:
    return first.shape == second.shape and bool(np.allclose(first.affine, second.affine, rtol=0, atol=1e-3))


def _describe(grid: SourceGrid) -> str:
    corner = ", ".join(f"{x:.1f}" for x in grid.affine[:3, 3])
    spacing = "x".join(f"{side:.3g}" for side in np.linalg.norm(grid.affine[:3, :3], axis=0))
    return f"{'x'.join(map(str, grid.shape))} of {spacing} mm, {grid.orientation}, from ({corner})"
