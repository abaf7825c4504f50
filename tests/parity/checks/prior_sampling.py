"""Sampling from the diffusion prior, call by call, with every draw of noise given."""

import re

import torch
from checks.cases import Kind
from checks.files import Fixture
from checks.prior import build
from torch import Tensor, nn

from voxelight.models.diffusion.prior import DiffusionPrior
from voxelight.models.diffusion.schedules import ddim_time_pairs


def build_prior(fixture: Fixture, timesteps: str, scale: float = 1.0) -> DiffusionPrior:
    weights = fixture.neighbour(fixture.config["weights_from"])
    return build(weights, timesteps=fixture.config[timesteps], image_scale=scale)


class Trace(nn.Module):
    """A network that keeps what it was called with."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.x: list[Tensor] = []
        self.times: list[int] = []
        network.register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.x.append(inputs[0].clone())
        self.times.append(inputs[1][0].item())


def sample_ddim(fixture: Fixture) -> tuple[Tensor, Trace]:
    prior, noise = build_prior(fixture, "timesteps"), fixture.given("in.noise")
    trace = Trace(prior.net)
    sample = prior.sample(fixture.given("in.text_embed"), lambda k: noise[k], steps=fixture.config["sample_steps"])
    return sample, trace


def sample_ddpm(fixture: Fixture, scale: float) -> Tensor:
    prior, noise = build_prior(fixture, "ddpm_timesteps", scale), fixture.given("in.ddpm_noise")
    return prior.sample(fixture.given("in.text_embed"), lambda k: noise[k], steps=fixture.config["ddpm_timesteps"])


def run_sample(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return fixture.once(sample_ddim)[0]


def run_calls(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return torch.stack(fixture.once(sample_ddim)[1].x)


def run_times(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return torch.tensor(fixture.once(sample_ddim)[1].times)


def run_pairs(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return torch.tensor(ddim_time_pairs(fixture.config["sample_steps"], fixture.config["timesteps"]))


def run_ddpm(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return sample_ddpm(fixture, scale=1.0)


def run_me1_ddpm(fixture: Fixture, _: re.Match[str]) -> Tensor:
    return sample_ddpm(fixture, scale=fixture.config["image_embed_scale"])


def run_me1_loss(fixture: Fixture, match: re.Match[str]) -> Tensor:
    prior = build_prior(fixture, "ddpm_timesteps", fixture.config["image_embed_scale"])
    names = ("in.me1_text_embed", "in.me1_image_embed", "in.me1_times", "in.me1_noise")
    loss, predicted = prior.loss(*(fixture.given(name) for name in names))
    return {"loss": loss, "pred": predicted}[match["part"]]


KIND = Kind(
    outputs={
        r"out\.sample": run_sample,
        r"out\.times_visited": run_times,
        r"out\.time_pairs": run_pairs,
        r"mid\.x_at_calls": run_calls,
        r"out\.ddpm_sample": run_ddpm,
        r"out\.me1_ddpm_sample": run_me1_ddpm,
        r"out\.me1_(?P<part>loss|pred)": run_me1_loss,
    },
    known=frozenset({"timesteps", "sample_steps", "ddpm_timesteps", "image_embed_scale", "weights_from"}),
    fixed={"eta": 1.0},
)
