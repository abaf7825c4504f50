"""What one has to know of a score to compare it; a report without it is refused."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voxelight.models.errors import BadInput


class Conditions(BaseModel):
    """Under what the scores of a report hold; nothing has a default that could be wrong.

    Parameters
    ----------
    subject : whose betas; each subject has a report by itself
    test_set : which stimuli are scored and how they were chosen, e.g. ``shared1000, 982 of them``
    sessions : how many sessions the decoder was trained on, or which
    trials : whether the trials of one stimulus are averaged before they are scored
    betas : version of the betas, e.g. ``betas_fithrf_GLMdenoise_RR (b3)``
    reference : what is scored against: the gallery of pictures, the set of captions
    normalisation : which rows give mean and standard deviation of the betas
    seeds : samples of each stimulus
    simulated : whether the betas were made by a model
    random_weights : whether nothing was learnt
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str = Field(min_length=1)
    test_set: str = Field(min_length=1)
    sessions: str = Field(min_length=1)
    trials: Literal["averaged", "single"]
    betas: str = Field(min_length=1)
    reference: str = Field(min_length=1)
    normalisation: str = Field(min_length=1)
    seeds: int = Field(ge=1)
    simulated: bool
    random_weights: bool


def state_conditions(stated: Mapping[str, Any]) -> Conditions:
    """Check what was stated.

    Parameters
    ----------
    stated : field -> value; None and blank text count as missing

    Raises
    ------
    BadInput
        A field is missing, unknown or wrong.
    """
    given = {name: value for name, value in stated.items() if value is not None and str(value).strip()}
    missing = [name for name in Conditions.model_fields if name not in given]
    if missing:
        raise BadInput(
            f"a report without {', '.join(missing)}",
            f"{', '.join(Conditions.model_fields)}",
            "State them: scores under other conditions can't be compared.",
        )
    try:
        return Conditions(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadInput(
            f"{first.get('input')!r} for {'.'.join(map(str, first['loc']))}", first["msg"], "Correct it."
        ) from None
