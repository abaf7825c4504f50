"""The networks of a profile with their weights, each on the device while it works."""

import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxelight.models.captioning.vocabulary import small_vocabulary
from voxelight.models.clip.text import NEGATIVE_PROMPT
from voxelight.models.diffusion.noise import stage_generator
from voxelight.models.errors import BadInput
from voxelight.models.records import hash_parts
from voxelight.models.weights import find_part_sha256, load_into, load_part, read_vocabulary
from voxelight.neuro.memory import GIB, MemoryPlan, explain_shortage, plan_memory
from voxelight.neuro.profiles import GenerationOptions, Profile

TextCondition = tuple[Tensor, Tensor]
"""Context (1, word, dim) and pooled embedding (1, dim)."""


@dataclass(frozen=True, eq=False)
class Networks:
    """What a worker loads once and runs many times.

    Parameters
    ----------
    profile : Profile
    parts : part -> network
    part_sha256 : part -> hash of its weights
    plan : MemoryPlan
    device : where they work
    dtype : of what goes into them
    negative : what the refinement is told to avoid, in its checkpoint's own words
    """

    profile: Profile
    parts: dict[str, nn.Module]
    part_sha256: dict[str, str]
    plan: MemoryPlan
    device: torch.device
    dtype: torch.dtype
    negative: TextCondition | None = field(default=None, repr=False)

    @property
    def weights_sha256(self) -> str:
        """Hash of the hashes of all parts."""
        return self.hash_parts(self.part_sha256)

    def hash_parts(self, names: Collection[str]) -> str:
        """Return the hash of the hashes of some parts.

        Raises
        ------
        BadInput
            A part was not loaded.
        """
        self._refuse_missing(names)
        return hash_parts({name: self.part_sha256[name] for name in names})

    def place(self, values: Tensor) -> Tensor:
        """Return values where the networks work and in their dtype."""
        return values.to(self.device, self.dtype)

    @contextmanager
    def on_device(self, *names: str) -> Iterator[None]:
        """Have parts on the device inside the block, and those that the plan offloads on the CPU after it.

        Weights do not change, so the copy on the CPU stays and is what returns.

        Raises
        ------
        BadInput
            A part was not loaded.
        """
        self._refuse_missing(names)
        visiting = [self.parts[name] for name in names if name in self.plan.offloaded]
        tensors: list[Tensor] = [one for part in visiting for one in (*part.parameters(), *part.buffers())]
        resting = [one.data for one in tensors]
        try:
            for one in tensors:
                one.data = one.data.to(self.device, non_blocking=True)
            yield
        finally:
            for one, rest in zip(tensors, resting, strict=True):
                one.data = rest

    def _refuse_missing(self, names: Collection[str]) -> None:
        missing = sorted(set(names) - set(self.part_sha256))
        if missing:
            raise BadInput(
                f"networks without {', '.join(missing)}",
                f"those of {self.profile.name} as far as this stage",
                "Load them with options that reach this stage.",
            )


