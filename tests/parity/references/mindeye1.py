"""MindEye1 from the specification, in NumPy; the upsampler is diffusers' decoder in double precision."""

from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.vae import Decoder
from references.backbone import Floats, gelu, norm
from references.store import Arrays, draw_weights, write

Shapes = dict[str, tuple[int, ...]]


def silu(x: Floats) -> Floats:
    return x / (1 + np.exp(-x))


def layer(name: str, inputs: int, outputs: int, biased: bool) -> Shapes:
    bias: Shapes = {f"{name}.0.bias": (outputs,)} if biased else {}
    return {f"{name}.0.weight": (outputs, inputs), f"{name}.1.weight": (outputs,), f"{name}.1.bias": (outputs,)} | bias


def trunk(w: Arrays, x: Floats, blocks: int, act) -> Floats:
    """The residual layers, each a linear map, a norm and an activation."""
    for number, name in enumerate(["lin0", *(f"mlp.{block}" for block in range(blocks))]):
        y = x @ w[f"{name}.0.weight"].T + w.get(f"{name}.0.bias", 0)
        y = act(norm(y, w[f"{name}.1.weight"], w[f"{name}.1.bias"]))
        x = x + y if number else y
    return x


def group_norm(x: Floats, gain: Floats, bias: Floats) -> Floats:
    """One group over channels and pixels (b, c, h, w)."""
    axes = (1, 2, 3)
    x = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    return x * gain[:, None, None] + bias[:, None, None]


def write_backbone(folder: Path, rng: np.random.Generator) -> Path:
    voxels, hidden, blocks, tokens, dim, wide = 13, 24, 3, 4, 8, 20
    shapes = layer("lin0", voxels, hidden, True)
    for block in range(blocks):
        shapes |= layer(f"mlp.{block}", hidden, hidden, True)
    shapes |= {"lin1.weight": (tokens * dim, hidden), "lin1.bias": (tokens * dim,)}
    for place, inputs, outputs in ((0, dim, wide), (3, wide, wide), (6, wide, dim)):
        shapes |= {f"projector.{place}.weight": (inputs,), f"projector.{place}.bias": (inputs,)}
        shapes |= {f"projector.{place + 2}.weight": (outputs, inputs), f"projector.{place + 2}.bias": (outputs,)}
    w = draw_weights(rng, shapes)
    given = rng.standard_normal((3, voxels)).astype(np.float32).astype(np.float64)
    flat = trunk(w, given, blocks, gelu) @ w["lin1.weight"].T + w["lin1.bias"]
    projected = flat.reshape(3, tokens, dim)
    for place in (0, 3, 6):
        projected = gelu(norm(projected, w[f"projector.{place}.weight"], w[f"projector.{place}.bias"]))
        projected = projected @ w[f"projector.{place + 2}.weight"].T + w[f"projector.{place + 2}.bias"]
    arrays: Arrays = {f"w.{key}": value for key, value in w.items()}
    arrays |= {"in.voxels": given, "out.clip_voxels_mse": flat, "out.clip_voxels_proj": projected}
    config = {"vox": voxels, "h": hidden, "n_blocks": blocks, "clip": dim, "tok": tokens, "projector_hidden": wide}
    return write(folder, "me1_backbone", config, arrays)


def write_low_level(folder: Path, rng: np.random.Generator) -> Path:
    voxels, hidden, blocks, widths, maps = 9, 12, 2, (32, 32, 32), 16
    shapes = layer("lin0", voxels, hidden, False)
    for block in range(blocks):
        shapes |= layer(f"mlp.{block}", hidden, hidden, False)
    shapes |= {"lin1.weight": (64 * 256, hidden), "norm.weight": (64,), "norm.bias": (64,)}
    for place, inputs in ((0, 64), (3, maps), (6, maps)):
        shapes[f"maps_projector.{place}.weight"] = (maps, inputs, 1, 1)
    for place in (1, 4):
        shapes |= {f"maps_projector.{place}.weight": (maps,), f"maps_projector.{place}.bias": (maps,)}
    shapes["maps_projector.6.bias"] = (maps,)
    upsampler = Decoder(64, 4, ("UpDecoderBlock2D",) * 3, widths, layers_per_block=1).double().eval()
    shapes |= {f"upsampler.{name}": tuple(value.shape) for name, value in upsampler.state_dict().items()}
    w = draw_weights(rng, shapes)
    upsampler.load_state_dict({name: torch.from_numpy(w[f"upsampler.{name}"]) for name in upsampler.state_dict()})
    given = rng.standard_normal((2, voxels)).astype(np.float32).astype(np.float64)
    x = (trunk(w, given, blocks, silu) @ w["lin1.weight"].T).reshape(2, 64, 16, 16)
    x = group_norm(x, w["norm.weight"], w["norm.bias"])
    with torch.no_grad():
        latent = upsampler(torch.from_numpy(x)).numpy()
    seen = x
    for place in (0, 3, 6):
        seen = np.einsum("oc,bchw->bohw", w[f"maps_projector.{place}.weight"][:, :, 0, 0], seen)
        if place < 6:
            names = (f"maps_projector.{place + 1}.{kind}" for kind in ("weight", "bias"))
            seen = np.maximum(group_norm(seen, *(w[name] for name in names)), 0)
    seen += w["maps_projector.6.bias"][:, None, None]
    arrays: Arrays = {f"w.{key}": value for key, value in w.items()}
    arrays |= {"in.voxels": given, "out.latent": latent, "out.feats": seen.reshape(2, maps, 256).transpose(0, 2, 1)}
    config = {
        "in_dim": voxels,
        "h": hidden,
        "n_blocks": blocks,
        "decoder_block_out_channels": widths,
        "maps_projector_width": maps,
    }
    return write(folder, "me1_lowlevel", config, arrays, tolerance={"atol": 1e-4, "rtol": 1e-4})  # 10 convolutions
