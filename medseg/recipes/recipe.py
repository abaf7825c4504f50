"""What a segmentation recipe holds."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from voxelight.medseg.recipes.training import Training

Triple = tuple[float, float, float]


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


class SegmentationRecipe(_Options):
    """A network, its weights and everything around them.

    Parameters
    ----------
    bids_label : what a label map is called in BIDS (``seg-<label>``), letters and digits; empty: those of the name
    network, config : a name of `models.registry.SEGMENTERS` and its options
    weights : a name of `models.weights.WEIGHTS`
    labels : label number of the network -> name
    values : value in a label map that is trained on -> label number, for those that differ
    spacing_mm : grid that the network sees
    patch, overlap : sliding window in voxels, share of overlap between windows
    largest_mm : sides of the largest field that is accepted without regions
    mirror_average : average the prediction with that of every mirrored window
    mirror_axes : along which windows are mirrored, 0 for i; several give every combination
    ensemble : more names of `models.weights.WEIGHTS`, of the same network, averaged with `weights`
    temperature : probabilities p become p^(1/T), normalised; 1: as they are
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
    values: dict[int, int] = Field(default_factory=dict)
    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    normalisation: Normalisation = Normalisation()
    patch: tuple[PositiveInt, PositiveInt, PositiveInt]
    overlap: float = Field(0.5, ge=0, lt=1)
    largest_mm: Triple | None = None
    mirror_average: bool = True
    mirror_axes: tuple[Literal[0, 1, 2], ...] = (0,)
    ensemble: tuple[str, ...] = ()
    temperature: PositiveFloat = 1.0
    smallest_ml: float = Field(0.0, ge=0)
    fill_holes: bool = False
    regions: tuple[Region, ...] = ()
    align: Literal["mni152"] | None = None
    seed: int = 0
    split: str = ""
    training: Training | None = None

    @property
    def output_labels(self) -> dict[int, str]:
        """Label number -> name in what a person gets: the labels of every region in turn."""
        if not self.regions:
            return dict(self.labels)
        names = [f"{region.prefix}{name}" for region in self.regions for _, name in sorted(self.labels.items())]
        return dict(enumerate(names, start=1))
