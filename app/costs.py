"""What an item of each recipe takes, as measured once; what was measured on an installation itself goes before it."""

from dataclasses import dataclass

from voxelight.app.schemas import QueueName


@dataclass(frozen=True)
class Cost:
    """What one item took.

    Parameters
    ----------
    queue : cpu or gpu
    seconds : of work, once weights and inputs were in memory
    memory_gib : peak of the whole worker, or of the card
    how : on what it was measured
    """

    queue: QueueName
    seconds: float
    memory_gib: float
    how: str


COSTS: dict[str, tuple[Cost, ...]] = {}
