"""How the weights of a segmentation recipe are fitted."""

import math
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Augmentation(_Options):
    """What is done to a training crop at random; lengths in voxels.

    A network for slices is given none of what would leave the slice.

    Parameters
    ----------
    mirror : probability of a mirror along each of `mirror_axes`
    mirror_axes : 0 for i, which is left to right
    rotation : largest angle about each axis, degrees
    scale : smallest and largest zoom
    stretch : largest logarithm of a further zoom of each axis by itself
    shift : largest shift along each axis
    bend : standard deviation of a smooth displacement
    contrast, brightness, gamma, bias, noise : strengths, in units of the normalised image
    """

    mirror: float = Field(0.5, ge=0, le=1)
    mirror_axes: tuple[Literal[0, 1, 2], ...] = (0,)
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


class Training(_Options):
    """How the weights are fitted.

    Parameters
    ----------
    steps, batch : gradient steps, and crops of one over all processes
    window : voxels of a training crop; its last side is 1 for a network for slices
    foreground : share of crops that are centred on a voxel of a label, each label as often (nnU-Net: a third)
        Cases that are hardly larger than a crop are read about their centre.
    optimiser : ``adamw``, or ``sgd`` with Nesterov momentum .99 as in nnU-Net
    schedule : ``cosine`` to zero, ``poly`` of power 0.9 (nnU-Net), or ``constant``
    learning_rate, weight_decay, warm_up : the rate rises linearly over `warm_up` steps
    clip : largest norm of a gradient; None: any
    loss : a name of `medseg.losses.LOSSES`
    level_decay : weight of a level of deep supervision relative to the next finer one
    precision : that layers are computed in; ``auto`` is bf16 on a GPU and fp32 elsewhere. Weights, loss and optimiser
        are float32
    average : decay of the running mean of the weights, which is what is kept
    settling : batches that the normalisation statistics of that mean are taken from
    validation : share of the training persons that are looked at now and then and not trained on
    validate_steps : steps from one look to the next
    patience : looks without a better Dice before the training ends, and the best mean so far is kept; None: never
    start_from : weights that the training starts from, those of a packaged recipe or of a model of the installation;
        None: fresh ones
    """

    steps: PositiveInt
    batch: PositiveInt = 8
    window: tuple[PositiveInt, PositiveInt, PositiveInt]
    foreground: float = Field(0.33, ge=0, le=1)
    optimiser: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    warm_up: int = Field(100, ge=0)
    clip: PositiveFloat | None = None
    loss: str = "dice_ce"
    level_decay: float = Field(0.5, ge=0, le=1)
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    average: float = Field(0.995, ge=0, lt=1)
    settling: PositiveInt = 100
    validation: float = Field(0.0, ge=0, lt=1)
    validate_steps: PositiveInt = 250
    patience: PositiveInt | None = None
    start_from: str | None = None
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _has_what_patience_looks_at(self) -> Self:
        if self.patience is not None and not self.validation:
            raise ValueError("patience needs persons to look at: set `validation`, the share of them")
        return self

    def rate(self, step: int) -> float:
        """Return the share of the learning rate at a step, from 0."""
        rise = min(1.0, (step + 1) / (self.warm_up + 1))
        left = max(0.0, 1 - step / self.steps)
        if self.schedule == "poly":
            return rise * float(left**0.9)
        return rise * (0.5 * (1 - math.cos(math.pi * left)) if self.schedule == "cosine" else 1.0)
