"""What a segmentation recipe holds."""

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from voxelight.medseg.recipes.training import Training

Triple = tuple[float, float, float]
# What changes nothing in a training, and what came after the first checkpoints were written.
AFTER_TRAINING = frozenset({"takes", "domain", "instances", "uncertainty"})
LATER = frozenset({"label_regions", "shape", "crop_head"})


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Normalisation(_Options):
    """How the intensities of a crop are brought to one scale.

    Parameters
    ----------
    method : ``zscore`` (mean 0, deviation 1), ``minmax`` (0 to 1), or ``fixed``: by `clip`, `mean` and `deviation`
        alone, for units that mean the same in every scan (Hounsfield units, nnU-Net's CT scheme)
    percentiles : values outside are clipped first, in percent; not for ``fixed``
    clip : lowest and highest value, in units of the scan
    mean, deviation : subtracted, and divided by
    """

    method: Literal["zscore", "minmax", "fixed"] = "zscore"
    percentiles: tuple[float, float] = (0.5, 99.5)
    clip: tuple[float, float] = (-1000.0, 1000.0)
    mean: float = 0.0
    deviation: PositiveFloat = 1.0


class Region(_Options):
    """A box in world space that is segmented by itself.

    Parameters
    ----------
    prefix : put in front of each label's name
    centre_mm, size_mm : RAS+ millimetres
    mirror : read the box right to left, for a network that knows the other side
    """

    prefix: str
    centre_mm: Triple
    size_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    mirror: bool = False


class Instances(_Options):
    """How objects that touch are told apart in a label map of their insides and borders.

    Parameters
    ----------
    inside, border : label numbers
    smallest : voxels of an object; smaller ones are none
    split_depth : an inside is cut in two where it is narrower than both by this much of its distance to the outside,
        voxels (h-maxima of the distance transform); 0: never
    split_smoothing : standard deviation of what smooths those distances before, voxels
    """

    inside: PositiveInt
    border: PositiveInt
    smallest: PositiveInt = 1
    split_depth: float = Field(0.0, ge=0)
    split_smoothing: float = Field(0.0, ge=0)


class LabelRegion(_Options):
    """Labels that a network learns as one, beside others that may overlap with it (region-based training).

    Parameters
    ----------
    name : such as ``whole tumour``
    labels : numbers of the labels in it
    """

    name: str
    labels: tuple[PositiveInt, ...] = Field(min_length=1)


def own_labels(regions: Sequence[LabelRegion]) -> list[int]:
    """Return the label that each region leaves where no later one lies; the last region that holds a voxel decides.

    Raises
    ------
    ValueError
        A region leaves none or several, so that a label map could not be put together of them.
    """
    found = []
    for place, region in enumerate(regions):
        later = {number for other in regions[place + 1 :] for number in other.labels}
        left = sorted(set(region.labels) - later)
        if len(left) != 1:
            said = " and ".join(map(str, left)) or "none"
            raise ValueError(
                f"region {region.name!r} leaves {said} of its labels to itself and not exactly one: order regions from "
                "the outermost to the innermost, with one region for each label"
            )
        found.append(left[0])
    return found


