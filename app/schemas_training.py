"""What crosses a door about trainings: their curves."""

import uuid

from pydantic import Field

from voxelight.app.schemas import Wire


class CurvePointAnswer(Wire):
    """Means over a stretch of steps, the last of which is `step`: losses, learning rate, and scores where they fell."""

    step: int
    values: dict[str, float]


class CurveAnswer(Wire):
    """The curve of one item of a training, as far as it is; ask again with `since` for what came after."""

    run: uuid.UUID
    item: str
    status: str
    steps: int = Field(description="of the training in all; fewer are taken where it ends early")
    points: list[CurvePointAnswer]
