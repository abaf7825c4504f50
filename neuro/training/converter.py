"""Teach the converter of captions: from the tokens that decoders predict to those that the caption model reads."""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.captioning.converter import TokenConverter
from voxelight.models.diffusion.noise import stage_generator
from voxelight.models.errors import BadInput
from voxelight.models.training import processes
from voxelight.models.training.loop import Hooks, LoopOptions, run
from voxelight.models.training.seeds import seeded
from voxelight.neuro.training.plain import Descent, PlainTrainee
from voxelight.neuro.training.targets import Targets, hash_keys


class ConverterDescent(Descent):
    """How the converter is trained. The published training is not told; these are ours."""

    steps: int = Field(20_000, gt=0)
    batch: int = Field(64, gt=0)
    learning_rate: float = Field(3e-4, gt=0)
    warm_up: int = Field(200, ge=0)


def fit_converter(
    converter: TokenConverter,
    keys: tuple[str, ...],
    targets: Targets,
    descent: ConverterDescent,
    device: str,
    hooks: Hooks,
) -> bool:
    r"""Train a converter to the least squared error, from the last checkpoint if there is one.

    .. math:: \| c(\text{tokens of one encoder}) - \text{tokens of the other} \|^2

    Parameters
    ----------
    converter : trained in place
    keys : of the pictures
    targets : of the kinds ``tokens`` and ``caption_tokens``
    descent : steps and rates
    device : ``cpu`` or ``cuda``
    hooks : checkpoints, curve and interruption

    Returns
    -------
    whether the end was reached, and not a pause

    Raises
    ------
    BadInput
        There are fewer pictures than a batch.
    Unavailable
        Targets are missing.
    Conflict
        The checkpoint is of another training.
    Diverged
        A loss is infinite or no number.
    """
    if len(keys) < descent.batch:
        raise BadInput(f"{len(keys)} pictures", f"at least {descent.batch}, a batch", "Take smaller batches.")
    targets.check(["tokens", "caption_tokens"], keys)
    size = descent.samples()

    def loss(network: nn.Module, number: int, part: int) -> Tensor:
        rows = stage_generator(descent.seed, f"converter:{number}").choice(len(keys), descent.batch, replace=False)
        start = (processes.rank() * descent.micro_batches + part) * size
        chosen = [keys[row] for row in rows[start : start + size]]
        given, wanted = (targets.read(kind, chosen, number).to(device).float() for kind in ("tokens", "caption_tokens"))
        return F.mse_loss(network(given).float(), wanted)

    with seeded(descent.seed, device):
        converter.to(torch.device(device))
        trainee = PlainTrainee(converter, loss, descent, {"pictures": hash_keys(keys)})
        return run(trainee, LoopOptions(), hooks)