class SegmentationRecipe(_Options):
    """A network, its weights and everything around them.

    Parameters
    ----------
    bids_label : what a label map is called in BIDS (``seg-<label>``), letters and digits; empty: those of the name
    network, config : a name of `models.registry.SEGMENTERS` and its options
    weights : a name of `models.weights.WEIGHTS`
    labels : label number of the network -> name
    label_regions : what the network gives in place of labels: regions that may overlap, from the outermost to the
        innermost, as many as there are labels; empty: one label a voxel
    values : value in a label map that is trained on -> label number, for those that differ
    takes : ``volume``, or ``picture``: PNG, JPEG and TIFF, whose pixels count as 1 mm
    domain : what pictures must show, ``fluorescence``: bright on dark, in grey; others are refused; empty: anything
    instances : tell objects apart that touch, in a map of its own; None: no
    spacing_mm : grid that the network sees
    shape : voxels (i, j, k) that any field is read at, however large it is; 0 for an axis: as many as keep the
        proportions that voxels of `spacing_mm` have; empty: as many as `spacing_mm` gives
    crop_head : the field is the box around what is brighter than a fifth of the range (Bouget et al. 2021)
    patch, overlap : sliding window in voxels, share of overlap between windows
    largest_mm : sides of the largest field that is accepted without regions
    mirror_average : average the prediction with that of every mirrored window
    mirror_axes : along which windows are mirrored, 0 for i; several give every combination
    ensemble : more names of `models.weights.WEIGHTS`, of the same network, averaged with `weights`
    temperature : probabilities p become p^(1/T), normalised; 1: as they are
    uncertainty : what says how uncertain a voxel is: ``entropy``, or ``spread`` of a cDAL's votes or of the ``folds``
        where that was better on held-out cases
    smallest_ml : pieces of a label with less volume are left out; 0: none
    fill_holes : give holes to the label around them
    regions : boxes to segment; empty for the whole field
    align : ``mni152`` where a head is to be aligned first, by an affine map to the template; else it must lie there
    seed : of every random draw
    split : name of the recorded folds; empty: those of its own name, if there are any
    training : how the weights are fitted; None for a recipe that borrows weights
    """

    name: str
    title: str
    summary: str
    bids_label: str = Field("", pattern="^[A-Za-z0-9]*$")
    network: str
    config: dict[str, Any]
    weights: str
    labels: dict[int, str]
    label_regions: tuple[LabelRegion, ...] = ()
    values: dict[int, int] = Field(default_factory=dict)
    takes: Literal["volume", "picture"] = "volume"
    domain: Literal["", "fluorescence"] = ""
    instances: Instances | None = None
    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    shape: tuple[PositiveInt, NonNegativeInt, NonNegativeInt] | tuple[()] = ()
    crop_head: bool = False
    normalisation: Normalisation = Normalisation()
    patch: tuple[PositiveInt, PositiveInt, PositiveInt]
    overlap: float = Field(0.5, ge=0, lt=1)
    largest_mm: Triple | None = None
    mirror_average: bool = True
    mirror_axes: tuple[Literal[0, 1, 2], ...] = (0,)
    ensemble: tuple[str, ...] = ()
    temperature: PositiveFloat = 1.0
    uncertainty: Literal["entropy", "spread", "folds"] = "entropy"
    smallest_ml: float = Field(0.0, ge=0)
    fill_holes: bool = False
    regions: tuple[Region, ...] = ()
    align: Literal["mni152"] | None = None
    seed: int = 0
    split: str = ""
    training: Training | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.instances and not {self.instances.inside, self.instances.border} <= set(self.labels):
            raise ValueError("instances name labels that [labels] does not have")
        if self.regions and (self.shape or self.crop_head):
            raise ValueError("shape and crop_head are of whole fields, and can't be had together with regions")
        if not self.label_regions:
            return self
        if sorted(own_labels(self.label_regions)) != sorted(self.labels):
            raise ValueError("label_regions do not hold every label of [labels], and only those")
        if self.regions:
            raise ValueError("label_regions can't be had together with regions, which are boxes")
        return self

    def of_training(self) -> dict[str, Any]:
        """Return what decides a training, as a checkpoint names it; fields that are younger only where they are used.

        Returns
        -------
        fields in the form of JSON
        """
        unused = {name for name in LATER if getattr(self, name) == type(self).model_fields[name].default}
        told = self.model_dump(mode="json", exclude=set(AFTER_TRAINING) | unused)
        if self.training is not None and self.training.start_from is None:
            del told["training"]["start_from"]
        return told

    @property
    def channels(self) -> int:
        """What the network gives: a channel a label and one of background, or a channel a region."""
        return len(self.label_regions) or len(self.labels) + 1

    @property
    def context(self) -> int:
        """Slices that the network sees at once; 1 for one that sees volumes or single slices."""
        return int(self.config.get("context", 1))

    @property
    def scored(self) -> dict[str, tuple[int, ...]]:
        """What a label map is scored on: name -> label numbers, of each label and then of each region."""
        names = {name: (number,) for number, name in self.labels.items()}
        return names | {region.name: region.labels for region in self.label_regions}

    @property
    def output_labels(self) -> dict[int, str]:
        """Label number -> name in what a person gets: the labels of every region in turn."""
        if not self.regions:
            return dict(self.labels)
        names = [f"{region.prefix}{name}" for region in self.regions for _, name in sorted(self.labels.items())]
        return dict(enumerate(names, start=1))
