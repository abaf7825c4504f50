"""How betas are estimated: presets by name, and what each can change."""

from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator

from voxelight.models.errors import NotFound

_FRACTIONS = tuple(round(0.05 * step, 2) for step in range(1, 21))


class GlmOptions(BaseModel):
    """All that decides the outcome of an estimation.

    Parameters
    ----------
    hrf : ``library``: each voxel has the response that makes its signal most likely; ``canonical``: all have SPM's
    estimate : ``lsa``: all trials in one model; ``lss``: each against the sum of the others; ``ridge``: all in one,
        shrunk to the fraction of their length that predicts held-out runs best, voxel by voxel
    denoise : whether principal components of voxels without a response are taken out, as many as predict held-out
        runs best
    components : at most so many of them
    fractions : to choose from, rising
    noise : ``ar1``: volumes are whitened by an autoregression of first order, one for each run; ``ols``: they are not
    drift_degree : of the polynomials of drift; left out, half the length of the run in minutes
    percent : whether the signal is turned to percent of its mean, voxel by voxel and run by run
    block_voxels : voxels in memory at a time
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hrf: Literal["library", "canonical"] = "library"
    estimate: Literal["lsa", "lss", "ridge"] = "ridge"
    denoise: bool = True
    components: PositiveInt = 10
    fractions: tuple[float, ...] = _FRACTIONS
    noise: Literal["ar1", "ols"] = "ar1"
    drift_degree: int | None = Field(default=None, ge=0, le=20)
    percent: bool = True
    block_voxels: PositiveInt = 1000

    @field_validator("fractions")
    @classmethod
    def _rise(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        rising = all(a < b for a, b in pairwise(fractions))
        if not fractions or not rising or fractions[0] <= 0 or fractions[-1] != 1:
            raise ValueError("fractions must rise from above 0 to 1")
        return fractions


PRESETS: dict[str, tuple[str, str, GlmOptions]] = {
    "glm-single-trial": (
        "Single-trial betas",
        "A response for each voxel; noise components and fractional ridge, chosen on held-out runs.",
        GlmOptions(),
    ),
    "glm-lss": (
        "Single-trial betas, each trial against the rest",
        "A response for each voxel from a library; least squares separate (Mumford et al. 2012). Needs no repeats.",
        GlmOptions(estimate="lss", denoise=False),
    ),
    "glm-canonical": (
        "Single-trial betas, canonical",
        "The canonical response and ordinary least squares for all trials at once: the baseline.",
        GlmOptions(hrf="canonical", estimate="lsa", denoise=False, noise="ols"),
    ),
}
"""Name -> title, summary, options."""


def find_preset(name: str) -> GlmOptions:
    """Return the options of a preset.

    Raises
    ------
    NotFound
        There is none of that name.
    """
    if name not in PRESETS:
        raise NotFound(f"the preset {name!r}", f"one of {', '.join(PRESETS)}", "Correct the name.")
    return PRESETS[name][2]
