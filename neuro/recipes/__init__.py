"""Reconstruction recipes: one TOML file each, named for what it does."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from voxelight.models.packaged import list_packaged, read_packaged
from voxelight.models.registry import DECODERS, find_config


class RunOptions(BaseModel):
    """How runs of volumes become betas, for recipes whose source is `runs`.

    Parameters
    ----------
    lag_volumes : volumes from a picture to its response in the blood, e.g. 2 at a repetition time of 2 s
    detrend : whether the straight line over a run is taken out of every voxel
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lag_volumes: NonNegativeInt = 2
    detrend: bool = True


class ReconstructionRecipe(BaseModel):
    """From betas to pictures, with all that decides the outcome.

    Parameters
    ----------
    name, title, summary : what a person reads
    source : ``betas`` that are handed in, ``runs`` of volumes, or a subject ``simulated`` from the seed
    decoder : a key of `models.registry.DECODERS`
    decoder_options : fields of its configuration
    normalisation : a key of `neuro.betas.NORMALISATIONS`
    repeats : whether trials of one stimulus are averaged before the fit, or enter it one by one
        Held-out trials of one stimulus are averaged either way.
    unit : what is held out whole, a word of `neuro.splits.UNITS`
    n_folds : number of folds; left out, every unit is held out once by itself
    inner_folds : the same for the folds inside the training rows that choose alpha
    permutations : draws of the null, B of p = (1 + b) / (1 + B)
    bootstrap_draws : draws of the 95 % interval
    voxels : how many voxels the single training trials of a fold choose by their reliability; left out, all
    picture_side : longer side in pixels that pictures are brought to; left out, they stay as they are
    seed : of every random draw
    runs : for the source ``runs``
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    summary: str
    source: Literal["betas", "runs", "simulated"] = "betas"
    decoder: str = "ridge"
    decoder_options: dict[str, Any] = Field(default_factory=dict)
    normalisation: Literal["training-rows", "training-rows-per-session", "own-session"] = "training-rows"
    repeats: Literal["averaged", "single"] = "averaged"
    unit: Literal["stimulus", "category", "run", "session", "subject", "group"] = "stimulus"
    n_folds: int | None = Field(default=None, ge=2)
    inner_folds: int | None = Field(default=None, ge=2)
    permutations: NonNegativeInt = 999
    bootstrap_draws: PositiveInt = 2000
    voxels: PositiveInt | None = None
    picture_side: PositiveInt | None = None
    seed: NonNegativeInt = 0
    runs: RunOptions = RunOptions()

    def decoder_config(self) -> Any:
        """Return the checked configuration of the decoder, which this call imports."""
        return find_config(DECODERS, self.decoder)(**self.decoder_options)


def list_recipes() -> tuple[str, ...]:
    """Return the names of the packaged recipes, sorted."""
    return list_packaged(__name__)


def find_recipe(name: str) -> ReconstructionRecipe:
    """Return a packaged recipe.

    Parameters
    ----------
    name : one of `list_recipes`

    Raises
    ------
    NotFound
        No recipe has this name.
    """
    return ReconstructionRecipe(name=name, **read_packaged(__name__, name, "recipe"))
