"""Three steps of training beside a reference that is written out by hand: losses, AdamW and one cycle."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from voxelight.models.diffusion.noise import stage_generator
from voxelight.models.training.loop import Hooks
from voxelight.neuro.train import fit_decoder
from voxelight.neuro.training.recipe import Defects, Losses
from voxelight.neuro.training.samples import Dealer

STEPS_COMPARED = 3


class Stop(Exception):
    pass


class Curve:
    def __init__(self):
        self.rows = []

    def write(self, rows):
        self.rows += rows

    def rewind(self, step):
        assert step == 0


def train_three_steps(network, data, recipe):
    def stop(done, total):
        if done == STEPS_COMPARED:
            raise Stop

    curve = Curve()
    with pytest.raises(Stop):
        fit_decoder(network, data, recipe, "cpu", Hooks(log=curve, on_step=stop), one_look())
    return curve.rows


def one_look():
    from voxelight.models.training.loop import LoopOptions

    return LoopOptions(log_steps=1)


class Reference:
    """A second training of the same network, from the raw trials and the published formulas.

    It shares the network's forward pass, the order of trials and the numbers that are drawn, and nothing else.
    """

    def __init__(self, network, data, recipe):
        self.network = copy.deepcopy(network).train()
        self.data, self.recipe = data, recipe
        self.dealer = Dealer(data, recipe, network.config)
        self.per_epoch = recipe.trials_a_session * recipe.sessions // (recipe.batch * len(data.subjects))
        self.total = recipe.epochs * self.per_epoch
        self.moments = {}
        self.sure = {}
        self.parameters = {name: value for name, value in self.network.named_parameters() if value.requires_grad}

    def step(self, number):
        loss = self.loss(number)
        names, parameters = zip(*self.parameters.items(), strict=True)
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True)
        self.update(number, dict(zip(names, slopes, strict=True)))
        return loss.item()

    def loss(self, number):
        epoch, place = divmod(number, self.per_epoch)
        mixed = epoch < int(self.recipe.losses.mixing_share * self.recipe.epochs)
        rows = self.dealer._plan(epoch)[:, place]
        permutations, keeps = self.mixing(number, rows.shape, mixed)
        hidden, tokens, latents, clean_latents, maps, augmented = [], [], [], [], [], []
        for subject, (data, trials) in enumerate(zip(self.data.subjects, rows, strict=True)):
            keys = [data.pictures[trial] for trial in trials]
            keep, perm = keeps[subject], permutations[subject]
            voxels = torch.tensor(np.stack([data.voxels[trial] for trial in trials]))
            voxels = keep[:, None] * voxels + (1 - keep[:, None]) * voxels[perm]
            linear = self.network.ridge.linears[subject]
            hidden.append(voxels @ linear.weight.T + linear.bias)
            tokens.append(self.target("tokens", keys, number))
            latent = self.target("latent", keys, number)
            clean_latents.append(latent)
            spread = keep[:, None, None, None]
            latents.append(spread * latent + (1 - spread) * latent[perm])
            maps.append(self.target("maps", keys, number))
            augmented.append(self.target("maps_aug", keys, number))
        found = self.network.backbone(torch.cat(hidden)[:, None])
        tokens = torch.cat(tokens)
        latent = torch.cat(clean_latents if self.recipe.defects.unmixed_latents else latents)
        prior = self.prior(found.tokens, tokens, number)
        clip = self.clip(found.retrieval, tokens, permutations, keeps, epoch, mixed)
        absolute = (found.blurry_latent - latent).abs().mean()
        soft = self.soft(found.maps, torch.cat(maps), torch.cat(augmented))
        return 30 * prior + clip + 0.5 * (absolute + 0.1 * soft)

    def target(self, kind, keys, number):
        return self.data.targets.read(kind, keys, number).float()

    def mixing(self, number, shape, mixed):
        """Partners and kept shares of each subject, drawn as the training draws them."""
        chance = stage_generator(self.recipe.seed, f"mixing:{number}")
        permutations, keeps = [], []
        for _ in range(shape[0]):
            perm = torch.from_numpy(chance.permutation(shape[1]))
            beta = torch.from_numpy(chance.beta(0.15, 0.15, shape[1])).float()
            chosen = torch.from_numpy(chance.random(shape[1]) < 0.5)
            permutations.append(perm)
            keeps.append(torch.where(chosen, beta, 1.0) if mixed else torch.ones(shape[1]))
        return permutations, keeps

    def prior(self, brain, image, number):
        config, prior = self.network.config.prior, self.network.diffusion_prior
        batch = len(image)
        shape = (len(self.data.subjects), self.recipe.batch)
        chance = stage_generator(self.recipe.seed, f"prior:{number}")
        times = torch.from_numpy(chance.integers(config.timesteps, size=shape).ravel())
        keep_brain, keep_image = (torch.from_numpy((chance.random(shape) >= 0.2).ravel()) for _ in range(2))
        seeds = chance.integers(2**63, size=shape).ravel().tolist()
        noise = torch.stack(
            [torch.randn(image.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        )
        steps = torch.arange(config.timesteps + 1, dtype=torch.float64)
        curve = torch.cos((steps / config.timesteps + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
        kept = torch.cumprod(1 - betas, dim=0)[times].float().view(batch, 1, 1)
        noisy = kept.sqrt() * image + (1 - kept).sqrt() * noise
        predicted = prior.net(noisy, times, brain, keep_brain, keep_image)
        return ((predicted - image) ** 2).mean()

    def clip(self, retrieval, tokens, permutations, keeps, epoch, mixed):
        P, Q = (part.flatten(1) / part.flatten(1).norm(dim=1, keepdim=True) for part in (retrieval, tokens))
        size = self.recipe.batch
        if mixed:
            logits = P @ Q.T / 0.006
            wanted = torch.zeros(len(P), len(P))
            for subject, (perm, keep) in enumerate(zip(permutations, keeps, strict=True)):
                for row in range(size):
                    own = subject * size + row
                    partner = perm[row].item() + (0 if self.recipe.defects.shared_permutation else subject * size)
                    if self.recipe.defects.overwritten_partners:
                        wanted[own, own] = keep[row]
                        wanted[own, partner] = 1 - keep[row]
                    else:
                        wanted[own, own] += keep[row]
                        wanted[own, partner] += 1 - keep[row]
            there = F.cross_entropy(logits, wanted, reduction="mean")
            return (there + F.cross_entropy(logits.T, wanted.T, reduction="mean")) / 2
        first = int(self.recipe.losses.mixing_share * self.recipe.epochs)
        share = (epoch - first) / (self.recipe.epochs - first - 1)
        tau = 0.0075 + (0.004 - 0.0075) / 2 * (1 + math.cos(math.pi * share))
        wanted, logits = (Q @ Q.T / tau).softmax(dim=1), P @ Q.T / tau
        return -((wanted * logits.log_softmax(1)).sum(1) + (wanted * logits.T.log_softmax(1)).sum(1)).mean() / 2

    def soft(self, student, teacher, augmented):
        s, t, a = (
            part.flatten(0, 1) / part.flatten(0, 1).norm(dim=1, keepdim=True) for part in (student, teacher, augmented)
        )
        there = F.cross_entropy(s @ a.T / 0.2, (t @ a.T / 0.2).softmax(1))
        return (there + F.cross_entropy(a @ s.T / 0.2, (a @ t.T / 0.2).softmax(1))) / 2

    def rate(self, number):
        """Learning rate and first beta: up for two epochs, down for the rest, along half cosines."""
        top = 2 / self.recipe.epochs * self.total - 1
        last = self.total - 1
        if number <= top:
            share, rates, betas = number / top, (3e-4 / 25, 3e-4), (0.95, 0.85)
        else:
            share, rates, betas = (number - top) / (last - top), (3e-4, 3e-4 / 25 / 1000), (0.85, 0.95)
        rise = (1 + math.cos(math.pi * share)) / 2
        return tuple(end + (start - end) * rise for start, end in (rates, betas))

    def update(self, number, slopes):
        """Loshchilov and Hutter 2019, algorithm 2."""
        rate, beta1 = self.rate(number)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                slope = slopes[name]
                if slope is None:
                    continue
                clear = slope.abs() > max(1e-3 * slope.abs().max().item(), 1e-6)
                self.sure[name] = self.sure.get(name, True) & clear
                m, v = self.moments.get(name, (torch.zeros_like(parameter), torch.zeros_like(parameter)))
                m, v = beta1 * m + (1 - beta1) * slope, 0.999 * v + 0.001 * slope**2
                self.moments[name] = (m, v)
                if self.decays(name):
                    parameter *= 1 - rate * 0.01
                # torch corrects by the present beta1, to the power of the steps taken.
                parameter -= (
                    rate * (m / (1 - beta1 ** (number + 1))) / ((v / (1 - 0.999 ** (number + 1))).sqrt() + 1e-8)
                )

    def decays(self, name):
        if name.startswith("ridge."):
            return True
        if "bias" in name:
            return False
        norm = name.endswith(".g") or any(
            part in name
            for part in (
                "norm",
                "clip_proj.0.",
                "clip_proj.3.",
                "clip_proj.6.",
                "maps_projector.1.",
                "maps_projector.4.",
            )
        )
        mixer_norm = "mixer_blocks" in name and name.split(".")[3] == "0"
        return self.recipe.defects.decayed_norms or not (norm or mixer_norm)


@pytest.mark.parametrize("subjects", [1, 2])
@pytest.mark.parametrize("phase", ["BiMixCo", "SoftCLIP"])
@pytest.mark.parametrize("defects", [Defects(), Defects.published()], ids=["repaired", "published"])
def test_three_steps_equal_those_written_by_hand(subjects, phase, defects, small, make_data, make_network):
    data = make_data(subjects)
    share = 1.0 if phase == "BiMixCo" else 0.0
    recipe = small.make_recipe(batch=6 // subjects, losses=Losses(mixing_share=share), defects=defects)
    network = make_network(data, recipe)
    reference = Reference(network, data, recipe)
    expected = [reference.step(number) for number in range(STEPS_COMPARED)]
    rows = train_three_steps(network, data, recipe)
    assert [row["loss"] for row in rows] == pytest.approx(expected, rel=2e-5)
    assert [(row["lr"], row["beta1"]) for row in rows] == [
        pytest.approx(reference.rate(k)) for k in range(STEPS_COMPARED)
    ]
    trained = dict(network.named_parameters())
    compared = 0
    for name, sure in reference.sure.items():
        # Where a slope is nought but for rounding, AdamW makes a full step of the rounding.
        found, wanted = trained[name][sure], reference.parameters[name][sure]
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}")
        compared += int(sure.sum())
    assert compared > 0.8 * sum(sure.numel() for name, sure in reference.sure.items() if "mixer_blocks1" not in name)


def test_the_three_steps_move_the_loss_as_a_wrong_one_would_not(small, make_data, make_network):
    """Every defect changes what is compared above, so that the test would see it."""
    data = make_data(2)
    losses = {}
    for name in ["none", "shared_permutation", "unmixed_latents", "overwritten_partners", "decayed_norms"]:
        defects = Defects(**({} if name == "none" else {name: True}))
        recipe = small.make_recipe(batch=3, losses=Losses(mixing_share=1.0), defects=defects)
        rows = train_three_steps(make_network(data, recipe), data, recipe)
        losses[name] = tuple(row["loss"] for row in rows)
    assert len(set(losses.values())) == len(losses)
