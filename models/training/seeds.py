"""Seeds of every draw of a step, from the seed of the training and the step's number alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from voxelight.models.diffusion.noise import stage_generator

_LARGEST = 2**63


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Seed torch's own generators, which dropout and fresh weights draw from, and put them back afterwards."""
    kind = torch.device(device)
    devices = [torch.cuda.current_device() if kind.index is None else kind.index] if kind.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def seed_dropout(seed: int, step: int, process: int, part: int) -> None:
    """Seed what dropout draws from; every process and part of a batch drops entries of its own."""
    torch.manual_seed(int(stage_generator(seed, f"dropout:{step}:{process}:{part}").integers(_LARGEST)))


def draw_normal(seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> Tensor:
    """Return standard normal numbers (seed, *shape), each sample's from its own seed, drawn on the device.

    So a sample has the same noise whichever process it is in; devices of two kinds draw differently.
    """
    generator = torch.Generator(device)
    rows = [torch.randn(*shape, generator=generator.manual_seed(seed), device=device) for seed in seeds]
    return torch.stack(rows)