def load_networks(
    profile: Profile,
    weights_folder: Path,
    options: GenerationOptions,
    device: str,
    parts: Collection[str] | None = None,
) -> Networks:
    """Load the networks that a run needs, and no others.

    Parameters
    ----------
    profile : Profile
    weights_folder : folder of the converted weights; not looked at where the profile has random weights
    options : GenerationOptions
    device : e.g. ``cpu`` or ``cuda:0``
    parts : what to load in place of the parts that `options` need, e.g. ``["image_encoder"]`` for a gallery

    Returns
    -------
    Networks, in evaluation mode

    Raises
    ------
    Unavailable
        Weights were not fetched, or the memory is too small; nothing was loaded then.
    BadInput
        Weights do not fit their network.
    """
    wanted = profile.list_parts(options) if parts is None else tuple(parts)
    where = torch.device(device)
    sha256 = {part: _find_sha256(profile, weights_folder, part) for part in wanted if not profile.draws(part)}
    plan = plan_memory(find_available_gib(where, options), profile, options, where.type != "cpu", wanted)
    modules: dict[str, nn.Module] = {}
    negative = None
    with explain_shortage(plan):
        for part in wanted:
            is_autoencoder = profile.parts[part].network == "autoencoder"
            dtype = getattr(torch, plan.autoencoder_dtype if is_autoencoder else options.dtype)
            module = _build(profile, weights_folder, part)
            if profile.draws(part):
                sha256[part] = hash_tensors(module)
            # Not the module's own `to`: diffusers' warns of layers that it would keep in float32, and there are none.
            module = nn.Module.to(module, dtype).eval().requires_grad_(False)
            if part == "refiner_text":
                negative = _say(module.to(where), NEGATIVE_PROMPT)
            else:
                modules[part] = _settle(module, profile.parts[part].network, where, part not in plan.offloaded)
    return Networks(profile, modules, sha256, plan, where, getattr(torch, options.dtype), negative)


def find_available_gib(device: torch.device, options: GenerationOptions) -> float:
    """Return the GiB that a run may use: those of the device, capped by the option."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        available = (free + unused) / GIB
    else:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return available if options.memory == "auto" else min(available, float(options.memory))


def fill_random(module: nn.Module, seed: int, part: str) -> None:
    """Give every trained parameter numbers that depend on the seed, the part and its own name alone.

    Matrices and kernels are normal with standard deviation 1 / sqrt(inputs), so that activations keep their size;
    vectors are normal with 0.02, around 1 for the gains of norms.

    Parameters
    ----------
    module : network in float32 on the CPU
    seed : any integer
    part : name of the part
    """
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        shape = tuple(parameter.shape)
        drawn = torch.from_numpy(stage_generator(seed, f"{part}.{name}").standard_normal(shape, dtype="float32"))
        if len(shape) > 1:
            drawn /= parameter[0].numel() ** 0.5
        else:
            drawn = 0.02 * drawn + (0.0 if name.endswith("bias") else 1.0)
        with torch.no_grad():
            parameter.copy_(drawn)


def hash_tensors(module: nn.Module) -> str:
    """Return the sha256 of the names and values of a network's state."""
    total = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        total.update(f"{name}:{tuple(value.shape)}:{value.dtype}\n".encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _find_sha256(profile: Profile, weights_folder: Path, part: str) -> str:
    return find_part_sha256(weights_folder, profile.weights[part], part)


def _build(profile: Profile, weights_folder: Path, part: str) -> nn.Module:
    """Return a network with its weights, on the CPU."""
    config = profile.parts[part].build_config()
    if profile.draws(part) and profile.random_seed is not None:
        module: Any = config.build()
        fill_random(module, profile.random_seed, part)
    else:
        with torch.device("meta"):
            module = config.build()
        load_into(module, load_part(weights_folder, profile.weights[part], part))
    if part == "captioner":
        published = profile.weights.get(part)
        module.use_vocabulary(read_vocabulary(weights_folder, published) if published else small_vocabulary())
    checked: nn.Module = module
    return checked


def _settle(module: nn.Module, network: str, device: torch.device, stays: bool) -> nn.Module:
    """Return a network where it rests between stages, made fast where that pays."""
    if stays:
        module = nn.Module.to(module, device)
    if device.type == "cuda" and network in ("sdxl-unet", "autoencoder"):
        from voxelight.models.diffusion.speed import prepare_autoencoder, prepare_unet

        module = prepare_unet(module, graphs=stays) if network == "sdxl-unet" else prepare_autoencoder(module)
    if device.type == "cuda" and not stays:
        for one in (*module.parameters(), *module.buffers()):
            one.data = one.data.pin_memory()
    return module


@torch.inference_mode()
def _say(module: Any, text: str) -> TextCondition:
    context, pooled = module([text])
    return context.float().cpu(), pooled.float().cpu()
