"""MindEye2's ridge, mixer and projector from the specification, in NumPy."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from references.store import Arrays, draw_weights, write
from scipy.special import erf

Floats = NDArray[np.float64]


def gelu(x: Floats) -> Floats:
    return x * (1 + erf(x / np.sqrt(2))) / 2


def norm(x: Floats, gain: Floats, bias: Floats, eps: float = 1e-5) -> Floats:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * gain + bias


class Reference:
    """The network on its weights, by their published names."""

    def __init__(self, weights: Arrays, blocks: int, tokens: tuple[int, int]) -> None:
        self.w, self.blocks, self.tokens = weights, blocks, tokens

    def linear(self, name: str, x: Floats) -> Floats:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, name: str, x: Floats) -> Floats:
        return norm(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def block(self, name: str, x: Floats) -> Floats:
        return self.linear(f"{name}.1.3", gelu(self.linear(f"{name}.1.0", self.norm(f"{name}.0", x))))

    def mix(self, x: Floats) -> Floats:
        r1, r2 = x, x.swapaxes(1, 2)
        for number in range(self.blocks):
            x = self.block(f"backbone.mixer_blocks1.{number}", x) + r1
            r1 = x
            x = self.block(f"backbone.mixer_blocks2.{number}", x.swapaxes(1, 2)) + r2
            r2 = x
            x = x.swapaxes(1, 2)
        return x

    def decode(self, x: Floats) -> tuple[Floats, Floats]:
        tokens = self.linear("backbone.backbone_linear", self.mix(x).reshape(len(x), -1))
        tokens = tokens.reshape(len(x), *self.tokens)
        retrieval = tokens
        for place in (0, 3, 6):
            retrieval = gelu(self.norm(f"backbone.clip_proj.{place}", retrieval))
            retrieval = self.linear(f"backbone.clip_proj.{place + 2}", retrieval)
        return tokens, retrieval


def list_shapes(voxels: list[int], hidden: int, blocks: int, seq_len: int, tokens: tuple[int, int]) -> dict:
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    for subject, count in enumerate(voxels):
        linear(f"ridge.linears.{subject}", count, hidden)
    for number in range(blocks):
        for half, width in ((1, hidden), (2, seq_len)):
            shapes[f"backbone.mixer_blocks{half}.{number}.0.weight"] = (width,)
            shapes[f"backbone.mixer_blocks{half}.{number}.0.bias"] = (width,)
            linear(f"backbone.mixer_blocks{half}.{number}.1.0", width, width)
            linear(f"backbone.mixer_blocks{half}.{number}.1.3", width, width)
    linear("backbone.backbone_linear", hidden * seq_len, tokens[0] * tokens[1])
    for place in (0, 3, 6):
        shapes[f"backbone.clip_proj.{place}.weight"] = shapes[f"backbone.clip_proj.{place}.bias"] = (tokens[1],)
        linear(f"backbone.clip_proj.{place + 2}", tokens[1], tokens[1])
    return shapes


def write_backbone(folder: Path, rng: np.random.Generator, name: str, seq_len: int) -> Path:
    """Write a decoder of three subjects without the low-level branch."""
    voxels, hidden, blocks, tokens, batch = [11, 7, 13], 16, 2, (4, 8), 3
    weights = draw_weights(rng, list_shapes(voxels, hidden, blocks, seq_len, tokens))
    network = Reference(weights, blocks, tokens)
    arrays: Arrays = {f"w.{key}": value for key, value in weights.items()}
    for subject, count in enumerate(voxels):
        given = rng.standard_normal((batch, 1, count)).astype(np.float32).astype(np.float64)
        arrays[f"in.voxels.{subject}"] = given
        arrays[f"out.ridge.{subject}"] = network.linear(f"ridge.linears.{subject}", given)
    x = rng.standard_normal((batch, seq_len, hidden)).astype(np.float32).astype(np.float64)
    arrays["in.backbone"] = x
    arrays["out.backbone"], arrays["out.clip_voxels"] = network.decode(x)
    config = {
        "input_sizes": voxels,
        "hidden_dim": hidden,
        "n_blocks": blocks,
        "seq_len": seq_len,
        "clip_seq_dim": tokens[0],
        "clip_emb_dim": tokens[1],
        "blurry_recon": False,
        "decoder_block_out_channels": None,
    }
    return write(folder, name, config, arrays)
