"""SDXL's UNet from its published names, and the two samplings that MindEye2 does with it."""

import re
from typing import NamedTuple

import torch
from checks.cases import Kind, check_config
from checks.files import Fixture
from torch import Tensor, nn

from voxelight.models.diffusion.keys import rename, unet_names
from voxelight.models.diffusion.samplers import OFFSET_NOISE, Guided, img2img_start, sample_euler, start_latent
from voxelight.models.diffusion.schedules import edm_sigmas
from voxelight.models.diffusion.unet import EpsDenoiser, UNetConfig, scale_to_input

PREFIX = "model.diffusion_model."
SIZES = frozenset(
    {
        "adm_in_channels",
        "attention_resolutions",
        "channel_mult",
        "context_dim",
        "in_channels",
        "model_channels",
        "num_head_channels",
        "num_res_blocks",
        "out_channels",
        "transformer_depth",
    }
)


def build(fixture: Fixture) -> nn.Module:
    config = UNetConfig.from_sgm(fixture.config)
    unet = config.build().eval()
    unet.load_state_dict(rename(fixture.part("w."), unet_names(config), PREFIX))
    return unet


def run_forward(fixture: Fixture, _: re.Match[str]) -> Tensor:
    x, times = fixture.given("in.x"), fixture.given("in.timesteps")
    context, vector = fixture.given("in.context"), fixture.given("in.y")
    return fixture.once(build)(x, times, encoder_hidden_states=context, class_labels=vector, return_dict=False)[0]


class Sampled(NamedTuple):
    """What was seen of one sampling, by the names of the outputs.

    Parameters
    ----------
    sigmas : (call + 1,)
    noised_z_before_sampler, x_start : (b, 4, h, w), the start as the published sampler is given it, and before that
    x_at_calls : (call, b, 4, h, w)
    sigma_at_calls : (call, 2 b)
    denoised_uc_c_at_calls : (call, 2 b, 4, h, w), before guidance
    latent : (b, 4, h, w)
    """

    sigmas: Tensor
    noised_z_before_sampler: Tensor
    x_start: Tensor
    x_at_calls: Tensor
    sigma_at_calls: Tensor
    denoised_uc_c_at_calls: Tensor
    latent: Tensor


class Recorder:
    """A denoiser that keeps its arguments and results."""

    def __init__(self, denoiser: EpsDenoiser) -> None:
        self.denoiser = denoiser
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, x: Tensor, sigma: Tensor, context: Tensor, vector: Tensor) -> Tensor:
        denoised = self.denoiser(x, sigma, context, vector)
        self.calls.append((x, sigma.expand(len(x)), denoised))
        return denoised


def sample(fixture: Fixture, start: Tensor, sigmas: Tensor) -> Sampled:
    """Return a guided Euler sampling of the first image's condition."""
    recorder = Recorder(EpsDenoiser(fixture.once(build)))
    images = len(start)
    context, vector = fixture.given("in.context")[:images], fixture.given("in.y")[:images]
    scale = fixture.config["sampler"]["cfg_scale"]
    guided = Guided(recorder, context, vector, fixture.given("in.edm.uc_context"), vector, scale)
    latent = sample_euler(guided, start, sigmas)
    x, levels, denoised = (torch.stack(values) for values in zip(*recorder.calls, strict=True))
    return Sampled(sigmas, scale_to_input(start, sigmas[0]), start, x[:, :images], levels, denoised, latent)


def reconstruct(fixture: Fixture) -> Sampled:
    settings = fixture.config["sampler"]
    check_config(settings, {"steps", "cfg_scale", "offset_noise", "img2img"}, {})
    sigmas = edm_sigmas(settings["steps"])
    # The factor of the offset is a constant of ours; a file may state another.
    offset = fixture.given("in.edm.offset") * settings["offset_noise"] / OFFSET_NOISE
    start = start_latent(fixture.given("in.edm.z"), fixture.given("in.edm.noise"), offset, sigmas[0])
    return sample(fixture, start, sigmas)


def refine(fixture: Fixture) -> Sampled:
    settings = fixture.config["sampler"]["img2img"]
    check_config(settings, {"steps", "timepoint"}, {})
    sigmas = edm_sigmas(settings["steps"])[-settings["timepoint"] :]
    start = img2img_start(fixture.given("in.i2i.z"), fixture.given("in.i2i.noise"), sigmas[0])
    return sample(fixture, start, sigmas)


def run_sampling(fixture: Fixture, match: re.Match[str]) -> Tensor:
    return getattr(fixture.once({"edm": reconstruct, "i2i": refine}[match["path"]]), match["seen"])


KIND = Kind(
    outputs={
        r"out\.eps": run_forward,
        rf"out\.(?P<path>edm|i2i)\.(?P<seen>{'|'.join(Sampled._fields)})": run_sampling,
    },
    known=SIZES | {"use_checkpoint", "sampler"},
    fixed={
        "num_classes": "sequential",
        "use_linear_in_transformer": True,
        "spatial_transformer_attn_type": "softmax",
    },
    tolerance={r"out\.eps": "forward", r"out\.(edm|i2i)\..+": "sampling"},
)
