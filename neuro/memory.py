"""Which networks stay on the card, and how many images go through them at once."""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from voxelight.models.errors import Unavailable
from voxelight.neuro.profiles import PARTS_OF_STAGE, GenerationOptions, Part, Profile

GIB = 1 << 30
BATCHES = (16, 8, 4, 2, 1)
CPU_BATCHES = (4, 2, 1)
# Images that the decoder, the prior and the captioner see at once, padded with zeros. A matrix product rounds by its
# shape, and nineteen steps that feed on themselves make much of little, so theirs is always the same: tokens and
# captions do not depend on how many images came along.
TOKEN_BATCH = 8
# A larger batch than this gains less than moving parts costs.
WORTH_MOVING = 8
# Context of the driver, workspaces of the libraries, and what the allocator loses between blocks.
RESERVE_GIB = 2.0
# Activations of an image, in feature maps of the first width at full size. Measured on an H100 in bfloat16 as peaks
# less weights: 0.20 GiB for a guided step of SDXL-unCLIP at 768 x 768, 1.7 GiB for a decoded image. Those of the
# decoder with its prior are an estimate.
UNET_MAPS, AUTOENCODER_MAPS, DECODER_MAPS, OTHER_NUMBERS = 18, 12, 80, 16 << 20
# What works least first: a part is moved out only while it rests, and costs its own size in transfers once a call.
OFFLOAD_ORDER = (
    *("text", "decoder", "low_level", "refiner", "unclip", "variation", "image_encoder", "captioner"),
    *("refiner_autoencoder", "blurry", "autoencoder"),
)
TOKEN_PARTS = ("decoder", "low_level", "converter", "captioner")
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


class OutOfMemory(Unavailable):
    """The device ran out of memory with a batch that was to fit."""


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
    autoencoder_dtype: str = "float32"
    need_gib: float = 0.0


def plan_memory(
    available_gib: float,
    profile: Profile,
    options: GenerationOptions,
    can_offload: bool = True,
    parts: Collection[str] | None = None,
) -> MemoryPlan:
    """Return the plan with the largest batch that fits, and of those the one that moves the fewest parts.

    need = reserve + weights that stay + max over parts (weights if it visits + batch * activations of an image).

    Parameters
    ----------
    available_gib : memory of the device in GiB
    profile : Profile
    options : GenerationOptions
    can_offload : whether parts may rest elsewhere; not so where the device is the CPU itself
    parts : what is loaded, where that is not what the options need

    Raises
    ------
    Unavailable
        Nothing fits; the message says what would.
    """
    loaded = profile.list_parts(options) if parts is None else tuple(parts)
    if options.batch is not None:
        batches: tuple[int, ...] = (options.batch,)
    else:
        batches = BATCHES if can_offload else CPU_BATCHES
    for batch in batches:
        for offloaded in _offloads(loaded, can_offload):
            if batch > WORTH_MOVING and offloaded and options.batch is None:
                break
            for sliced in (False, True):
                plan = _plan(profile, options, loaded, MemoryPlan(batch, offloaded, sliced))
                if plan.need_gib <= available_gib:
                    return plan
    raise _too_little(available_gib, profile, options, can_offload, loaded)


