"""Steps of MindEye2's training at its released size on random data. Prints one JSON object.

python tests/benchmarks/train_mindeye2.py [--small] [--ways cached,cached_plain,recomputed,published] [--steps 20]
    [--out FILE]

``cached`` reads frozen targets from the disk; ``recomputed`` is the same step with bigG, the autoencoder's encoder and
two ConvNeXt-XL in front of it, at the same precision; ``published`` is the released step: float32 weights of all
networks, autocast to fp16, every defect, recomputed targets, a fifth of each batch decoded to be looked at. Pictures
are not augmented for the second ConvNeXt, which favours what recomputes. In all ways but the
published one layers of the prior are compiled and the widest layer is stepped in place, as a training of this length
does by itself; ``cached_plain`` is ``cached`` with the gradient of that layer written, and how far steps of both differ
is told from a smaller layer. Times are of whole steps with their reading, after a warm-up,
whose seconds (compiling, and first steps) are told; the median of repeats. ``--small`` runs everything at a small size
on the CPU, to see that it works.
"""

import argparse
import gc
import hashlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from wide_step import check

from voxelight.models.clip.image_encoder import ImageEncoderConfig
from voxelight.models.decoders.mindeye2 import MindEye2Config
from voxelight.models.diffusion.autoencoder import AutoencoderConfig
from voxelight.models.training.seeds import seeded
from voxelight.neuro.train import DecoderTrainee
from voxelight.neuro.training.batches import TrainingSubject
from voxelight.neuro.training.compiled import compiled, pays
from voxelight.neuro.training.recipe import find_training_recipe
from voxelight.neuro.training.samples import Dealer, TrainingData
from voxelight.neuro.training.targets import CachedTargets, ComputedTargets
from voxelight.storage.targets import TargetStore

SESSIONS = 1
STEPS_OF_ONE_HOUR, STEPS_OF_40_SESSIONS = 4_650, 187_500
AIM_MS, AIM_TIMES_FASTER, AIM_MINUTES = 80, 2.3, 6
FULL = {
    "voxels": 15_724,
    "trials": 750,
    "pictures": 300,
    "decoder": {},
    "clip": {},
    "vae": {},
    "convnext": "convnext_xlarge",
}
SMALL = {
    "voxels": 50,
    "trials": 750,
    "pictures": 60,
    "decoder": {
        "hidden": 32, "tokens": 256, "dim": 16, "decoder_widths": (32, 32, 32),
        "prior": {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8},
    },
    "clip": {"width": 16, "layers": 1, "head_width": 8, "output_dim": 8},
    "vae": {"channels": (32, 32, 32, 32), "layers": 1},
    "convnext": "convnext_atto",
}  # fmt: skip
WAYS = {
    "cached": {"precision": "bf16", "recompute": False, "published": False},
    "cached_plain": {"precision": "bf16", "recompute": False, "published": False, "step_in_place": False},
    "recomputed": {"precision": "bf16", "recompute": True, "published": False},
    "published": {"precision": "fp16", "recompute": True, "published": True},
}


class Teacher(nn.Module):
    """A ConvNeXt with a projector of every place, in the shape of the one that the low-level branch is taught by."""

    def __init__(self, name, width):
        super().__init__()
        import timm

        self.body = timm.create_model(name, num_classes=0)
        given = self.body.num_features
        self.projector = nn.Sequential(
            nn.Linear(given, width), nn.LayerNorm(width), nn.ReLU(),
            nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, width, bias=False),
        )  # fmt: skip

    def forward(self, pictures):
        return self.projector(self.body.forward_features(pictures).flatten(2).mT)


class Album:
    """Random pictures in memory."""

    def __init__(self, keys):
        self.places = {key: place for place, key in enumerate(keys)}
        self.pixels = np.random.default_rng(0).integers(0, 256, (len(keys), 3, 224, 224), dtype=np.uint8)

    def read(self, keys):
        return self.pixels[[self.places[key] for key in keys]]


def build(make, device, dtype=torch.float32):
    """Build where it works; drawing billions of weights on a CPU takes minutes."""
    with torch.device(device):
        module = make()
    return module.to(device, dtype).eval().requires_grad_(False)


