"""Values that travel between the parts: frozen, checked at birth, numpy only."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import BadInput

_AXES = 3
_COLOUR_CHANNELS = (1, 3)


def _refuse_unless(holds: bool, found: str, expected: str, remedy: str) -> None:
    if not holds:
        raise BadInput(found, expected, remedy)


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a volume in world space.

    Parameters
    ----------
    shape : (i, j, k), voxels
    affine : array (4, 4), voxel index -> RAS+ millimetres

    Raises
    ------
    BadInput
        The affine is not 4x4, not finite or not invertible, or a side is not positive.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        _refuse_unless(
            len(self.shape) == _AXES and all(side > 0 for side in self.shape),
            f"a grid of shape {tuple(self.shape)}",
            "three positive sides",
            "Check that the file holds one volume.",
        )
        affine = np.asarray(self.affine, dtype=np.float64)
        _refuse_unless(
            affine.shape == (4, 4) and bool(np.isfinite(affine).all()),
            f"an affine of shape {affine.shape} with {int((~np.isfinite(affine)).sum())} non-finite entries",
            "a finite 4x4 matrix",
            "Repair the header (sform or qform) and try again.",
        )
        _refuse_unless(
            abs(np.linalg.det(affine[:3, :3])) > 1e-9,
            "an affine that folds space flat",
            "an invertible 3x3 part",
            "Repair the header (sform or qform) and try again.",
        )
        object.__setattr__(self, "affine", affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size (i, j, k) in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000)

    def matches(self, other: "Geometry", tolerance_mm: float = 1e-3) -> bool:
        """Whether both name the same voxels, corner positions compared in mm."""
        return self.shape == other.shape and bool(np.allclose(self.affine, other.affine, rtol=0, atol=tolerance_mm))


@dataclass(frozen=True, eq=False)
class Volume:
    """An image on its grid.

    Parameters
    ----------
    array : array (c, i, j, k), float32
    geometry : Geometry

    Raises
    ------
    BadInput
        The array does not sit on the grid, or holds NaN or infinity.
    """

    array: NDArray[np.float32]
    geometry: Geometry

    def __post_init__(self) -> None:
        _refuse_unless(
            self.array.ndim == _AXES + 1 and self.array.shape[1:] == self.geometry.shape,
            f"an array of shape {self.array.shape}",
            f"(channels, {', '.join(map(str, self.geometry.shape))})",
            "Give the array in the axes i, j, k of its affine, channels first.",
        )
        _refuse_unless(
            bool(np.isfinite(self.array).all()),
            f"{int((~np.isfinite(self.array)).sum())} voxels that are NaN or infinite",
            "finite values",
            "Replace them, for example by zero outside the brain, and try again.",
        )


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A segmentation on its grid.

    Parameters
    ----------
    array : array (i, j, k), unsigned integer
    geometry : Geometry
    names : label number -> name, background (0) left out

    Raises
    ------
    BadInput
        The array does not sit on the grid, is not unsigned, or holds a number without a name.
    """

    array: NDArray[np.uint8] | NDArray[np.uint16]
    geometry: Geometry
    names: dict[int, str]

    def __post_init__(self) -> None:
        _refuse_unless(
            self.array.shape == self.geometry.shape and self.array.dtype.kind == "u",
            f"an array of shape {self.array.shape} and type {self.array.dtype}",
            f"unsigned integers of shape {self.geometry.shape}",
            "Give the label map on the grid of its image.",
        )
        nameless = set(np.unique(self.array).tolist()) - {0} - set(self.names)
        _refuse_unless(
            not nameless,
            f"label numbers without a name: {sorted(nameless)}",
            f"only 0 and {sorted(self.names)}",
            "Name every label.",
        )

    def volumes_ml(self) -> dict[str, float]:
        """Volume of each named label in ml."""
        return {
            name: float(np.count_nonzero(self.array == number) * self.geometry.voxel_ml)
            for number, name in self.names.items()
        }


