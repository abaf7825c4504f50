"""MindEye2's loss, in two parts: what each sample gives by itself, and contrasts over the whole batch."""

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.decoders.mindeye2 import MindEye2
from voxelight.models.training import processes
from voxelight.neuro.losses import Mixing, bimixco_nce, soft_clip, soft_contrast, top1
from voxelight.neuro.training.recipe import Defects, Losses


class Draws(NamedTuple):
    """What the prior's loss draws for each sample.

    Parameters
    ----------
    times : tensor (b,), int64
    noise : tensor (b, token, dim), standard normal
    brain_keep, image_keep : tensor (b,), bool
    """

    times: Tensor
    noise: Tensor
    brain_keep: Tensor
    image_keep: Tensor


class Samples(NamedTuple):
    """Samples of one step, all of a subject before the next; a term that is left out needs no target.

    Parameters
    ----------
    voxels : tensor (sample, voxel) for each subject, mixed already
    tokens : tensor (b, token, dim)
    latent : tensor (b, 4, h, w), what the blurry latent is compared with
    maps, maps_aug : tensor (b, place, dim), of the pictures and of augmented ones
    draws : of the prior
    """

    voxels: tuple[Tensor, ...]
    tokens: Tensor
    latent: Tensor | None = None
    maps: Tensor | None = None
    maps_aug: Tensor | None = None
    draws: Draws | None = None

    def part(self, number: int, parts: int) -> "Samples":
        """Return a part with as many samples of each subject as any other."""

        def cut(rows: Tensor | None) -> Tensor | None:
            return None if rows is None else split(rows, len(self.voxels), number, parts)

        draws = None if self.draws is None else Draws(*(split(x, len(self.voxels), number, parts) for x in self.draws))
        voxels = tuple(split(rows, 1, number, parts) for rows in self.voxels)
        return Samples(
            voxels, cast(Tensor, cut(self.tokens)), cut(self.latent), cut(self.maps), cut(self.maps_aug), draws
        )


class Outputs(NamedTuple):
    """What the network gives for samples.

    Parameters
    ----------
    retrieval : tensor (b, token, dim)
    maps : tensor (b, place, dim), where they are contrasted
    prior, absolute : scalars, means over the samples; 0 where the term is left out
    """

    retrieval: Tensor
    maps: Tensor | None
    prior: Tensor
    absolute: Tensor


class SampleLosses(nn.Module):
    """The network with the terms that each sample has by itself; calling it is all that a training computes of it.

    Parameters
    ----------
    network : a decoder whose sequence has one entry
    losses : terms of weight 0 are not computed
    """

    def __init__(self, network: MindEye2, losses: Losses) -> None:
        super().__init__()
        self.network = network
        self.losses = losses

    def forward(self, samples: Samples) -> Outputs:
        """Return outputs and terms of samples."""
        ridge = self.network.ridge
        hidden = [ridge(voxels[:, None], subject) for subject, voxels in enumerate(samples.voxels)]
        found = self.network.backbone(torch.cat(hidden))
        nothing = samples.tokens.new_zeros((), dtype=torch.float32)
        prior, absolute = nothing, nothing
        if self.losses.prior and self.network.diffusion_prior is not None and samples.draws is not None:
            prior, _ = self.network.diffusion_prior.loss(found.tokens, samples.tokens, *samples.draws)
        if self.losses.low_level and samples.latent is not None:
            absolute = F.l1_loss(found.blurry_latent.float(), samples.latent.float())
        contrasted = self.losses.low_level and self.losses.contrast and samples.maps is not None
        return Outputs(found.retrieval, found.maps if contrasted else None, prior, absolute)

    def own_terms(self, outputs: Outputs) -> Tensor:
        r"""Return the weighted sum of the terms, :math:`30 L_p + \tfrac12 L_1`."""
        return self.losses.prior * outputs.prior + self.losses.low_level * outputs.absolute


class Phase(NamedTuple):
    """Where in the training a step is.

    Parameters
    ----------
    mixing : how its voxels were mixed, numbered through the batch; None in the SoftCLIP phase
    temperature : of the contrast
    """

    mixing: Mixing | None
    temperature: float


