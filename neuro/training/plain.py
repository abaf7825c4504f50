"""Gradient steps of a network with one loss and a constant rate: what the UNet and the converter are trained by."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from voxelight.models.training import processes
from voxelight.models.training.loop import Values
from voxelight.models.training.seeds import seed_dropout

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}

Loss = Callable[[nn.Module, int, int], Tensor]
"""``(network, step, part) -> scalar``, the mean over the samples of a part of this process's batch."""


class Descent(BaseModel):
    """How a network is trained.

    Parameters
    ----------
    steps, batch : gradient steps, and samples of one over all processes
    learning_rate, warm_up : reached along a line over so many steps, and kept
    weight_decay : of AdamW
    precision : that layers are computed in; weights and optimiser are float32
    micro_batches : equal parts of a batch, computed one after the other
    seed : of every draw
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    warm_up: NonNegativeInt = 0
    weight_decay: NonNegativeFloat = 1e-2
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    micro_batches: PositiveInt = 1
    seed: NonNegativeInt = 42

    def samples(self) -> int:
        """Return the samples of a part of one process's batch.

        Raises
        ------
        BadInput
            The batch can't be shared out evenly.
        """
        return processes.share(self.batch) // self.micro_batches

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return self.learning_rate * min(1.0, (step + 1) / (self.warm_up + 1))


class PlainTrainee:
    """A network with AdamW.

    Parameters
    ----------
    network : on its device
    loss : of a part of a batch; its draws hang on the step, the part and the process alone
    descent : steps and rates
    made_by : all else that decides the curve, as JSON
    """

    def __init__(self, network: nn.Module, loss: Loss, descent: Descent, made_by: Mapping[str, Any]) -> None:
        self._network, self._loss, self._descent, self._made_by = network.train(), loss, descent, dict(made_by)
        self._device = next(network.parameters()).device
        several = processes.count() > 1
        self._model = DistributedDataParallel(network) if several else network
        trained = [value for value in network.parameters() if value.requires_grad]
        cuda = self._device.type == "cuda"
        self._optimiser = torch.optim.AdamW(trained, lr=0.0, weight_decay=descent.weight_decay, fused=cuda)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=descent.precision == "fp16")
        self.steps = descent.steps

    def made_by(self) -> dict[str, Any]:
        """Return options and data."""
        return {"descent": self._descent.model_dump(mode="json"), **self._made_by}

    def step(self, number: int) -> Values:
        """Take one step; return its loss and rate."""
        rate = self._descent.rate(number)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        losses = [self._part(number, part) for part in range(self._descent.micro_batches)]
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._optimiser.zero_grad(set_to_none=True)
        return {"loss": processes.mean(torch.stack(losses).mean()), "lr": rate}

    def state(self) -> dict[str, Any]:
        """Return weights, moments and scale."""
        return {
            "network": dict(self._network.state_dict()),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up such a state."""
        self._network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])

    def _part(self, number: int, part: int) -> Tensor:
        descent = self._descent
        seed_dropout(descent.seed, number, processes.rank(), part)
        waits = isinstance(self._model, DistributedDataParallel) and part + 1 < descent.micro_batches
        dtype = DTYPES[descent.precision]
        with self._model.no_sync() if waits else nullcontext():  # type: ignore[operator]
            with torch.autocast(self._device.type, dtype=dtype, enabled=dtype is not None):
                loss = self._loss(self._model, number, part)
            torch.autograd.backward(self._scaler.scale(loss / descent.micro_batches))
        return loss.detach()
