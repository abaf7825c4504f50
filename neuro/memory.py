"""Which networks stay on the card, and how many images go through them at once."""

import json
from dataclasses import dataclass
from functools import lru_cache

import torch

from voxelight.models.errors import Unavailable
from voxelight.neuro.profiles import GenerationOptions, Part, Profile

GIB = 1 << 30
BATCHES = (16, 8, 4, 2, 1)
CPU_BATCH = 4
# Context of the driver, workspaces of the libraries and what the allocator loses between blocks.
RESERVE_GIB = 1.5
# Largest first: a part is moved out only while it rests, and costs its own size in transfers once a call.
OFFLOAD_ORDER = ("text", "decoder", "refiner", "unclip", "captioner", "refiner_autoencoder", "blurry", "autoencoder")
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class MemoryPlan:
    """How a run fits on a device.

    Parameters
    ----------
    batch : images at once
    offloaded : parts that rest on the CPU and visit the device for their stage
    sliced_decode : whether autoencoders take one image at a time
    autoencoder_dtype : float32 where half precision would overflow
    need_gib : estimate of the peak, weights and activations
    """

    batch: int
    offloaded: frozenset[str]
    sliced_decode: bool
    autoencoder_dtype: str
    need_gib: float


def plan_memory(
    available_gib: float, profile: Profile, options: GenerationOptions, can_offload: bool = True
) -> MemoryPlan:
    """Return the plan with the largest batch that fits, and of those the one that moves the fewest parts.

    need = reserve + weights that stay + max over parts (weights if it visits + batch * activations of an image).

    Parameters
    ----------
    available_gib : memory of the device in GiB
    profile : Profile
    options : GenerationOptions
    can_offload : whether parts may rest elsewhere; not so where the device is the CPU itself

    Raises
    ------
    Unavailable
        Nothing fits; the message says what would.
    """
    batches = BATCHES if options.batch is None else (options.batch,)
    for batch in batches if can_offload or options.batch else (CPU_BATCH, 2, 1):
        for offloaded in _offloads(options) if can_offload else [frozenset[str]()]:
            if batch > 8 and offloaded and options.batch is None:
                break  # twice the batch gains less than the transfers cost
            for sliced in (False, True):
                plan = _plan(profile, options, batch, offloaded, sliced)
                if plan.need_gib <= available_gib:
                    return plan
    raise _too_little(available_gib, profile, options, can_offload)


def find_need_gib(profile: Profile, options: GenerationOptions, can_offload: bool = True) -> float:
    """Return the least memory in GiB that a run can do with, everything offloaded and images one by one."""
    offloaded = _offloads(options)[-1] if can_offload else frozenset[str]()
    return _plan(profile, options, options.batch or 1, offloaded, True).need_gib


@lru_cache
def _count(network: str, config: str) -> int:
    with torch.device("meta"):
        module = Part(network=network, config=json.loads(config)).build_config().build()
    return sum(parameter.numel() for parameter in module.parameters())


def count_parameters(part: Part) -> int:
    """Return the number of parameters of a network, which is built without storage."""
    return _count(part.network, json.dumps(part.config, sort_keys=True))


def find_autoencoder_dtype(dtype: str) -> str:
    """Return the dtype of the autoencoders: SDXL's overflows float16, so it runs in float32 there."""
    return "float32" if dtype == "float16" else dtype


def estimate_activations(profile: Profile, part: str, dtype: str) -> float:
    """Return the GiB of activations that one image needs in one part.

    A stated estimate: a number of full-size feature maps for each kind of network, two streams under guidance.
    """
    config = profile.parts[part].build_config()
    match profile.parts[part].network:
        case "sdxl-unet":
            latent_pixels = (profile.side // 8) ** 2
            numbers = 2 * latent_pixels * config.channels[0] * UNET_MAPS
        case "autoencoder":
            numbers = profile.side**2 * config.channels[0] * AUTOENCODER_MAPS
        case "mindeye2":
            numbers = 2 * config.tokens * config.dim * DECODER_MAPS
        case _:
            numbers = OTHER_NUMBERS
    return float(numbers * BYTES[dtype] / GIB)


UNET_MAPS = 56
AUTOENCODER_MAPS = 12
DECODER_MAPS = 80
OTHER_NUMBERS = 16 << 20


def _plan(
    profile: Profile, options: GenerationOptions, batch: int, offloaded: frozenset[str], sliced: bool
) -> MemoryPlan:
    autoencoder_dtype = find_autoencoder_dtype(options.dtype)
    staying, visiting = 0.0, 0.0
    for part in options.parts:
        if part == "refiner_text":
            continue  # it says one sentence while the weights are loaded, and is let go
        is_autoencoder = profile.parts[part].network == "autoencoder"
        dtype = autoencoder_dtype if is_autoencoder else options.dtype
        weights = count_parameters(profile.parts[part]) * BYTES[dtype] / GIB
        at_once = 1 if sliced and is_autoencoder else batch
        visit = at_once * estimate_activations(profile, part, dtype)
        if part in offloaded:
            visit += weights
        else:
            staying += weights
        visiting = max(visiting, visit)
    return MemoryPlan(batch, offloaded, sliced, autoencoder_dtype, RESERVE_GIB + staying + visiting)


def _offloads(options: GenerationOptions) -> list[frozenset[str]]:
    movable = [part for part in OFFLOAD_ORDER if part in options.parts]
    return [frozenset(movable[:count]) for count in range(len(movable) + 1)]


def _too_little(available_gib: float, profile: Profile, options: GenerationOptions, can_offload: bool) -> Unavailable:
    smaller: list[tuple[str, GenerationOptions]] = []
    if options.batch is not None:
        smaller.append(("Leave the batch to the plan", options.model_copy(update={"batch": None})))
    if options.dtype != "bfloat16":
        smaller.append(("Use dtype bfloat16", options.model_copy(update={"batch": None, "dtype": "bfloat16"})))
    for stop in ("unrefined", "caption", "tokens"):
        stopped = options.model_copy(update={"batch": None, "dtype": "bfloat16", "stop": stop})
        if options.reaches(stopped.stop) and options.stop != stop:
            smaller.append((f"Use dtype bfloat16 and stop at {stop}", stopped))
    fitting = [
        f"{text}: that needs {need:.1f} GiB."
        for text, fewer in smaller
        if (need := find_need_gib(profile, fewer, can_offload)) <= available_gib
    ]
    need = find_need_gib(profile, options, can_offload)
    return Unavailable(
        f"{available_gib:.1f} GiB of memory for {profile.name}",
        f"{need:.1f} GiB for {options.dtype} up to {options.stop}, at the least",
        fitting[0] if fitting else "Use a larger device.",
    )