@contextmanager
def explain_shortage(plan: MemoryPlan) -> Iterator[None]:
    """Say what to do where the device runs out of memory in the block, other programs having taken it for one.

    Raises
    ------
    OutOfMemory
        It did.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = f"a batch of {plan.batch // 2}, or " if plan.batch > 1 else ""
        raise OutOfMemory(
            f"too little memory for {plan.batch} images at once ({str(error).partition('. ')[0]})",
            f"about {plan.need_gib:.1f} GiB for this job alone",
            f"End what else uses the device, or choose {smaller}a smaller memory, which moves parts out that rest.",
        ) from error


def find_need_gib(
    profile: Profile, options: GenerationOptions, can_offload: bool = True, parts: Collection[str] | None = None
) -> float:
    """Return the least memory in GiB that a run can do with: images one by one, and all parts offloaded that can be."""
    loaded = profile.list_parts(options) if parts is None else tuple(parts)
    least = MemoryPlan(options.batch or 1, _offloads(loaded, can_offload)[-1], True)
    return _plan(profile, options, loaded, least).need_gib


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
    """Return the GiB of activations that one image needs in one part while it works, two streams where it is guided."""
    config = profile.parts[part].build_config()
    match profile.parts[part].network:
        case "sdxl-unet" | "variation-unet":
            _, rows, columns = profile.latent_shape
            numbers = 2 * rows * columns * config.channels[0] * UNET_MAPS
        case "autoencoder":
            numbers = profile.side**2 * config.channels[0] * AUTOENCODER_MAPS
        case "mindeye2" | "mindeye1":
            numbers = 2 * config.tokens * config.dim * DECODER_MAPS
        case _:
            numbers = OTHER_NUMBERS
    return float(numbers * BYTES[dtype] / GIB)


def count_kept(profile: Profile, part: str, dtype: str) -> float:
    """Return the GiB that a UNet keeps of an image's context: keys and values of each cross-attention, both streams."""
    if profile.parts[part].network != "sdxl-unet":
        return 0.0
    config = profile.parts[part].build_config()
    said_by = profile.parts["text" if part == "refiner" else "decoder"].build_config()
    tokens = said_by.length if part == "refiner" else said_by.tokens
    blocks = 2 * config.layers + 1  # of a level, on the way down and up
    widths = [
        width * depth * (blocks * attends + (level == len(config.channels) - 1))  # and one in the middle
        for level, (width, depth, attends) in enumerate(
            zip(config.channels, config.depth, config.attention, strict=True)
        )
    ]
    return float(2 * 2 * tokens * sum(widths) * BYTES[dtype] / GIB)


def _plan(profile: Profile, options: GenerationOptions, parts: tuple[str, ...], plan: MemoryPlan) -> MemoryPlan:
    """Return the plan with the dtype of its autoencoders and its need."""
    autoencoder_dtype = find_autoencoder_dtype(options.dtype)
    staying, visiting = 0.0, 0.0
    for part in parts:
        if part == "refiner_text":
            continue  # it says one sentence while the weights are loaded, and is let go
        network = profile.parts[part].network
        dtype = autoencoder_dtype if network == "autoencoder" else options.dtype
        weights = count_parameters(profile.parts[part]) * BYTES[dtype] / GIB
        at_once = 1 if plan.sliced_decode and network == "autoencoder" else plan.batch
        if part in TOKEN_PARTS:
            at_once = TOKEN_BATCH
        working = at_once * estimate_activations(profile, part, dtype)
        staying += at_once * count_kept(profile, part, dtype)
        if part in plan.offloaded:
            visiting = max(visiting, weights + working)
        elif network == "sdxl-unet":
            staying += weights + working  # its recorded graph holds on to what it works in
        else:
            staying += weights
            visiting = max(visiting, working)
    return replace(plan, autoencoder_dtype=autoencoder_dtype, need_gib=RESERVE_GIB + staying + visiting)


def _offloads(parts: tuple[str, ...], can_offload: bool) -> list[frozenset[str]]:
    movable = [part for part in OFFLOAD_ORDER if part in parts and can_offload]
    return [frozenset(movable[:count]) for count in range(len(movable) + 1)]


def _too_little(
    available_gib: float, profile: Profile, options: GenerationOptions, can_offload: bool, parts: tuple[str, ...]
) -> Unavailable:
    smaller: list[tuple[str, GenerationOptions]] = []
    if options.batch is not None:
        smaller.append(("Leave the batch to the plan", options.model_copy(update={"batch": None})))
    if options.dtype != "bfloat16":
        smaller.append(("Use dtype bfloat16", options.model_copy(update={"batch": None, "dtype": "bfloat16"})))
    for stop in reversed(PARTS_OF_STAGE):
        fewer = options.model_copy(update={"batch": None, "dtype": "bfloat16", "stop": stop})
        if options.reaches(stop) and stop != options.stop:
            smaller.append((f"Use dtype bfloat16 and stop at {stop}", fewer))
    wanted = find_need_gib(profile, options, can_offload, parts)
    whole = parts == profile.list_parts(options)
    fitting = [
        f"{text}: that needs {need:.1f} GiB."
        for text, fewer in smaller
        if (need := find_need_gib(profile, fewer, can_offload)) <= available_gib and whole
    ]
    return Unavailable(
        f"{available_gib:.1f} GiB of memory for {profile.name}",
        f"at least {wanted:.1f} GiB for {options.dtype} up to {options.stop}",
        fitting[0] if fitting else "Use a larger device.",
    )
