"""Names of published weights (sgm's, and old spellings of diffusers) -> names of our modules."""

from collections.abc import Mapping
from itertools import count

import torch
from torch import Tensor

from voxelight.models.diffusion.autoencoder import AutoencoderConfig
from voxelight.models.diffusion.unet import UNetConfig
from voxelight.models.errors import BadInput

_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_RESNET = {"conv_shortcut": "nin_shortcut"}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def unet_names(config: UNetConfig) -> dict[str, str]:
    """Return where every tensor of an sgm UNet belongs.

    Parameters
    ----------
    config : sizes of the UNet

    Returns
    -------
    name in the checkpoint, without ``model.diffusion_model.`` -> key of the built UNet
    """
    with torch.device("meta"):
        ours = config.build().state_dict()
    return _invert(ours, _unet_modules(config), [(".resnets.", _UNET_RESNET)])


def vae_names(config: AutoencoderConfig) -> dict[str, str]:
    """Return where every tensor of an sgm autoencoder belongs.

    Parameters
    ----------
    config : sizes of the autoencoder

    Returns
    -------
    name in the checkpoint, without ``first_stage_model.`` -> key of the built autoencoder
    """
    with torch.device("meta"):
        ours = config.build().state_dict()
    return _invert(ours, _vae_modules(config), [(".resnets.", _VAE_RESNET), (".attentions.", _VAE_ATTENTION)])


def diffusers_vae_names(config: AutoencoderConfig, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return where every tensor of a diffusers autoencoder belongs, in today's spelling of attention or the old one.

    Parameters
    ----------
    config : sizes of the autoencoder
    tensors : the file, by which the spelling is told

    Returns
    -------
    name in the file -> key of the built autoencoder
    """
    with torch.device("meta"):
        ours = config.build().state_dict()
    names = {key.removeprefix("vae."): key for key in ours}
    if not any(".query." in name for name in tensors):
        return names
    return {_old_spelling(name): key for name, key in names.items()}


def rename(tensors: Mapping[str, Tensor], names: Mapping[str, str], prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of a part of a checkpoint by our names.

    Autoencoders written with 1x1 convolutions for attention get them as matrices.

    Parameters
    ----------
    tensors : the checkpoint, which may hold other parts under other prefixes
    names : of `unet_names` or `vae_names`
    prefix : what the part's names begin with

    Raises
    ------
    BadInput
        The part lacks a tensor, or has one more.
    """
    present = {name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}
    missing, extra = sorted(names.keys() - present), sorted(present - names.keys())
    if missing or extra:
        raise BadInput(
            f"{len(missing)} tensors missing ({', '.join(missing[:3])}) and {len(extra)} too many "
            f"({', '.join(extra[:3])}) under {prefix!r}",
            f"exactly {len(names)} tensors",
            "Give the checkpoint that the configuration describes.",
        )
    return {ours: _as_matrix(tensors[prefix + theirs], ours) for theirs, ours in names.items()}


def _as_matrix(tensor: Tensor, name: str) -> Tensor:
    is_attention = any(f".{ours}." in name for ours in _VAE_ATTENTION)
    return tensor[:, :, 0, 0] if is_attention and tensor.ndim == 4 else tensor


def _old_spelling(name: str) -> str:
    for old, new in _OLD_ATTENTION.items():
        name = name.replace(new, old)
    return name


def _invert(
    ours: Mapping[str, Tensor], modules: Mapping[str, str], inner: list[tuple[str, dict[str, str]]]
) -> dict[str, str]:
    """Name each of our tensors as sgm does: its module by the table, what is inside by the kind of block."""
    names = {}
    for key in ours:
        module = next(part for part in _parents(key) if part in modules)
        rest = key.removeprefix(module)
        for kind, table in inner:
            if kind in f"{module}.":
                rest = next((f".{b}{rest[len(a) + 1 :]}" for a, b in table.items() if rest.startswith(f".{a}.")), rest)
        names[modules[module] + rest] = key
    return names


def _parents(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def _unet_modules(config: UNetConfig) -> dict[str, str]:
    modules = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "class_embedding.linear_1": "label_emb.0.0",
        "class_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    last = len(config.channels) - 1
    block = count(1)
    for level, attends in enumerate(config.attention):
        for layer in range(config.layers):
            sgm = f"input_blocks.{next(block)}"
            modules[f"down_blocks.{level}.resnets.{layer}"] = f"{sgm}.0"
            if attends:
                modules[f"down_blocks.{level}.attentions.{layer}"] = f"{sgm}.1"
        if level < last:
            modules[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{next(block)}.0.op"
    block = count(0)
    for level, attends in enumerate(reversed(config.attention)):
        for layer in range(config.layers + 1):
            sgm = f"output_blocks.{next(block)}"
            modules[f"up_blocks.{level}.resnets.{layer}"] = f"{sgm}.0"
            if attends:
                modules[f"up_blocks.{level}.attentions.{layer}"] = f"{sgm}.1"
        if level < last:  # behind the attention, where there is one, in the level's last block
            modules[f"up_blocks.{level}.upsamplers.0.conv"] = f"{sgm}.{1 + attends}.conv"
    return modules


def _vae_modules(config: AutoencoderConfig) -> dict[str, str]:
    modules = {f"vae.{name}": name for name in ("quant_conv", "post_quant_conv")}
    levels = len(config.channels)
    for half in ("encoder", "decoder"):
        modules |= {
            f"vae.{half}.conv_in": f"{half}.conv_in",
            f"vae.{half}.mid_block.resnets.0": f"{half}.mid.block_1",
            f"vae.{half}.mid_block.attentions.0": f"{half}.mid.attn_1",
            f"vae.{half}.mid_block.resnets.1": f"{half}.mid.block_2",
            f"vae.{half}.conv_norm_out": f"{half}.norm_out",
            f"vae.{half}.conv_out": f"{half}.conv_out",
        }
    for level in range(levels):
        for layer in range(config.layers + 1):  # the encoder's last does not exist, and is not asked for
            modules[f"vae.encoder.down_blocks.{level}.resnets.{layer}"] = f"encoder.down.{level}.block.{layer}"
            # sgm counts the decoder's levels from the finest, diffusers in the order of use.
            modules[f"vae.decoder.up_blocks.{level}.resnets.{layer}"] = f"decoder.up.{levels - 1 - level}.block.{layer}"
        modules[f"vae.encoder.down_blocks.{level}.downsamplers.0.conv"] = f"encoder.down.{level}.downsample.conv"
        modules[f"vae.decoder.up_blocks.{level}.upsamplers.0.conv"] = f"decoder.up.{levels - 1 - level}.upsample.conv"
    return modules