@dataclass(frozen=True, eq=False)
class Betas:
    """Single-trial response estimates of one subject in one space.

    Parameters
    ----------
    values : array (trial, voxel), float32
    stimulus_ids : array (trial,), str
    subject : label of the subject
    roi : name of the region the voxels come from
    labels : unit -> array (trial,), str
        What else is known of each trial: `run`, `session`, `category`, `group`.
    simulated : whether the values were made by a model and not measured

    Raises
    ------
    BadInput
        The parts differ in length, or a value is NaN or infinite.
    """

    values: NDArray[np.float32]
    stimulus_ids: NDArray[np.str_]
    subject: str
    roi: str
    labels: dict[str, NDArray[np.str_]] = field(default_factory=dict)
    simulated: bool = False

    def __post_init__(self) -> None:
        _refuse_unless(
            self.values.ndim == 2 and min(self.values.shape) > 0,
            f"betas of shape {self.values.shape}",
            "(trial, voxel) with at least one of each",
            "Check the mask and the events.",
        )
        for name, column in {"stimulus_ids": self.stimulus_ids, **self.labels}.items():
            _refuse_unless(
                column.shape == self.values.shape[:1],
                f"{column.shape[0] if column.ndim else 0} entries of {name} for {self.values.shape[0]} trials",
                "one entry a trial",
                "Check that events and betas belong together.",
            )
        _refuse_unless(
            bool(np.isfinite(self.values).all()),
            f"{int((~np.isfinite(self.values)).sum())} betas that are NaN or infinite",
            "finite values",
            "Leave out voxels without a signal, by the mask for one.",
        )


@dataclass(frozen=True, eq=False)
class Stimuli:
    """Pictures that were shown.

    Parameters
    ----------
    images : array (stimulus, row, column, channel), float32 in [0, 1], one or three channels
    ids : array (stimulus,), str, unique

    Raises
    ------
    BadInput
        Shape, range or number of ids do not fit.
    """

    images: NDArray[np.float32]
    ids: NDArray[np.str_]

    def __post_init__(self) -> None:
        _refuse_unless(
            self.images.ndim == 4 and self.images.shape[3] in _COLOUR_CHANNELS,
            f"pictures of shape {self.images.shape}",
            "(stimulus, row, column, 1 or 3 channels)",
            "Give grey or RGB pictures of one size.",
        )
        _refuse_unless(
            bool(np.isfinite(self.images).all()) and self.images.min() >= 0 and self.images.max() <= 1,
            f"picture values from {self.images.min()} to {self.images.max()}",
            "values from 0 to 1",
            "Divide by the largest value that the format allows.",
        )
        _refuse_unless(
            self.ids.shape == self.images.shape[:1] and len(set(self.ids.tolist())) == len(self.ids),
            f"{len(self.ids)} ids, {len(set(self.ids.tolist()))} of them distinct, for {len(self.images)} pictures",
            "one id a picture, none twice",
            "Name every stimulus once.",
        )

    def select(self, ids: NDArray[np.str_]) -> "Stimuli":
        """Return the pictures of these ids, in this order.

        Raises
        ------
        BadInput
            An id has no picture.
        """
        place = {name: row for row, name in enumerate(self.ids.tolist())}
        missing = sorted({name for name in ids.tolist() if name not in place})
        _refuse_unless(
            not missing,
            f"{len(missing)} stimuli without a picture, {missing[0] if missing else ''} for one",
            "a picture for every stimulus of the events",
            "Upload the missing pictures, named by their stimulus id.",
        )
        return Stimuli(self.images[[place[name] for name in ids.tolist()]], ids)


def picture_id(picture: NDArray[np.float32]) -> str:
    """Name a picture by its content: 12 hexadecimal digits of the SHA-256 of its shape and values."""
    little = np.ascontiguousarray(picture, dtype="<f4")
    return hashlib.sha256(repr(little.shape).encode() + little.tobytes()).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class ClipTokens:
    """Token sequences of a CLIP-type encoder.

    Parameters
    ----------
    values : array (item, token, dim), float
    space : model and layer, e.g. ``ViT-bigG-14/laion2b_s39b_b160k/last_ln_post``

    Raises
    ------
    BadInput
        The array is not three-dimensional, or the space has no name.
    """

    values: NDArray[np.floating[Any]]
    space: str

    def __post_init__(self) -> None:
        _refuse_unless(
            self.values.ndim == 3 and bool(self.space),
            f"tokens of shape {self.values.shape} in space {self.space!r}",
            "(item, token, dim) in a named space",
            "Name the model and the layer that the tokens come from.",
        )


@dataclass(frozen=True)
class Provenance:
    """Enough to run it again.

    Parameters
    ----------
    recipe : name of the recipe
    weights_sha256 : hash of the weights that were used, fitted ones included
    revision : version of this software, with the git revision where there is one
    seed : seed of every random draw
    device : where it ran, e.g. ``cpu`` or ``cuda:0``
    options : what was set beside the recipe
    """

    recipe: str
    weights_sha256: str
    revision: str
    seed: int
    device: str
    options: dict[str, Any] = field(default_factory=dict)
