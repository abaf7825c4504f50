"""What a person may choose of how betas are read; imported by the doors, so it imports nothing large."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class ReadingOptions(BaseModel):
    """What a person may choose where a layout leaves a choice; nothing of it is guessed.

    Parameters
    ----------
    sessions : numbers of the sessions to take; left out, all that are there, and these must follow each other from 1
    version : preparation of the betas where a folder holds several, e.g. ``betas_fithrf``
    space : space where a folder holds several, e.g. ``func1pt8mm`` or ``fsaverage``
    scale : integers are divided by it, for a layout that does not say it
    missing : what becomes of NaN: ``refuse``, or ``zero``, which the betas then say
    lag_volumes : for BOLD of block designs: how many volumes a response is later than its block
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: tuple[PositiveInt, ...] | None = Field(default=None, min_length=1)
    version: str | None = None
    space: str | None = None
    scale: PositiveFloat | None = None
    missing: Literal["refuse", "zero"] = "refuse"
    lag_volumes: int = Field(default=2, ge=0)
