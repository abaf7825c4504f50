"""One training in several processes, one a device, as `torchrun` starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed

from voxelight.models.errors import BadInput


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that `torchrun` started, if it did.

    Parameters
    ----------
    device : ``cpu`` or ``cuda``

    Yields
    ------
    the device of this process
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    own = device if device == "cpu" else f"cuda:{os.environ['LOCAL_RANK']}"
    if own != "cpu":
        torch.cuda.set_device(own)
    distributed.init_process_group("gloo" if own == "cpu" else "nccl")
    try:
        yield own
    finally:
        distributed.destroy_process_group()


def count() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Return whether this is the process that writes."""
    return rank() == 0


def agree(wish: bool) -> bool:
    """Return what the first process wishes."""
    words = [wish]
    distributed.broadcast_object_list(words, src=0)
    return words[0]


@contextmanager
def first_before_others() -> Iterator[None]:
    """Let the first process through the block, and the others once it is out of it."""
    if count() > 1 and not is_first():
        distributed.barrier()
    yield
    if count() > 1 and is_first():
        distributed.barrier()


def share(batch: int) -> int:
    """Return each process's samples of a batch.

    Raises
    ------
    BadInput
        They can't be shared out evenly.
    """
    each, rest = divmod(batch, count())
    if rest:
        raise BadInput(
            f"a batch of {batch} samples for {count()} processes",
            "a multiple of them",
            "Change `batch` in the recipe, or the number of processes.",
        )
    return each


def gather(rows: Tensor, subjects: int) -> Tensor:
    """Return the rows of all processes in the order of one, which has all of a subject before the next.

    No gradient goes through it.

    Parameters
    ----------
    rows : tensor (subject * sample, ...)
    subjects : of the batch

    Returns
    -------
    tensor (subject * process * sample, ...)
    """
    if count() == 1:
        return rows
    rows = rows.contiguous()
    parts = [torch.empty_like(rows) for _ in range(count())]
    distributed.all_gather(parts, rows)
    return torch.stack([by_subject(part, subjects) for part in parts], dim=1).flatten(0, 2)


def own(rows: Tensor, subjects: int) -> Tensor:
    """Return this process's part of what `gather` returned."""
    return by_subject(rows, subjects, count())[:, rank()].flatten(0, 1)


def by_subject(rows: Tensor, *parts: int) -> Tensor:
    """Return rows (subject * sample, ...) cut into equal parts, (*parts, sample, ...), the first being the subjects."""
    return rows.reshape(*parts, -1, *rows.shape[1:])


def mean(values: Tensor) -> Tensor:
    """Return the mean over the processes."""
    if count() > 1:
        distributed.all_reduce(values)
        values = values / count()
    return values
