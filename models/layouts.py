"""How the published checkpoints are laid out: which tensor goes into which part, under which name."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from voxelight.models.errors import BadInput
from voxelight.models.registry import NETWORKS, find_config
from voxelight.models.weights import refuse_differences

_OTHER_SIZES = "Check that it is the file of this name; a network of other sizes needs them with --sizes."


def sort_tensors(
    layout: str, files: Sequence[Mapping[str, Tensor]], parts: "Mapping[str, Network]"
) -> dict[str, dict[str, Tensor]]:
    """Sort the tensors of a published checkpoint into parts, under our networks' names.

    Parameters
    ----------
    layout : a key of ``LAYOUTS``
    files : tensors of the file, then those of the files that it needs
    parts : part -> the network that takes it

    Returns
    -------
    part -> key of the network's ``state_dict`` -> tensor; still mapped from the file

    Raises
    ------
    BadInput
        Names are missing, names are there that nothing takes, or shapes differ.
    """
    known = LAYOUTS[layout]
    gave: dict[str, dict[str, Tensor]] = {part: {} for part in parts}
    taken: list[set[str]] = [set() for _ in files]
    missing, misshapen = [], []
    for part, network in parts.items():
        for section in known.sections[part]:
            names = section.find_names(network)
            taken[section.file].update(names)
            for name, key in names.items():
                if name not in files[section.file]:
                    missing.append(name)
                    continue
                gave[part][key] = tensor = _fit(files[section.file][name], network.shapes[key])
                if tensor.shape != network.shapes[key]:
                    misshapen.append(f"{name} {tuple(tensor.shape)} for {tuple(network.shapes[key])}")
    unexpected = [
        name
        for file, used in zip(files, taken, strict=True)
        for name in file
        if name not in used and not any(fnmatchcase(name, pattern) for pattern in known.left_out)
    ]
    refuse_differences(
        {"missing": missing, "unexpected": unexpected, "of another shape": misshapen},
        f"the {sum(map(len, taken))} tensors of the layout {layout}",
        _OTHER_SIZES,
    )
    return gave


@dataclass(frozen=True)
class Network:
    """What a network takes, found on the meta device, so without memory.

    Parameters
    ----------
    config : its configuration
    shapes : key of its ``state_dict`` -> shape
    parameters : keys that are parameters; the others are buffers, whose precision is kept
    """

    config: Any
    shapes: Mapping[str, torch.Size]
    parameters: frozenset[str]


def describe_network(name: str, config: Mapping[str, Any]) -> Network:
    """Build a network on the meta device and note what it takes.

    Raises
    ------
    BadInput
        The sizes are none that the network can have.
    """
    from pydantic import ValidationError

    try:
        sizes = find_config(NETWORKS, name)(**config)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise BadInput(
            f"{first['input']!r} for {place} of {name}", first["msg"], "Correct the sizes and try again."
        ) from error
    with torch.device("meta"):
        module: nn.Module = sizes.build()
    shapes = {key: tensor.shape for key, tensor in module.state_dict().items()}
    return Network(sizes, shapes, frozenset(key for key, _ in module.named_parameters(remove_duplicate=False)))


Names = Callable[[Any, Iterable[str]], Mapping[str, str]]


def _same_names(_config: Any, keys: Iterable[str]) -> Mapping[str, str]:
    return {key: key for key in keys}


def _unet_names(config: Any, _keys: Iterable[str]) -> Mapping[str, str]:
    from voxelight.models.diffusion.keys import unet_names

    return unet_names(config)


def _vae_names(config: Any, _keys: Iterable[str]) -> Mapping[str, str]:
    from voxelight.models.diffusion.keys import vae_names

    return vae_names(config)


@dataclass(frozen=True)
class Section:
    """Where tensors of a part stand in a checkpoint, and what they are called there.

    Parameters
    ----------
    prefix : before their names in the file
    target : before their keys in the network
    names : (configuration, keys without target) -> name without prefix -> key
    file : 0 is the checkpoint itself, 1 the first file that it needs
    """

    prefix: str = ""
    target: str = ""
    names: Names = _same_names
    file: int = 0

    def find_names(self, network: Network) -> dict[str, str]:
        """Return name in the file -> key of the network."""
        keys = [key.removeprefix(self.target) for key in network.shapes if key.startswith(self.target)]
        return {f"{self.prefix}{name}": f"{self.target}{key}" for name, key in self.names(network.config, keys).items()}


@dataclass(frozen=True)
class Layout:
    """How a published checkpoint is laid out.

    Parameters
    ----------
    sections : part -> where its tensors stand
    root : key of the saved dictionary that holds the tensors
    left_out : patterns of names that are in the file and that nothing here needs
    """

    sections: Mapping[str, tuple[Section, ...]]
    root: str = ""
    left_out: tuple[str, ...] = field(default=())


def _fit(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Take a 1x1 convolution for the linear map that it is."""
    return tensor.reshape(shape) if tensor.shape == (*shape, 1, 1) else tensor


