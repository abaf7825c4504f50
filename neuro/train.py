"""Fit MindEye2: subjects and targets in, weights out (Scotti et al. 2024)."""

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from voxelight.models.decoders.mindeye2 import MindEye2
from voxelight.models.training import processes
from voxelight.models.training.ahead import Ahead
from voxelight.models.training.loop import Hooks, LoopOptions, Values, run
from voxelight.models.training.seeds import seed_dropout, seeded
from voxelight.neuro.curves import count_mixing_epochs, soft_clip_temperatures
from voxelight.neuro.losses import Mixing
from voxelight.neuro.training import in_place
from voxelight.neuro.training.compiled import compiled, pays
from voxelight.neuro.training.objective import (
    Contrasts,
    Outputs,
    Phase,
    SampleLosses,
    Samples,
    contrast,
    rejoin,
    split,
)
from voxelight.neuro.training.optimiser import build_optimiser, build_scaler, choose_trained
from voxelight.neuro.training.plain import DTYPES
from voxelight.neuro.training.recipe import TrainingRecipe
from voxelight.neuro.training.ridge import find_weights
from voxelight.neuro.training.samples import Dealer, Dealt, TrainingData, move


@dataclass(frozen=True)
class Fitted:
    """What a training gave.

    Parameters
    ----------
    weights : under their published names, float32, on the device of the training
    finished : False where it was paused
    steps : gradient steps of the whole training
    made_by : recipe and hash of the data, for the model card
    """

    weights: Mapping[str, Tensor]
    finished: bool
    steps: int
    made_by: Mapping[str, Any]


def fit_decoder(
    network: MindEye2,
    data: TrainingData,
    recipe: TrainingRecipe,
    device: str,
    hooks: Hooks,
    options: LoopOptions = LoopOptions(),  # noqa: B008
    compile_layers: bool | None = None,
    step_in_place: bool | None = None,
) -> Fitted:
    """Fit a decoder to single trials, from its last checkpoint if there is one.

    Parameters
    ----------
    network : what `training.start.build_decoder` returned; it is trained in place
    data : single trials in the order of the network's voxels, what they are to predict, and what is held out
    recipe : everything else that decides the outcome
    device : ``cpu`` or ``cuda``; several processes each have their own, see `training.processes`
    hooks : checkpoints, curve and interruption
    options : how often they are used
    compile_layers : whether the prior's layers are compiled; None decides by the length of the training
    step_in_place : whether the gradient of the widest layer is left out, see `training.in_place`; None decides likewise

    Raises
    ------
    BadInput
        Data, network and recipe do not fit.
    Leak
        A held-out picture is among the training trials.
    Unavailable
        Targets are missing.
    Conflict
        The checkpoint is of another training.
    Diverged
        A loss is infinite or no number.
    """
    dealer = Dealer(data, recipe, network.config, pin=torch.device(device).type == "cuda")
    with seeded(recipe.seed, device):
        trainee = DecoderTrainee(network.to(device).train(), dealer, recipe, torch.device(device))
        if compile_layers is None:
            compile_layers = pays(recipe, trainee.steps, torch.device(device))
        with trainee.ahead, trainee.stepping(step_in_place), compiled(network, compile_layers):
            finished = run(trainee, options, hooks)
    network.eval()
    return Fitted(find_weights(network), finished, trainee.steps, trainee.made_by())