def build_encoders(sizes, device, published):
    """Return the frozen networks by what they give, and the autoencoder."""
    dtype = torch.float32 if published else torch.bfloat16
    clip = build(ImageEncoderConfig(**sizes["clip"]).build, device, dtype)
    vae = build(AutoencoderConfig(scale=0.18215, **sizes["vae"]).build, device, dtype)
    teacher = build(lambda: Teacher(sizes["convnext"], 512), device, dtype)

    def half():
        return torch.autocast(device, torch.float16 if device == "cuda" else torch.bfloat16, enabled=published)

    def run(network):
        def encode(pictures, keys):
            with half():
                return network(pictures.to(dtype))

        return encode

    encoders = {"tokens": run(clip), "latent": run(vae.encode), "maps": run(teacher), "maps_aug": run(teacher)}
    return encoders, lambda latents: _no_grad(half, vae.decode, latents)


@torch.no_grad()
def _no_grad(half, network, values):
    with half():
        return network(values)


def cache(folder, keys, decoder):
    """Write random targets of the right shapes, as a real cache holds them."""
    store, rng = TargetStore(folder), np.random.default_rng(0)
    shapes = {
        "tokens": (decoder.tokens, decoder.dim), "latent": (4, 28, 28),
        "maps": (49, decoder.maps_width), "maps_aug": (49, decoder.maps_width),
    }  # fmt: skip
    tables = {kind: store.table(kind, "random") for kind in shapes}
    for kind, shape in shapes.items():
        for start in range(0, len(keys), 50):
            part = keys[start : start + 50]
            tables[kind].write(part, rng.standard_normal((len(part), *shape), dtype=np.float32).astype(np.float16))
    return CachedTargets({kind: tables[kind] for kind in ("tokens", "latent", "maps")}, [tables["maps_aug"]])


def make_subject(sizes, keys, folder):
    """Write random betas and map them."""
    path = folder / "betas.npy"
    if not path.exists():
        np.save(path, np.random.default_rng(1).standard_normal((sizes["trials"], sizes["voxels"]), dtype=np.float32))
    pictures = tuple(keys[trial % len(keys)] for trial in range(sizes["trials"]))
    voxels = np.load(path, mmap_mode="r")
    return TrainingSubject("random", voxels, pictures, ("1",) * sizes["trials"], np.arange(sizes["trials"]))


def count_flops(trainee, number):
    with FlopCounterMode(display=False) as counter:
        trainee.step(number)
    return counter.get_total_flops() / 1e12


