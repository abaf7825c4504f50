"""The loop that every training shares: steps, curve, checkpoints, interruption. What a step is, a trainee knows."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from voxelight.models.errors import BadInput, Conflict
from voxelight.models.training import processes
from voxelight.models.training.state import Checkpoints, pack, unpack

Values = Mapping[str, Tensor | float]


class Diverged(BadInput):
    """The loss is no number any more."""


class Trainee(Protocol):
    """What is trained. The draws of a step hang on the seed and its number alone, so that any step can be the first.

    Attributes
    ----------
    steps : gradient steps in all; a step may lower it to end the training after itself
    """

    steps: int

    def made_by(self) -> dict[str, Any]:
        """Return what decides the curve, as JSON: a checkpoint of another recipe or other data is refused."""

    def step(self, number: int) -> Values:
        """Take gradient step `number`, from 0, and return what the curve shows, ``loss`` among it; scalars."""

    def state(self) -> dict[str, Any]:
        """Return all that the next step hangs on: tensors, JSON values, and dicts and lists of them."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take up such a state, its tensors being on the CPU."""


class Log(Protocol):
    """Where the curve goes, `storage.training_log.TrainingLog` for one."""

    def write(self, rows: list[dict[str, float]]) -> None:
        """Add rows, each with its ``step``."""

    def rewind(self, step: int) -> None:
        """Forget the rows from this step on, which will be written again."""


@dataclass(frozen=True)
class LoopOptions:
    """How often something happens beside the steps.

    Parameters
    ----------
    checkpoint_s : seconds from one checkpoint to the next
    checkpoint_steps : steps from one to the next, where it isn't to hang on the clock
    log_steps : steps from one look at the losses to the next; every step has its row all the same
        Between two looks a GPU is never waited for.
    """

    checkpoint_s: float = 900.0
    checkpoint_steps: int | None = None
    log_steps: int = 10


@dataclass(frozen=True)
class Hooks:
    """What a training is given from outside.

    Parameters
    ----------
    checkpoints : where it can be taken up again; nowhere without
    log : of the curve
    on_step : called with (steps done, steps in all) before each step; what it raises ends the training there and then
    pause : asked before each step; once True, a checkpoint is written and the training returns unfinished
    """

    checkpoints: Checkpoints | None = None
    log: Log | None = None
    on_step: Callable[[int, int], None] | None = None
    pause: Callable[[], bool] | None = None


def run(trainee: Trainee, options: LoopOptions, hooks: Hooks) -> bool:
    """Train from the last checkpoint to the end.

    Of several processes (see `processes`) all call this; the first alone writes.

    Returns
    -------
    whether the end was reached, and not a pause

    Raises
    ------
    Conflict
        The checkpoint is of another recipe or other data.
    Diverged
        A loss is infinite or no number. The last checkpoint is from before it was seen.
    """
    start = _take_up(trainee, hooks)
    book = _Book(trainee, hooks, start)
    for number in range(start, trainee.steps):
        if hooks.on_step is not None:
            hooks.on_step(number, trainee.steps)
        if _paused(hooks, number, options.log_steps):
            book.keep(number)
            return False
        book.add(number, trainee.step(number))
        if (number + 1) % options.log_steps == 0:
            book.flush()
        if number + 1 >= trainee.steps:
            break
        if book.due(number + 1, options):
            book.keep(number + 1)
    book.keep(trainee.steps)
    return True


class _Book:
    """The curve since the last look at it, and the time since the last checkpoint."""

    def __init__(self, trainee: Trainee, hooks: Hooks, start: int) -> None:
        self._trainee, self._hooks = trainee, hooks
        self._pending: list[tuple[int, Values]] = []
        self._kept_step, self._kept_at = start, time.monotonic()

    def add(self, number: int, values: Values) -> None:
        self._pending.append((number, values))

    def due(self, done: int, options: LoopOptions) -> bool:
        if self._hooks.checkpoints is None or done == self._trainee.steps:
            return False
        if options.checkpoint_steps is not None:
            return done % options.checkpoint_steps == 0
        return time.monotonic() - self._kept_at >= options.checkpoint_s

    def keep(self, done: int) -> None:
        """Write a checkpoint, unless the last one is of this very step."""
        self.flush()
        if self._hooks.checkpoints is not None and processes.is_first() and done != self._kept_step:
            arrays, facts = pack(self._trainee.state())
            self._hooks.checkpoints.write(done, arrays, {"made_by": self._trainee.made_by(), "state": facts})
        self._kept_step, self._kept_at = done, time.monotonic()

    def flush(self) -> None:
        """Look at the losses, and pass the rows on."""
        rows = _read(self._pending)
        self._pending = []
        if rows and self._hooks.log is not None and processes.is_first():
            self._hooks.log.write(rows)
        for row in rows:
            if not math.isfinite(row["loss"]):
                raise Diverged(
                    f"a loss of {row['loss']} at step {row['step']}",
                    "a finite one",
                    "Lower the learning rate, or train in bf16 or fp32, and start from the last checkpoint.",
                )


def _read(pending: list[tuple[int, Values]]) -> list[dict[str, float]]:
    """Bring the values of several steps from their device, all at once."""
    tensors = [value for _, values in pending for value in values.values() if isinstance(value, Tensor)]
    numbers = iter(torch.stack([value.detach().float() for value in tensors]).tolist() if tensors else [])
    return [
        {
            "step": step,
            **{name: next(numbers) if isinstance(value, Tensor) else value for name, value in values.items()},
        }
        for step, values in pending
    ]


def _take_up(trainee: Trainee, hooks: Hooks) -> int:
    stored = hooks.checkpoints.latest() if hooks.checkpoints is not None else None
    start = 0 if stored is None else stored.step
    if stored is not None:
        _refuse_others(stored.facts["made_by"], trainee.made_by())
        trainee.restore(unpack(stored.facts["state"], stored.arrays))
    if hooks.log is not None and processes.is_first():
        hooks.log.rewind(start)
    return start


def _refuse_others(found: dict[str, Any], expected: dict[str, Any]) -> None:
    differing = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
    if differing:
        raise Conflict(
            f"a checkpoint made with another {', '.join(differing)}",
            "one of this training",
            "Use another folder, or remove the checkpoints.",
        )


def _paused(hooks: Hooks, number: int, every: int) -> bool:
    """Ask for a pause; several processes must do the same, so they agree now and then only."""
    if hooks.pause is None:
        return False
    if processes.count() == 1:
        return hooks.pause()
    return number % every == 0 and processes.agree(hooks.pause())
