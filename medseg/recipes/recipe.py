"""What a segmentation recipe holds."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

Triple = tuple[float, float, float]


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Normalisation(_Options):
    """How the intensities of a crop are brought to one scale.

    Parameters
    ----------
    method : ``zscore`` (mean 0, deviation 1) or ``minmax`` (0 to 1)
    percentiles : values outside are clipped first, in percent
    """

    method: Literal["zscore", "minmax"] = "zscore"
    percentiles: tuple[float, float] = (0.5, 99.5)


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


class Augmentation(_Options):
    """What is done to a training crop at random; lengths in voxels.

    Parameters
    ----------
    mirror : probability of a left-right mirror
    rotation : largest angle about each axis, degrees
    scale : smallest and largest zoom
    stretch : largest logarithm of a further zoom of each axis by itself
    shift : largest shift along each axis
    bend : standard deviation of a smooth displacement
    contrast, brightness, gamma, bias, noise : strengths, in units of the normalised image
    """

    mirror: float = Field(0.5, ge=0, le=1)
    rotation: float = Field(15.0, ge=0, le=180)
    scale: tuple[PositiveFloat, PositiveFloat] = (0.85, 1.18)
    stretch: float = Field(0.04, ge=0)
    shift: float = Field(4.0, ge=0)
    bend: float = Field(0.7, ge=0)
    contrast: float = Field(0.2, ge=0)
    brightness: float = Field(0.15, ge=0)
    gamma: float = Field(0.2, ge=0)
    bias: float = Field(0.1, ge=0)
    noise: float = Field(0.12, ge=0)

    align : ``mni152`` where a head is to be aligned first, by an affine map to the template; else it must lie there

class Training(_Options):
    """How the weights are fitted.

    Parameters
    ----------
    steps, batch : gradient steps, crops a step
    window : voxels of a training crop
    learning_rate, weight_decay, warm_up : AdamW, linear rise over `warm_up` steps, then a cosine to zero
    loss : a name of `medseg.losses.LOSSES`
    level_decay : weight of a level of deep supervision relative to the next finer one
    average : decay of the running mean of the weights, which is what is kept
    settling : batches that the normalisation statistics of that mean are taken from
    """

    steps: PositiveInt
    batch: PositiveInt = 8
    window: tuple[PositiveInt, PositiveInt, PositiveInt]
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    warm_up: int = Field(100, ge=0)
    loss: str = "dice_ce"
    level_decay: float = Field(0.5, ge=0, le=1)
    align: Literal["mni152"] | None = None
    average: float = Field(0.995, ge=0, lt=1)
    settling: PositiveInt = 100
    augmentation: Augmentation = Augmentation()


class SegmentationRecipe(_Options):
    """A network, its weights and everything around them.

    Parameters
    ----------
    network, config : a name of `models.registry.SEGMENTERS` and its options
    weights : a name of `models.weights.WEIGHTS`
    labels : label number of the network -> name
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
    seed : of every random draw
    training : how the weights are fitted; None for a recipe that borrows weights
    """

    name: str
    title: str
    summary: str
    network: str
    config: dict[str, Any]
    weights: str
    labels: dict[int, str]
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
    seed: int = 0
    training: Training | None = None

    @property
    def output_labels(self) -> dict[int, str]:
        """Label number -> name in what a person gets: the labels of every region in turn."""
        if not self.regions:
            return dict(self.labels)
        names = [f"{region.prefix}{name}" for region in self.regions for _, name in sorted(self.labels.items())]
        return dict(enumerate(names, start=1))