def measure(name, sizes, folder, keys, options):
    """Return times of whole steps of one way, and what they took."""
    way, device = WAYS[name], options.device
    recipe = find_training_recipe("mindeye2-finetune").model_copy(
        update={"sessions": SESSIONS, "batch": options.batch, "micro_batches": options.micro_batches}
    )
    recipe = recipe.as_published() if way["published"] else recipe.model_copy(update={"precision": way["precision"]})
    config = MindEye2Config(voxels=(sizes["voxels"],), **sizes["decoder"])
    encoders, decode = build_encoders(sizes, device, way["published"]) if way["recompute"] else ({}, None)
    targets = ComputedTargets(Album(keys), encoders, device) if way["recompute"] else cache(folder / name, keys, config)
    data = TrainingData((make_subject(sizes, keys, folder),), targets, frozenset())
    monitored = torch.randn(max(1, options.batch // 5), 4, 28, 28, device=device) if way["published"] else None
    torch.backends.cuda.matmul.allow_tf32 = way["published"]  # the released code lets them be rounded
    with seeded(0, device):
        with torch.device(device):
            network = config.build()
        trainee = DecoderTrainee(
            network.train(), Dealer(data, recipe, config, device == "cuda"), recipe, torch.device(device)
        )
        if way["published"]:  # torch's default, which the released code takes
            for group in trainee._optimiser.param_groups:
                group.update(fused=False, foreach=options.foreach)
            trainee._optimiser._step_supports_amp_scaling = False  # only the fused form takes the scale itself
        long = not way["published"] and pays(recipe, trainee.steps, torch.device(device))
        with trainee.ahead:
            with trainee.stepping(way.get("step_in_place")), compiled(network, long and options.compile):
                found = _time(trainee, options, lambda: decode(monitored) if monitored is not None else None)
                if options.profile:
                    _profile(trainee, options, name)
                found["stepped_in_place"] = network.backbone.backbone_linear.factors is not None
                if device == "cuda":
                    found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
            number = found.pop("next")
            if not way["recompute"]:  # what is recomputed runs in another thread, where nothing is counted
                found["tflop_a_step_without_attention"] = round(count_flops(trainee, number), 3)
    return found


def _time(trainee, options, after):
    number, chunks, losses, warm_up = 0, [], [], 0.0
    _reset(options.device)
    for repeat in range(options.repeats + 1):
        steps = options.warm_up if repeat == 0 else options.steps
        _wait(options.device)
        start = time.perf_counter()
        for _ in range(steps):
            losses.append(trainee.step(number)["loss"])
            after()
            number += 1
        _wait(options.device)
        taken = time.perf_counter() - start
        if repeat:
            chunks.append(taken / steps * 1000)
        else:
            warm_up = taken
    middle = statistics.median(chunks)
    return {
        "ms_a_step": round(middle, 2),
        "spread_ms": [round(min(chunks), 2), round(max(chunks), 2)],
        "warm_up_s": round(warm_up, 1),
        "steps_a_second": round(1000 / middle, 2),
        "minutes_of_one_hour_subject": round(middle * STEPS_OF_ONE_HOUR / 60_000, 2),
        "hours_of_40_sessions": round(middle * STEPS_OF_40_SESSIONS / 3_600_000, 2),
        "losses_finite": bool(torch.isfinite(torch.stack(losses)).all()),
        "next": number,
    }


def _profile(trainee, options, name):
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if options.device == "cuda" else [])]
    with profile(activities=kinds) as found:
        for number in range(1000, 1003):
            trainee.step(number)
        _wait(options.device)
    key = "self_cuda_time_total" if options.device == "cuda" else "self_cpu_time_total"
    Path(options.profile).mkdir(parents=True, exist_ok=True)
    table = found.key_averages().table(sort_by=key, row_limit=40, max_name_column_width=90)
    (Path(options.profile) / f"{name}.txt").write_text(table)


def _wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def _reset(device):
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--profile", metavar="DIR", help="also write tables of the slowest kernels there")
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--no-foreach", dest="foreach", action="store_false", help="AdamW of the published way, if memory is short"
    )
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave all layers as they are")
    for name, default in {"batch": 24, "micro-batches": 1, "warm-up": 5, "steps": 20, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    options.device = "cpu" if options.small else "cuda"
    if options.small:
        options.batch, options.warm_up, options.steps, options.repeats = 4, 1, 2, 2
    sizes = SMALL if options.small else FULL
    keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(sizes["pictures"])]
    report = {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "torch": torch.__version__,
        "small": options.small,
        "batch": options.batch,
        "micro_batches": options.micro_batches,
        "random_weights_and_data": True,
        "published_adamw_foreach": options.foreach,
        "steps_timed": options.steps * options.repeats,
        "step_in_place_relative_errors": check() if options.device == "cuda" else None,
        "ways": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name in options.ways.split(","):
            report["ways"][name] = measure(name, sizes, Path(folder), keys, options)
            print(f"{name}: {json.dumps(report['ways'][name])}", file=sys.stderr, flush=True)
            torch.backends.cuda.matmul.allow_tf32 = False
            gc.collect()
            if options.device == "cuda":
                torch.cuda.empty_cache()
    ways = report["ways"]
    if "cached" in ways:
        others = [name for name in ways if name != "cached"]
        ratio = {name: round(ways[name]["ms_a_step"] / ways["cached"]["ms_a_step"], 2) for name in others}
        report["cached_times_faster_than"] = ratio
        report["aims"] = {"ms": AIM_MS, "times_faster_than_recomputed": AIM_TIMES_FASTER, "minutes": AIM_MINUTES}
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
