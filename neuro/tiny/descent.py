"""Gradient steps that can be taken up where they were left: every draw hangs on the seed and the step alone."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn

from voxelight.models.training.loop import Hooks, LoopOptions, run
from voxelight.neuro.tiny.recipe import Descent

State = dict[str, Tensor]
Loss = Callable[[Tensor, Generator], tuple[Tensor, dict[str, Tensor]]]
"""``(rows (b,) of the training pictures, generator) -> (loss, its parts)``."""

_PRIME = 1_000_003


@dataclass(frozen=True)
class Sitting:
    """What one run of a stage is given from outside.

    Parameters
    ----------
    hooks : checkpoints, curve and interruption
    options : how often something happens beside the steps
    pictures : hash of the training pictures, so that no checkpoint is taken up with others
    """

    hooks: Hooks = field(default_factory=Hooks)
    options: LoopOptions = field(default_factory=LoopOptions)
    pictures: str = ""


def compute_dtype(device: torch.device | str) -> torch.dtype:
    """Return what networks are computed in while they are trained: bfloat16 on a GPU, float32 elsewhere."""
    return torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32


def place(network: nn.Module, device: torch.device | str) -> nn.Module:
    """Bring a network to a device and to what is computed in there; batch norms, whose statistics are sums, stay."""
    network.to(device, compute_dtype(device))
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.float()
    return network


def step_generator(seed: int, step: int, device: torch.device | str) -> Generator:
    """Return the generator of one step."""
    return Generator(device).manual_seed(seed * _PRIME + step)


def deal_rows(count: int, batch: int, seed: int, start: int, device: torch.device | str) -> Iterator[Tensor]:
    """Yield batches of rows without end, from a step on; every picture comes once an epoch, the rest of one is left.

    Parameters
    ----------
    count, batch : pictures of an epoch and of a batch
    seed : of the order
    start : step of the first batch

    Yields
    ------
    int64 tensor (min(batch, count),)
    """
    batch = min(batch, count)
    steps = count // batch
    epoch, step = divmod(start, steps)
    while True:
        chance = Generator().manual_seed(seed * _PRIME + epoch)
        order = torch.randperm(count, generator=chance).to(device)
        for number in range(step, steps):
            yield order[number * batch : (number + 1) * batch]
        epoch, step = epoch + 1, 0


class Walk:
    """A network on its way down, float32 copies of its parameters, their running mean and the optimiser.

    The network computes in the dtype that it is in; AdamW and the running mean work on the copies. With the same seed,
    interrupted or not, a stage gives the same weights on a device that computes reproducibly.

    Parameters
    ----------
    network : module in training mode, on its device
    count : training pictures
    loss : of one batch
    options : steps, rates and the running mean
    seed : of the order and of all draws
    made_by : what else decides the curve, as JSON
    """

    def __init__(
        self, network: nn.Module, count: int, loss: Loss, options: Descent, seed: int, made_by: dict[str, Any]
    ) -> None:
        self.steps = options.steps
        self._options, self._loss, self._seed, self._count, self._made_by = options, loss, seed, count, made_by
        self._device = next(network.parameters()).device
        self._rows: Iterator[Tensor] | None = None
        self._next = 0
        stored = network.state_dict()
        self._parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
        self._buffers = {name: value for name, value in network.named_buffers() if name in stored}
        self._masters = {name: value.detach().float().clone() for name, value in self._parameters.items()}
        floats = {name: value for name, value in self._buffers.items() if value.is_floating_point()}
        self._moving = {**self._masters, **floats}
        self._mean = {name: value.detach().clone() for name, value in self._moving.items()}
        matrices = [value for value in self._masters.values() if value.ndim > 1]
        others = [value for value in self._masters.values() if value.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}]
        for value in self._masters.values():
            value.grad = torch.zeros_like(value)
        self._optimiser = torch.optim.AdamW(groups, lr=0.0, fused=True)

    def made_by(self) -> dict[str, Any]:
        """Return what decides the curve."""
        return {"seed": self._seed, "descent": self._options.model_dump(), **self._made_by}

    def step(self, number: int) -> dict[str, Tensor]:
        """Take a gradient step; see `voxelight.models.training.loop.Trainee`."""
        if self._rows is None or number != self._next:
            self._rows = deal_rows(self._count, self._options.batch, self._seed, number, self._device)
        self._next = number + 1
        value, parts = self._loss(next(self._rows), step_generator(self._seed, number, self._device))
        torch.autograd.backward(value)
        self._advance(number)
        return {"loss": value.detach(), **{name: part.detach() for name, part in parts.items()}}

    def _advance(self, number: int) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = find_rate(number, self._options)
        reached = [name for name, parameter in self._parameters.items() if parameter.grad is not None]
        gradients = [cast(Tensor, self._parameters[name].grad) for name in reached]
        torch._foreach_copy_([cast(Tensor, self._masters[name].grad) for name in reached], gradients)
        for name in reached:
            self._parameters[name].grad = None
        torch.nn.utils.clip_grad_norm_(self._masters.values(), self._options.clip)
        self._optimiser.step()
        with torch.no_grad():
            torch._foreach_copy_(list(self._parameters.values()), list(self._masters.values()))
            decay = min(self._options.average, (number + 1) / (number + 10))
            torch._foreach_lerp_(list(self._mean.values()), list(self._moving.values()), 1 - decay)

    def state(self) -> dict[str, Any]:
        """Return everything that the next step hangs on."""
        tables = {"masters": self._masters, "mean": self._mean, "buffers": self._buffers}
        moments = {str(key): dict(value) for key, value in self._optimiser.state_dict()["state"].items()}
        return {"moments": moments, **{key: to_cpu(table) for key, table in tables.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up such a state."""
        tables = {"masters": self._masters, "mean": self._mean, "buffers": self._buffers}
        with torch.no_grad():
            for key, table in tables.items():
                for name, value in table.items():
                    value.copy_(state[key][name])
            torch._foreach_copy_(list(self._parameters.values()), list(self._masters.values()))
        ordered = [value for group in self._optimiser.param_groups for value in group["params"]]
        moments = {int(key): _shape_moments(ordered[int(key)], kept) for key, kept in state["moments"].items()}
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": moments})

    def finish(self) -> State:
        """Return the running mean of the weights, float32 on the CPU, under the names of the network's state."""
        return to_cpu({**self._buffers, **self._mean})


def descend(walk: Walk, sitting: Sitting) -> State | None:
    """Take the steps of a stage that no earlier run took; return the weights, or None where it was paused."""
    return walk.finish() if run(walk, sitting.options, sitting.hooks) else None


def find_rate(step: int, options: Descent) -> float:
    """Return the learning rate of a step: a linear rise, then half a cosine to zero."""
    if step < options.warm_up:
        return options.learning_rate * (step + 1) / options.warm_up
    share = (step - options.warm_up) / max(1, options.steps - options.warm_up)
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def _shape_moments(parameter: Tensor, kept: State) -> State:
    """Lay moments out in memory as their parameter is; the fused step pairs them number by number."""
    return {
        name: torch.empty_like(parameter).copy_(value) if value.ndim == parameter.ndim and value.ndim else value
        for name, value in kept.items()
    }


def to_cpu(table: State) -> State:
    """Return copies on the CPU."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in table.items()}
