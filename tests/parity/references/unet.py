"""SDXL's UNet by the table of names in the specification, run by diffusers in double precision, and Euler's method."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from references.curves import sdxl
from references.store import Arrays, write

Floats = NDArray[np.float64]
CHANNELS, MULT, HEAD, CONTEXT, VECTOR = 32, (1, 2), 32, 24, 40
ATTENDED, DEPTH = (2,), (1, 2)
IN_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "class_embedding.linear_1": "label_emb.0.0",
    "class_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}


def build(layers: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
        block_out_channels=[CHANNELS * factor for factor in MULT],
        layers_per_block=layers,
        transformer_layers_per_block=list(DEPTH),
        attention_head_dim=[CHANNELS * factor // HEAD for factor in MULT],
        cross_attention_dim=CONTEXT,
        use_linear_projection=True,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=VECTOR,
    )


def find_name(key: str, layers: int) -> str:
    """Return sgm's name of a tensor of diffusers."""
    for ours, theirs in OUTSIDE.items():
        if key.startswith(f"{ours}."):
            module, rest = theirs, key.removeprefix(f"{ours}.")
            break
    else:
        side, level, kind, place, rest = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.+)", key).groups()
        module = find_block(side, int(level), kind, int(place), layers)
        rest = rest.replace("conv.", "op." if side == "down" else "conv.") if kind.endswith("samplers") else rest
    if "resnets" in key:
        part, _, end = rest.partition(".")
        rest = f"{IN_RESNET[part]}.{end}"
    return f"{module}.{rest}"


def find_block(side: str, level: int, kind: str, place: int, layers: int) -> str:
    per_level = layers + 1
    if side == "down":
        place = layers if kind == "downsamplers" else place
        return f"input_blocks.{1 + level * per_level + place}.{int(kind == 'attentions')}"
    if kind == "upsamplers":
        attends = 2 ** (len(MULT) - 1 - level) in ATTENDED
        return f"output_blocks.{level * per_level + layers}.{1 + attends}"
    return f"output_blocks.{level * per_level + place}.{int(kind == 'attentions')}"


class Reference:
    """A network of random weights, and what it makes of arrays."""

    def __init__(self, layers: int, seed: int) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.unet = build(layers).half().double().eval()
        state = self.unet.state_dict()
        self.weights: Arrays = {find_name(key, layers): value.numpy() for key, value in state.items()}
        assert len(self.weights) == len(state)

    @torch.no_grad()
    def eps(self, x: Floats, times: NDArray[np.int64], context: Floats, vector: Floats) -> Floats:
        given = [torch.from_numpy(np.ascontiguousarray(part)) for part in (x, times, context, vector)]
        return self.unet(*given[:2], encoder_hidden_states=given[2], class_labels=given[3]).sample.numpy()


def sample_euler(denoise: Callable[[Floats, float, int], Floats], x: Floats, sigmas: Floats, index: Floats) -> Floats:
    for sigma, after, time in zip(sigmas, sigmas[1:], index, strict=False):
        x = x + (after - sigma) * (x - denoise(x, sigma, time)) / sigma
    return x


def write_unet(folder: Path, rng: np.random.Generator, layers: int, scale: float = 3.0) -> Path:
    """Write a UNet with another number of blocks a level than the published folder's, and both samplings."""
    network = Reference(layers, seed=layers)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32).astype(np.float64)  # noqa: E731
    x, context, y, uncond = draw(2, 4, 8, 8), draw(2, 5, CONTEXT), draw(2, VECTOR), draw(1, 5, CONTEXT)
    times = np.array([999, 3])
    calls: list[tuple[Floats, Floats, Floats]] = []

    def denoise(at: Floats, sigma: float, time: int) -> Floats:
        both, twice = np.concatenate([at, at]), np.array([time, time])
        vectors, contexts = np.concatenate([y[:1], y[:1]]), np.concatenate([uncond, context[:1]])
        denoised = both - sigma * network.eps(both / np.sqrt(sigma**2 + 1), twice, contexts, vectors)
        calls.append((at, np.full(2, sigma), denoised))
        return denoised[:1] + scale * (denoised[1:] - denoised[:1])

    settings = {"steps": 4, "cfg_scale": scale, "offset_noise": 0.1, "img2img": {"steps": 9, "timepoint": 4}}
    z, noise, offset = draw(1, 4, 8, 8), draw(1, 4, 8, 8), draw(1)
    sigmas, index = sdxl(settings["steps"])
    start = z + sigmas[0] * (noise + settings["offset_noise"] * offset)
    latent = sample_euler(denoise, start, sigmas, index)
    at, levels, denoised = (np.stack(values) for values in zip(*calls, strict=True))
    z_i2i, noise_i2i = draw(1, 4, 8, 8), draw(1, 4, 8, 8)
    late, late_index = sdxl(settings["img2img"]["steps"])
    late, late_index = late[-4:], late_index[-3:]
    start_i2i = z_i2i + late[0] * noise_i2i
    arrays: Arrays = {
        "in.x": x, "in.timesteps": times, "in.context": context, "in.y": y,
        "out.eps": network.eps(x, times, context, y),
        "in.edm.z": z, "in.edm.noise": noise, "in.edm.offset": offset, "in.edm.uc_context": uncond,
        "out.edm.sigmas": sigmas, "out.edm.noised_z_before_sampler": start / np.sqrt(1 + sigmas[0] ** 2),
        "out.edm.latent": latent, "out.edm.x_at_calls": at, "out.edm.sigma_at_calls": levels,
        "out.edm.denoised_uc_c_at_calls": denoised, "in.i2i.z": z_i2i, "in.i2i.noise": noise_i2i,
        "out.i2i.sigmas": late, "out.i2i.x_start": start_i2i,
        "out.i2i.latent": sample_euler(denoise, start_i2i, late, late_index),
        **{f"w.model.diffusion_model.{name}": value for name, value in network.weights.items()},
    }  # fmt: skip
    config = {
        "adm_in_channels": VECTOR, "num_classes": "sequential", "in_channels": 4, "out_channels": 4,
        "model_channels": CHANNELS, "attention_resolutions": list(ATTENDED), "num_res_blocks": layers,
        "channel_mult": list(MULT), "num_head_channels": HEAD, "use_linear_in_transformer": True,
        "transformer_depth": list(DEPTH), "context_dim": CONTEXT, "sampler": settings,
    }  # fmt: skip
    tolerance = {"forward": {"atol": 1e-4, "rtol": 1e-4}, "sampling": {"atol": 1e-3, "rtol": 1e-3}}
    return write(folder, "sgm_unet_edm", config, arrays, tolerance=tolerance)