class Contrasts(NamedTuple):
    """Terms over a batch, and what they ask of each output.

    Parameters
    ----------
    values : ``clip``, ``contrast`` and ``top1``, the share of samples whose own image is the nearest; scalars
    gradients : of the weighted sum, with respect to `Outputs.retrieval` and, where there are, `Outputs.maps`; float32
    """

    values: Mapping[str, Tensor]
    gradients: tuple[Tensor, ...]


def contrast(outputs: Outputs, samples: Samples, phase: Phase, losses: Losses) -> Contrasts:
    """Compute what couples the samples of a batch, over all processes, in float32.

    The gradients are taken here, up to the network's outputs, so that the network may then be gone through backwards
    in parts (Gao et al. 2021). Every process computes the same contrasts of all rows and keeps the gradients of its
    own; as gradients of parameters are averaged over the processes, they are multiplied by the number of these.

    Parameters
    ----------
    outputs : of the samples
    samples : of this process
    phase : which contrast, and its temperature
    losses : weights
    """
    subjects = len(samples.voxels)
    rows = [outputs.retrieval] if outputs.maps is None else [outputs.retrieval, outputs.maps]
    leaves = [processes.gather(part.detach().float(), subjects).requires_grad_() for part in rows]
    with torch.enable_grad(), torch.autocast(leaves[0].device.type, enabled=False):
        values = {"clip": leaves[0].new_zeros(()), "contrast": leaves[0].new_zeros(())}
        total = 0 * leaves[0].sum()
        if losses.clip:
            targets = processes.gather(samples.tokens, subjects)
            values["clip"], values["top1"] = _clip(leaves[0], targets, phase)
            total = total + losses.clip * values["clip"]
        if len(leaves) > 1:
            maps, augmented = (
                processes.gather(cast(Tensor, part), subjects).float() for part in (samples.maps, samples.maps_aug)
            )
            values["contrast"] = soft_contrast(leaves[1], maps, augmented, losses.contrast_temperature)
            total = total + losses.low_level * losses.contrast * values["contrast"]
        slopes = torch.autograd.grad(total, leaves)
    kept = (processes.own(slope, subjects) * processes.count() for slope in slopes)
    return Contrasts(
        {name: value.detach() for name, value in values.items()},
        tuple(kept),
    )


def join_mixings(mixings: list[Mixing], defects: Defects) -> Mixing:
    """Return the mixing of a batch from those of its subjects, whose samples follow each other."""
    sizes = [len(mixing.perm) for mixing in mixings]
    offsets = [0 if defects.shared_permutation else sum(sizes[:number]) for number in range(len(sizes))]
    perm = torch.cat([mixing.perm + offset for mixing, offset in zip(mixings, offsets, strict=True)])
    betas = torch.cat([mixing.betas for mixing in mixings])
    if not defects.overwritten_partners:
        # The share of the partner is assigned last: at 0, a sample that is its own partner has its whole target.
        betas = torch.where(perm == torch.arange(len(perm)), 0.0, betas)
    return Mixing(perm, betas)


def split(rows: Tensor, subjects: int, number: int, parts: int) -> Tensor:
    """Return a part of rows (subject * sample, ...) with as many samples of each subject as any other."""
    return processes.by_subject(rows, subjects, parts)[:, number].flatten(0, 1)


def rejoin(pieces: list[Tensor], subjects: int) -> Tensor:
    """Return the rows that were `split`."""
    return torch.stack([processes.by_subject(piece, subjects) for piece in pieces], dim=1).flatten(0, 2)


def _clip(retrieval: Tensor, targets: Tensor, phase: Phase) -> tuple[Tensor, Tensor]:
    P, Q = (F.normalize(part.float().flatten(1), dim=-1) for part in (retrieval, targets))
    if phase.mixing is None:
        loss = soft_clip(P, Q, phase.temperature)
    else:
        loss = bimixco_nce(P, Q, phase.mixing, phase.temperature)
    return loss, top1(P.detach() @ Q.T)