_SDXL_EXTRA = ("denoiser.sigmas", "*.position_ids", "*.logit_scale", "*.attn_mask", "model_ema.*")

LAYOUTS: dict[str, Layout] = {
    "mindeye2": Layout({"decoder": (Section(),)}, "model_state_dict"),
    "mindeye1": Layout(
        {
            "decoder": (
                Section("voxel2clip.", "voxel2clip."),
                Section("net.", "diffusion_prior.net."),
                Section("noise_scheduler.", "diffusion_prior.noise_scheduler."),
            )
        },
        "model_state_dict",
    ),
    "mindeye1-pooled": Layout(
        {"decoder": (Section("voxel2clip.", "voxel2clip."),)}, "model_state_dict", ("net.*", "noise_scheduler.*")
    ),
    "mindeye1-low-level": Layout({"low_level": (Section(),)}, "model_state_dict"),
    "variation": Layout({"variation": (Section(),)}),
    "sd-autoencoder": Layout({"autoencoder": (Section("", "vae."),)}),
    "clip-vision": Layout(
        {"image_encoder": (Section(),)},
        "",
        ("text_model.*", "text_projection.weight", "logit_scale", "*.position_ids"),
    ),
    "unclip": Layout(
        {
            "unclip": (Section("model.diffusion_model.", names=_unet_names),),
            "autoencoder": (Section("first_stage_model.", names=_vae_names),),
            "image_encoder": (Section("conditioner.embedders.0.model.visual.", "visual."),),
        },
        "state_dict",
        (
            *_SDXL_EXTRA,
            *(
                f"conditioner.embedders.0.model.{name}"
                for name in ("token_embedding.weight", "positional_embedding", "ln_final.*", "text_projection")
            ),
        ),
    ),
    "sdxl": Layout(
        {
            "refiner": (Section("model.diffusion_model.", names=_unet_names),),
            "refiner_autoencoder": (Section("first_stage_model.", names=_vae_names),),
            "refiner_text": (
                Section("conditioner.embedders.0.transformer.text_model.", "clip_l."),
                Section("conditioner.embedders.1.model.", "bigg."),
            ),
        },
        "state_dict",
        _SDXL_EXTRA,
    ),
    "clip-text": Layout(
        {"text": (Section("", "bigg."), Section("text_model.", "clip_l.", file=1))},
        "state_dict",
        (
            "visual.*",
            "vision_model.*",
            "visual_projection.*",
            "text_projection.weight",
            "logit_*",
            "attn_mask",
            *_SDXL_EXTRA,
        ),
    ),
    "autoencoder": Layout({"blurry": (Section("", "vae."),)}, "state_dict"),
    "bigg-to-l": Layout({"converter": (Section(),)}, "model_state_dict"),
    "git-vision": Layout(
        {"target_encoder": (Section("git."),)},
        "",
        ("git.embeddings.*", "git.encoder.*", "git.visual_projection.*", "output.*", "*.position_ids"),
    ),
    "clip-words": Layout({"target_encoder": (Section(),)}, "", ("*.position_ids",)),
    "git": Layout({"captioner": (Section(),)}, "", ("git.image_encoder.*", "*.position_ids")),
}
