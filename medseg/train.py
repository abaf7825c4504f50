"""Fit the weights of a recipe: cases in, weights and a curve out."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import ValidationError
from torch import Generator, Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from voxelight.medseg.cases import Case
from voxelight.medseg.losses import LOSSES, OF_REGIONS
from voxelight.medseg.objectives import Phase, build_objective
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.medseg.recipes.training import Training
from voxelight.medseg.train_samples import Dealer, Sample, prepare_sample
from voxelight.medseg.train_validation import Validation, split_validation
from voxelight.models.diffusion.noise import stage_generator
from voxelight.models.errors import BadInput
from voxelight.models.registry import SEGMENTERS, find_config
from voxelight.models.training import processes
from voxelight.models.training.ahead import Ahead
from voxelight.models.training.loop import Hooks, LoopOptions, Values, run
from voxelight.models.training.seeds import seed_dropout, seeded

State = dict[str, Tensor]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}
_LARGEST = 2**63
_LEAST_FITTING = 0.9


@dataclass(frozen=True)
class Fitted:
    """What a training gave.

    Parameters
    ----------
    weights : the running mean, with normalisation statistics of its own, on the CPU; empty where it was paused
    finished : False where it was paused
    steps : gradient steps that were taken; fewer than the recipe's where it ended early
    made_by : recipe and hash of the data
    validation : label -> Dice over the cases that were looked at, of the last look; empty without any
    watched : names of the cases that were looked at, and not trained on
    """

    weights: State
    finished: bool
    steps: int
    made_by: Mapping[str, Any]
    validation: Mapping[str, float] = field(default_factory=dict)
    watched: tuple[str, ...] = ()


def fit(
    cases: Sequence[Case],
    recipe: SegmentationRecipe,
    device: str,
    hooks: Hooks = Hooks(),  # noqa: B008
    options: LoopOptions = LoopOptions(),  # noqa: B008
    person_of: Mapping[str, str] | None = None,
    start: State | None = None,
) -> Fitted:
    """Fit the recipe's network on cases, from its last checkpoint if there is one.

    Parameters
    ----------
    cases : images with their labels
    recipe : network, training options and seed
    device : ``cpu`` or ``cuda``; several processes each have their own, see `models.training.processes`
    hooks : checkpoints, curve and interruption
    options : how often they are used
    person_of : case -> person, so that nobody is trained on and looked at; each case its own without
    start : weights to start from; what does not fit, such as a last layer for other labels, starts fresh

    Raises
    ------
    BadInput
        There is no case, a case does not fit the recipe, it can't be trained, or too little of `start` fits.
    Conflict
        The checkpoint is of another training.
    Diverged
        A loss is infinite or no number.
    """
    training = trainable(recipe)
    if not cases:
        raise BadInput("no case to train on", "at least one image with labels", "Check the folder.")
    watched = split_validation([case.name for case in cases], person_of, training.validation, recipe.seed)
    samples = [prepare_sample(case, recipe) for case in cases]
    with seeded(recipe.seed, device), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        trainee = SegmentationTrainee(samples, watched, recipe, torch.device(device), start)
        with trainee.ahead:
            finished = run(trainee, options, hooks)
        weights = trainee.settle() if finished else {}
    return Fitted(weights, finished, trainee.steps, trainee.made_by(), trainee.seen, tuple(sorted(watched)))


def trainable(recipe: SegmentationRecipe) -> Training:
    """Return the training options of a recipe that has them.

    Raises
    ------
    BadInput
        The recipe borrows the weights of another, names an unknown loss, or one that is not for what its network gives.
    """
    if recipe.training is None:
        raise BadInput(f"recipe {recipe.name}, which has no training options", "a recipe with its own weights",
                       f"Train {recipe.weights}, whose weights it uses.")  # fmt: skip
    if recipe.training.loss not in LOSSES:
        raise BadInput(f"the loss {recipe.training.loss!r}", f"one of {', '.join(LOSSES)}", "Correct the recipe.")
    if bool(recipe.label_regions) != (recipe.training.loss in OF_REGIONS):
        told = "regions that overlap" if recipe.label_regions else "one label a voxel"
        fitting = [name for name in LOSSES if (name in OF_REGIONS) == bool(recipe.label_regions)]
        raise BadInput(
            f"the loss {recipe.training.loss} for {told}", f"one of {', '.join(fitting)}", "Correct the recipe."
        )
    return recipe.training


def build_network(recipe: SegmentationRecipe) -> nn.Module:
    """Return the recipe's network with fresh weights.

    Raises
    ------
    NotFound
        There is no such network.
    BadInput
        It has no such option, or a value has no use.
    """
    try:
        config = find_config(SEGMENTERS, recipe.network)(**recipe.config)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadInput(
            f"{'.'.join(map(str, first['loc'])) or 'options'} of {recipe.network}: {first['msg'].lower()}",
            "options that the network has, with values of use", "Correct [config] in the recipe.",
        ) from None  # fmt: skip
    network: nn.Module = config.build()
    classes = getattr(network.config, "classes", recipe.channels)
    if recipe.label_regions and (classes != recipe.channels or getattr(network, "objective", "") == "denoising"):
        raise BadInput(f"{recipe.network} with {classes} classes for {recipe.channels} regions that overlap",
                       "as many classes as regions, of a network that gives each by itself",
                       "Set `classes` to the number of regions; cdal draws one label a voxel.")  # fmt: skip
    return network


def take_over(network: nn.Module, start: State) -> None:
    """Give a network the weights that fit it by name and shape, in its own precision; the rest stays as it was.

    Parameters
    ----------
    network : changed in place
    start : parameter name -> tensor

    Raises
    ------
    BadInput
        Less than nine tenths of the network's values are among them: they are of another network, or of other sizes.
    """
    own = network.state_dict()
    fitting = {name: value for name, value in start.items() if name in own and value.shape == own[name].shape}
    found, total = (sum(own[name].numel() for name in names) for names in (fitting, own))
    if found < _LEAST_FITTING * total:
        fit = f"weights to start from, of which {found} values fit a network of {total}"
        raise BadInput(fit, f"{_LEAST_FITTING:.0%} or more", "Start from the same network with the same [config].")
    network.load_state_dict(fitting, strict=False)


class SegmentationTrainee:
    """A network with what it is trained by.

    Parameters
    ----------
    samples : all cases, prepared
    watched : names of those that are looked at only
    recipe : with training options
    device : where to compute
    start : weights to start from; None: fresh ones
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        watched: frozenset[str],
        recipe: SegmentationRecipe,
        device: torch.device,
        start: State | None = None,
    ) -> None:
        self._recipe, self._training, self._device = recipe, trainable(recipe), device
        network = build_network(recipe)
        if start is not None:
            take_over(network, start)
        self._network = _place(network, self._training, device)
        self._objective = build_objective(self._network, LOSSES[self._training.loss], self._training.level_decay).to(
            device
        )
        self._phases = self._objective.phases(self._network)
        self._optimisers = {phase.name: _build_optimiser(phase, self._training, device) for phase in self._phases}
        self._mean = copy.deepcopy(self._network).eval()
        self._dtype = DTYPES[_choose_precision(self._training, device)]
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._dtype is torch.float16)
        self._dealer = Dealer([s for s in samples if s.name not in watched], recipe, self._training, device)
        self._validation = Validation([s for s in samples if s.name in watched], recipe, device)
        self._best: tuple[float, int, State] = (-1.0, 0, {})
        self.seen: dict[str, float] = {}
        self.steps = self._training.steps
        self.ahead: Ahead[tuple[Tensor, Tensor] | None] = Ahead(self._dealer.read, self.steps)

    def made_by(self) -> dict[str, Any]:
        """Return recipe and data."""
        return {"recipe": self._recipe.of_training(), "data": self._dealer.sha256()}

    def step(self, number: int) -> Values:
        """Take one step; return its losses, its rate, and now and then the Dice of the running mean."""
        image, reference = self._dealer.place(self.ahead.take(number), number)
        rate = self._training.learning_rate * self._training.rate(number)
        values: dict[str, Tensor | float] = {}
        for phase in self._phases:
            found = self._descend(phase, image, reference, number, rate)
            values |= found if len(self._phases) == 1 else {f"{phase.name}_{name}": v for name, v in found.items()}
            values["loss"] = found["loss"]
        self._scaler.update()
        self._average(number)
        looked = self._look(number)
        return {**values, "lr": rate, **looked}

    def state(self) -> dict[str, Any]:
        """Return weights, their mean, moments, scale, and what early stopping remembers."""
        return {
            "network": dict(self._network.state_dict()),
            "mean": dict(self._mean.state_dict()),
            "objective": dict(self._objective.state_dict()),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self._optimisers.items()},
            "scaler": self._scaler.state_dict(),
            "best": self._best,
            "seen": self.seen,
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up such a state."""
        self._network.load_state_dict(state["network"])
        self._mean.load_state_dict(state["mean"])
        self._objective.load_state_dict(state["objective"])
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self._scaler.load_state_dict(state["scaler"])
        dice, looks, best = state["best"]
        self._best = dice, looks, {name: value.to(self._device) for name, value in best.items()}
        self.seen, self.steps = dict(state["seen"]), int(state["steps"])

    def settle(self) -> State:
        """Return the mean, or the best one where the training could end early, with statistics of its own."""
        if self._best[2]:
            self._mean.load_state_dict(self._best[2])
        if any(isinstance(module, _BatchNorm) for module in self._mean.modules()):
            # The mean of many weights has seen no crop yet, so neither have its statistics.
            first = self._training.steps
            numbers = range(first, first + self._training.settling)
            with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not None):
                update_bn((self._dealer.place(self._dealer.read(number), number)[0] for number in numbers), self._mean)
        return {name: value.detach().cpu().clone() for name, value in self._mean.state_dict().items()}

    def _descend(self, phase: Phase, image: Tensor, reference: Tensor, number: int, rate: float) -> dict[str, Tensor]:
        """Move what belongs to a phase; return its loss and the parts of it."""
        optimiser, parameters = self._optimisers[phase.name], list(phase.parameters)
        for group in optimiser.param_groups:
            group["lr"] = rate * phase.rate
        seed_dropout(self._recipe.seed, number, processes.rank(), 0)
        drawn = stage_generator(self._recipe.seed, f"{phase.name}:{number}:{processes.rank()}").integers(_LARGEST)
        generator = Generator(self._device).manual_seed(int(drawn))
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not None):
            terms = self._objective(phase.name, self._network, image, reference, generator)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(self._scaler.scale(terms["loss"]), inputs=parameters)
        _share_gradients(parameters)
        if self._training.clip is not None:
            self._scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(parameters, self._training.clip)
        self._scaler.step(optimiser)
        names = sorted(terms)
        means = processes.mean(torch.stack([terms[name].detach().float() for name in names]))
        return dict(zip(names, means, strict=True))

    @torch.no_grad()
    def _average(self, number: int) -> None:
        decay = min(self._training.average, (number + 1) / (10 + number))
        state, mean = self._network.state_dict(), self._mean.state_dict()
        floats = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([mean[name] for name in floats], [state[name] for name in floats], 1 - decay)

    def _look(self, number: int) -> dict[str, float]:
        """Score the running mean now and then; end the training where it has not become better for long."""
        due = (number + 1) % self._training.validate_steps == 0 or number + 1 == self.steps
        if not self._validation.samples or not due:
            return {}
        self.seen = self._validation.score(self._mean)
        overall = sum(self.seen.values()) / max(1, len(self.seen))
        if self._training.patience is not None:
            if overall > self._best[0]:
                self._best = overall, 0, {name: value.clone() for name, value in self._mean.state_dict().items()}
            else:
                self._best = self._best[0], self._best[1] + 1, self._best[2]
            if self._agree(self._best[1] >= self._training.patience):
                self.steps = number + 1
        return {"dice": overall, **{f"dice {label}": value for label, value in self.seen.items()}}

    def _agree(self, wish: bool) -> bool:
        return wish if processes.count() == 1 else processes.agree(wish)


def _place(network: nn.Module, training: Training, device: torch.device) -> nn.Module:
    """Bring a network to a device in the order of memory that convolutions are fast in."""
    if processes.count() > 1 and device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    flat = training.window[2] == 1
    network = network.to(device).to(memory_format=torch.channels_last if flat else torch.channels_last_3d)
    return network.train()


def _choose_precision(training: Training, device: torch.device) -> str:
    if training.precision == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    return training.precision


def _build_optimiser(phase: Phase, training: Training, device: torch.device) -> torch.optim.Optimizer:
    fused = device.type == "cuda"
    if training.optimiser == "sgd":
        return torch.optim.SGD(
            phase.parameters, lr=0.0, momentum=0.99, nesterov=True, weight_decay=training.weight_decay, fused=fused
        )
    return torch.optim.AdamW(
        phase.parameters, lr=0.0, betas=phase.betas, weight_decay=training.weight_decay, fused=fused
    )


def _share_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Average gradients over the processes, all in one message."""
    if processes.count() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= processes.count()
    parts = torch.split(flat, [each.numel() for each in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
