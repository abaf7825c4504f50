"""What an item of each recipe takes, as measured once; what was measured on an installation itself goes before it."""

from dataclasses import dataclass

from voxelight.app.schemas import QueueName


@dataclass(frozen=True)
class Cost:
    """What one item took.

    Parameters
    ----------
    queue : cpu or gpu
    seconds : of work, once weights and inputs were in memory; on cpu the processor time of one core
    memory_gib : peak of the whole worker, or of the card
    on : what it was measured on
    """

    queue: QueueName
    seconds: float
    memory_gib: float
    on: str

    @property
    def how(self) -> str:
        """How the time was measured, and on what."""
        return f"processor time of one core, median of {self.on}" if self.queue == "cpu" else self.on


COSTS: dict[str, tuple[Cost, ...]] = {
    "hippocampus-agunet": (Cost("cpu", 0.61, 1.12, "8 crops of the Medical Segmentation Decathlon"),),
    "hippocampus-mni": (Cost("cpu", 1.99, 1.21, "3 runs on the MNI template of nilearn"),),
    "hippocampus-t1": (Cost("cpu", 10.1, 1.4, "3 runs on the MNI template of nilearn, tilted and stretched"),),
    "miyawaki-ridge": (Cost("cpu", 0.05, 0.23, "20 held-out stimuli of Miyawaki et al. 2008"),),
    "simulated-ridge": (Cost("cpu", 0.09, 0.32, "12 photographs of the simulated subject of the demo"),),
    "mindeye2": (Cost("gpu", 0.86, 25.5, "H100 80 GB, published sampling, batches of 24, random weights"),),
    "random-small": (Cost("cpu", 0.61, 1.15, "6 stimuli of random betas"),),
}


def find_cost(recipe: str, queue: str) -> Cost | None:
    """Return what an item of a recipe took on a queue where that was measured once, else None."""
    return next((cost for cost in COSTS.get(recipe, ()) if cost.queue == queue), None)