class DecoderTrainee:
    """A decoder with its optimiser.

    Parameters
    ----------
    network : on its device
    dealer : of samples
    recipe : of the training
    device : where to compute
    """

    def __init__(self, network: MindEye2, dealer: Dealer, recipe: TrainingRecipe, device: torch.device) -> None:
        choose_trained(network, recipe)
        self._network, self._dealer, self._recipe, self._device = network, dealer, recipe, device
        self._losses = SampleLosses(network, recipe.losses)
        self._model = _spread(self._losses)
        self._optimiser, self._schedule = build_optimiser(network, recipe, dealer.steps_an_epoch)
        self._scaler = build_scaler(recipe, device)
        self._mixed = count_mixing_epochs(recipe.epochs, recipe.losses.mixing_share)
        losses = recipe.losses
        self._temperatures = soft_clip_temperatures(
            recipe.epochs, losses.mixing_share, losses.soft_low, losses.soft_high
        ).tolist()
        self.steps = recipe.epochs * dealer.steps_an_epoch
        self.ahead: Ahead[Dealt] = Ahead(self._deal, self.steps)

    def stepping(self, wanted: bool | None) -> AbstractContextManager[None]:
        """Return a block in which the widest layer is stepped in place, where wanted; None decides by what pays."""
        if wanted is None:
            wanted = in_place.pays(self._network, self._recipe, self.steps, self._device)
        return in_place.stepped_in_place(self._network, self._optimiser, wanted and in_place.may(self._recipe))

    def made_by(self) -> dict[str, Any]:
        """Return recipe and data."""
        return {"recipe": self._recipe.model_dump(mode="json"), "data": self._dealer.sha256()}

    def step(self, number: int) -> Values:
        """Take one step; return its losses and what it was taken with."""
        dealt = self.ahead.take(number)
        samples, phase = self._dealer.place(dealt, number, self._device), self._phase(dealt, number)
        group = self._optimiser.param_groups[0]
        rate, beta1 = float(group["lr"]), float(group["betas"][0])
        values = self._descend(samples, phase, number)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._optimiser.zero_grad(set_to_none=True)
        if number + 1 < self.steps:
            self._advance()
        return {
            **values,
            "lr": rate,
            "beta1": beta1,
            "tau": phase.temperature,
            "mixed": float(dealt.mixing is not None),
        }

    def state(self) -> dict[str, Any]:
        """Return weights, moments, schedule and scale."""
        return {
            "network": dict(self._network.state_dict()),
            "optimiser": self._optimiser.state_dict(),
            "schedule": {key: value for key, value in self._schedule.state_dict().items() if not callable(value)},
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up such a state."""
        self._network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])

    def _advance(self) -> None:
        """Move the rate on, also where half precision let the first step be left out, which torch would warn of."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            self._schedule.step()

    def _deal(self, number: int) -> Dealt:
        return self._dealer.deal(number, self._epoch(number) < self._mixed)

    def _epoch(self, number: int) -> int:
        return number // self._dealer.steps_an_epoch

    def _phase(self, dealt: Dealt, number: int) -> Phase:
        if dealt.mixing is None:
            return Phase(None, self._temperatures[self._epoch(number) - self._mixed])
        mixing = Mixing(*(move(part, self._device) for part in dealt.mixing))
        return Phase(mixing, self._recipe.losses.mixing_temperature)

    def _descend(self, samples: Samples, phase: Phase, number: int) -> dict[str, Tensor]:
        """Leave the gradient of the whole batch with the parameters; return the losses."""
        parts, subjects = self._recipe.micro_batches, len(samples.voxels)
        first = [self._look(samples.part(part, parts), number, part) for part in range(parts)] if parts > 1 else []
        whole = self._compute(self._model, samples, number, 0) if parts == 1 else _rejoin(first, subjects)
        contrasts = contrast(whole, samples, phase, self._recipe.losses)
        if parts == 1:
            self._backward(whole, contrasts.gradients, 1)
        for part in range(parts if parts > 1 else 0):
            # Gradients are summed over the processes once, after the last part.
            waits = isinstance(self._model, DistributedDataParallel) and part + 1 < parts
            with self._model.no_sync() if waits else nullcontext():  # type: ignore[operator]
                outputs = self._compute(self._model, samples.part(part, parts), number, part)
                slopes = tuple(split(slope, subjects, part, parts) for slope in contrasts.gradients)
                self._backward(outputs, slopes, parts)
            first[part] = outputs
        own = torch.stack([torch.stack([part.prior, part.absolute]).detach() for part in first or [whole]]).mean(dim=0)
        return self._tell(processes.mean(own), contrasts)

    def _look(self, samples: Samples, number: int, part: int) -> Outputs:
        """Return the outputs that are contrasted, without what a way back needs."""
        with torch.no_grad():
            return self._compute(self._losses, samples._replace(draws=None), number, part)

    def _compute(self, model: torch.nn.Module, samples: Samples, number: int, part: int) -> Outputs:
        """Go through the network; the same step and part drop the same entries, however often."""
        seed_dropout(self._recipe.seed, number, processes.rank(), part)
        dtype = DTYPES[self._recipe.precision]
        with torch.autocast(self._device.type, dtype=dtype, enabled=dtype is not None):
            outputs: Outputs = model(samples)
        return outputs

    def _backward(self, outputs: Outputs, slopes: tuple[Tensor, ...], parts: int) -> None:
        """Go back through the network from its outputs, with the gradients that the contrasts ask for."""
        terms = self._losses.own_terms(outputs) / parts
        scale = self._scaler.scale(torch.ones_like(terms))
        rows = [outputs.retrieval] if outputs.maps is None else [outputs.retrieval, outputs.maps]
        # Scaled before it is rounded: in half precision it might be nothing after.
        ends = [(part, (slope * scale).to(part.dtype)) for part, slope in zip(rows, slopes, strict=True)]
        ends = [(part, slope) for part, slope in [*ends, (terms, scale)] if part.requires_grad]
        torch.autograd.backward([part for part, _ in ends], [slope for _, slope in ends])

    def _tell(self, own: Tensor, contrasts: Contrasts) -> dict[str, Tensor]:
        losses, (prior, absolute), values = self._recipe.losses, own, contrasts.values
        low_level = absolute + losses.contrast * values["contrast"]
        loss = losses.prior * prior + losses.clip * values["clip"] + losses.low_level * low_level
        return {"loss": loss, "prior": prior, "absolute": absolute, **values}


def _spread(losses: SampleLosses) -> torch.nn.Module:
    """Let gradients be averaged over the processes, if there are several."""
    if processes.count() == 1:
        return losses
    return DistributedDataParallel(losses, gradient_as_bucket_view=True)


def _rejoin(pieces: list[Outputs], subjects: int) -> Outputs:
    maps = [piece.maps for piece in pieces if piece.maps is not None]
    nothing = pieces[0].prior
    return Outputs(
        rejoin([piece.retrieval for piece in pieces], subjects),
        rejoin(maps, subjects) if maps else None,
        nothing,
        nothing,
    )
