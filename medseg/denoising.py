"""The two losses of cDAL (Hejrati et al. 2024): a discriminator of steps, and a generator of clean labels."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from voxelight.medseg.losses import Loss
from voxelight.medseg.objectives import Objective, Phase, Terms
from voxelight.models.errors import BadInput
from voxelight.models.segmentation.cdal import CDAL
from voxelight.models.segmentation.cdal_diffusion import noise_pair, sample_posterior
from voxelight.models.segmentation.cdal_discriminator import attention_map, gradient_penalty, least_side

_SMALLEST = 1e-6
_BETAS = (0.5, 0.9)


class Denoising(Objective):
    r"""Steps of diffusion, real and drawn.

    .. math:: L_D = \mathrm{softplus}(-D(x_t)) + \mathrm{softplus}(D(\hat x_t)) + R_1, \qquad
        L_G = \overline{w\,(x_0 - \hat x_0)^2} + \lambda\,\mathrm{softplus}(-D(\hat x_t)) + \mu\,L(\hat x_0)

    with :math:`\hat x_0` the generator's label of :math:`x_{t+1}`, :math:`\hat x_t` drawn from the posterior, and w
    one, or where the discriminator looks. As published, w = 1, λ = μ = 0, and the generator's :math:`x_{t+1}` is
    noise added to the label times where the discriminator looks.

    Parameters
    ----------
    network : a `CDAL`, whose configuration has the weights
    loss : L, of `medseg.losses.LOSSES`; not computed where its weight is zero
    """

    taken: Tensor

    def __init__(self, network: CDAL, loss: Loss) -> None:
        super().__init__()
        config = network.config
        self.config, self.loss = config, loss
        self.discriminator = config.build_discriminator() if config.needs_discriminator else None
        self.register_buffer("taken", torch.zeros((), dtype=torch.long))

    def phases(self, network: nn.Module) -> tuple[Phase, ...]:
        """Return the discriminator, where there is one, and the generator."""
        generator = Phase("generator", list(network.parameters()), betas=_BETAS)
        if self.discriminator is None:
            return (generator,)
        parameters = list(self.discriminator.parameters())
        judge = Phase("discriminator", parameters, self.config.discriminator_rate, _BETAS)
        return judge, generator

    def forward(self, phase: str, network: nn.Module, image: Tensor, reference: Tensor, generator: Generator) -> Terms:
        """Return the loss of the discriminator or of the generator, with its parts."""
        assert isinstance(network, CDAL)
        padded, label = network.pad(image), network.encode_labels(_pad_background(network, reference))
        self._refuse_small(label)
        draw = _Draw(network, label, generator)
        if phase == "discriminator":
            return self._judge(network, padded, label, draw)
        return self._generate(network, padded, label, draw)

    def _judge(self, network: CDAL, image: Tensor, label: Tensor, draw: "_Draw") -> Terms:
        assert self.discriminator is not None
        x_t, x_next = draw.pair(label)
        with torch.no_grad():
            drawn = draw.posterior(draw.denoise(image, x_next), x_next)
        penalised = bool(self.taken % self.config.r1_interval == 0) and self.config.r1_gamma > 0
        device = x_t.device.type
        # The slope of a slope is too small for half precision.
        with torch.autocast(device, enabled=torch.is_autocast_enabled(device) and not penalised):
            real = self.discriminator(x_t.requires_grad_(penalised), draw.t, x_next)
        terms = {
            "real": F.softplus(-real.float()).mean(),
            "drawn": F.softplus(self.discriminator(drawn, draw.t, x_next).float()).mean(),
        }
        if penalised:
            terms["r1"] = gradient_penalty(real.float(), x_t, self.config.r1_gamma)
        self.taken += 1
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def _generate(self, network: CDAL, image: Tensor, label: Tensor, draw: "_Draw") -> Terms:
        config = self.config
        x_t, x_next = draw.pair(label)
        looks = None
        if config.attention != "none" and self.discriminator is not None:
            with torch.no_grad():
                features = self.discriminator.look(x_t, draw.t, x_next)[config.attention_scale]
                looks = attention_map(features.float(), label.shape[2:])
        if config.attention == "label" and looks is not None:
            _, x_next = draw.pair(label * looks)
        clean = draw.denoise(image, x_next).float()
        weight = weigh(looks) if config.attention == "loss" and looks is not None else 1.0
        terms = {"squared error": (weight * (label - clean).square()).mean()}
        total = terms["squared error"]
        if config.adversarial_weight and self.discriminator is not None:
            logits = self.discriminator(draw.posterior(clean, x_next), draw.t, x_next)
            terms["adversarial"] = F.softplus(-logits.float()).mean()
            total = total + config.adversarial_weight * terms["adversarial"]
        if config.supervision_weight:
            logits = network.probabilities(clean).clamp(min=_SMALLEST).log()
            terms["supervised"] = self.loss(logits, network.probabilities(label))
            total = total + config.supervision_weight * terms["supervised"]
        return {"loss": total, **terms}

    def _refuse_small(self, label: Tensor) -> None:
        least = least_side(self.config.discriminator)
        if self.discriminator is not None and min(label.shape[2:]) < least:
            raise BadInput(
                f"training crops of {label.shape[2]} x {label.shape[3]} pixels",
                f"at least {least} x {least} for a {self.config.discriminator} discriminator",
                'Take larger crops, or discriminator = "small".',
            )


class _Draw:
    """The random draws of one phase: a step for each item, noise and latents."""

    def __init__(self, network: CDAL, label: Tensor, generator: Generator) -> None:
        self.network, self.generator = network, generator
        self.t = torch.randint(len(network.schedule.betas), (len(label),), generator=generator, device=label.device)
        self.noises = [torch.randn(label.shape, generator=generator, device=label.device) for _ in range(3)]
        self.latent = torch.randn(len(label), network.config.latent, generator=generator, device=label.device)

    def pair(self, label: Tensor) -> tuple[Tensor, Tensor]:
        return noise_pair(self.network.schedule, label, self.t, *self.noises[:2])

    def denoise(self, image: Tensor, x_next: Tensor) -> Tensor:
        made: Tensor = self.network.generator(x_next, self.t, self.latent, self.network.generator.encode(image))
        return made

    def posterior(self, clean: Tensor, x_next: Tensor) -> Tensor:
        return sample_posterior(self.network.schedule, clean.float(), x_next, self.t, self.noises[2])


def weigh(looks: Tensor) -> Tensor:
    """Return weights of mean one within each image, between 0 and 2, that rise with where the discriminator looks."""
    spread = looks.std(dim=(2, 3), keepdim=True) + _SMALLEST
    weights = torch.sigmoid((looks - looks.mean(dim=(2, 3), keepdim=True)) / spread)
    return weights / weights.mean(dim=(2, 3), keepdim=True)


def _pad_background(network: CDAL, reference: Tensor) -> Tensor:
    """Return the reference on the padded grid, where what was appended is background."""
    padded = network.pad(reference)
    if padded.shape != reference.shape:
        padded = padded.clone()
        padded[:, 0] += 1 - padded.sum(dim=1)
    return padded
