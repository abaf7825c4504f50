"""MindEye2 at its released size with random weights: speed, memory and error. Prints one JSON object.

python tests/benchmarks/mindeye2.py [--small] [--batch 24] [--only ceiling,unet,...] [--out FILE]

Times are GPU times of whole sampling loops, fresh inputs each, after a warm-up; the median of repeats. Calls of the
network are counted by a hook. ``--small`` runs everything at a small size on the CPU, to see that it works.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
import traceback
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest import mock

START = time.perf_counter()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

from voxelight.models.captioning.vocabulary import small_vocabulary  # noqa: E402
from voxelight.models.diffusion.constants import Constants  # noqa: E402
from voxelight.models.diffusion.presets import PRESETS  # noqa: E402
from voxelight.models.diffusion.samplers import SAMPLERS, Guided, start_latent  # noqa: E402
from voxelight.models.diffusion.speed import prepare_autoencoder, prepare_unet  # noqa: E402
from voxelight.models.diffusion.unet import EpsDenoiser, UNetConfig, size_vector  # noqa: E402
from voxelight.neuro import generate, stages  # noqa: E402
from voxelight.neuro.memory import plan_memory  # noqa: E402
from voxelight.neuro.networks import Networks  # noqa: E402
from voxelight.neuro.profiles import GenerationOptions, find_profile  # noqa: E402
from voxelight.neuro.reconstruct import reconstruct  # noqa: E402

IMPORTED = time.perf_counter()
TFLOP_A_CALL = 3.773  # of one sample, counted with PyTorch's counter, keys and values of the context included
CALLS = 76
MEASURED_BEFORE = {
    "published loop, batch 1, fp16 autocast": 3.33,
    "its code at batch 8": 0.98,
    "plain diffusers bf16, batch 8": 0.83,
    "the same with torch.compile": 0.63,
    "limit at 784 TFLOP/s": 0.366,
}


def fill(module, device, dtype, seed=0):
    """Give a module built on meta random weights where it will work: normal, scaled by inputs; gains 1, biases 0."""
    generator = torch.Generator(device).manual_seed(seed)
    for owner in module.modules():
        if isinstance(owner, Constants):
            for name, value in owner.exact().items():
                setattr(
                    owner,
                    name,
                    nn.Parameter(value.to(device), False) if name in owner._parameters else value.to(device),
                )
            continue
        for name, parameter in owner._parameters.items():
            if parameter is None:
                continue
            values = torch.empty(parameter.shape, device=device, dtype=dtype)
            if values.ndim > 1:
                values.normal_(0, values[0].numel() ** -0.5, generator=generator)
            else:
                values.fill_(0.0 if name == "bias" else 1.0)
            owner._parameters[name] = nn.Parameter(values, requires_grad=False)
        for name, value in owner._buffers.items():
            owner._buffers[name] = value.to(device)
    return module.eval()


def build(config, device, dtype, seed=0):
    with torch.device("meta"):
        module = config.build()
    return fill(module, device, dtype, seed)


class Bench:
    """Where and how large, and the inputs of a sampling loop."""

    def __init__(self, arguments):
        self.small = arguments.small
        self.device = "cpu" if arguments.small else "cuda"
        self.batch = 2 if arguments.small else arguments.batch
        self.repeats = arguments.repeats
        self.side = 8 if arguments.small else 96
        self.half = torch.float32 if self.small else torch.bfloat16  # a CPU has no fast half precision
        self.tokens = 16 if self.small else 256
        sizes = {"channels": (32, 64, 64), "depth": (1, 1, 1), "head_dim": 32, "context_dim": 64, "layers": 1}
        self.config = UNetConfig(**sizes if self.small else {})

    def unet(self, dtype=None):
        return nn.Module.to(build(self.config, self.device, torch.bfloat16), dtype or self.half)

    def sample(self, unet, images, seed, preset="published", steps=None):
        """Return latents of one loop; the same numbers for an image whatever the batch and the dtype."""
        preset, dtype = PRESETS[preset], next(unet.parameters()).dtype
        drawn = [torch.Generator(self.device).manual_seed(1000 * seed + image) for image in range(images)]

        def draw(*shape):
            return torch.stack([torch.randn(shape, device=self.device, generator=one) for one in drawn])

        tokens, uncond = draw(self.tokens, self.config.context_dim), draw(self.tokens, self.config.context_dim)
        sigmas = preset.sigmas() if steps is None else preset.sigmas()[: steps + 1]
        latent = (4, self.side, self.side)
        start = start_latent(draw(*latent), draw(*latent), draw(1)[:, 0], sigmas[0])
        vector = size_vector(768, 768, 0, 0).to(self.device, dtype)
        guided = Guided(
            EpsDenoiser(unet), tokens.to(dtype), vector, uncond.to(dtype), vector, preset.guidance, preset.interval
        )
        return lambda: SAMPLERS[preset.sampler](guided, start, sigmas)

    def time(self, run):
        """Return seconds of GPU time, and what the card said meanwhile."""
        if self.device == "cpu":
            start = time.perf_counter()
            run()
            return time.perf_counter() - start, None
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        card = read_card() if not end.query() else None
        end.synchronize()
        return begin.elapsed_time(end) / 1e3, card

    def measure(self, unet, images, repeats, preset="published"):
        """Return times of whole loops, the calls an image, and the peak of memory."""
        start = time.perf_counter()
        self.sample(unet, images, 0, preset, steps=2)()
        self.wait()
        first = time.perf_counter() - start
        if PRESETS[preset].interval is not None:
            self.sample(unet, images, 0, preset)()  # the shapes without guidance too
        evaluations = []
        handle = unet.register_forward_hook(lambda module, given, out: evaluations.append(len(given[0])))
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        timed = [self.time(self.sample(unet, images, 1 + repeat, preset)) for repeat in range(repeats)]
        handle.remove()
        seconds = [one / images for one, _ in timed]
        calls = sum(evaluations) / images / repeats
        found = {
            "batch": images,
            "seconds_an_image": round(statistics.median(seconds), 4),
            "all_repeats": [round(one, 4) for one in seconds],
            "calls_an_image": calls,
            "tflops": round(calls * TFLOP_A_CALL / statistics.median(seconds), 1),
            "first_two_steps_seconds": round(first, 2),
            "card": timed[-1][1],
        }
        if self.device == "cuda":
            found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        return found

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()


def read_card():
    fields = "clocks.sm,power.draw,temperature.gpu"
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def distance(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def run_ceiling(bench, report):
    """The rate of a large matrix product: a short burst, and as long as a sampling loop, when the card is warm."""
    side, many = (256, 5) if bench.small else (8192, 2000)
    left, right, out = (torch.randn(side, side, device=bench.device, dtype=bench.half) for _ in range(3))

    def multiply(times):
        for _ in range(times):
            torch.mm(left, right, out=out)

    multiply(1)
    burst, _ = bench.time(lambda: multiply(5))
    lasting, card = bench.time(lambda: multiply(many))
    tflop = 2 * side**3 / 1e12
    report["matrix_tflops"] = {"burst": round(5 * tflop / burst, 3), "lasting": round(many * tflop / lasting, 3)}
    report["card_under_matrix_products"] = card


def run_unet(bench, report):
    unet = prepare_unet(bench.unet())
    report["unet"] = {}
    for images in [bench.batch] if bench.small else sorted({8, 16, bench.batch}):
        found = bench.measure(unet, images, bench.repeats if images == bench.batch else 1)
        rates = report.get("matrix_tflops", {})
        found["share_of_matrix_rate"] = {name: round(found["tflops"] / rate, 3) for name, rate in rates.items()}
        report["unet"][f"batch {images}"] = found
    report["fast"] = bench.measure(unet, bench.batch, bench.repeats, "fast")


def run_fp8(bench, report):
    if not bench.small:
        report["fp8"] = bench.measure(prepare_unet(bench.unet(), fp8=True), bench.batch, 1)


def run_plain(bench, report):
    report["plain_diffusers"] = bench.measure(bench.unet(), bench.batch, 1)


def run_published(bench, report):
    unet = bench.unet(torch.float32)
    with torch.autocast(bench.device, torch.bfloat16 if bench.small else torch.float16):
        report["published_type"] = bench.measure(unet, 1, 2)


def run_error(bench, report):
    """Latents of two images after all steps, and one noise estimate, against float32 without TF32."""
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    reference = bench.unet(torch.float32)
    latents, estimates = {}, {}
    shapes = (4, 4, bench.side, bench.side), (4, bench.tokens, bench.config.context_dim), (4, bench.config.vector_dim)
    inputs = [torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes]
    times = torch.tensor([999, 700, 400, 100], device=bench.device)
    ways = {"float32": lambda: reference, "plain bf16": bench.unet, "bf16": lambda: prepare_unet(bench.unet())}
    if not bench.small:
        ways["fp8"] = lambda: prepare_unet(bench.unet(), fp8=True)
    for name, make in ways.items():
        unet = make()
        latents[name] = bench.sample(unet, 2, 7)().clone()
        given = [one.to(bench.device, next(unet.parameters()).dtype) for one in inputs]
        out = unet(given[0], times, encoder_hidden_states=given[1], class_labels=given[2], return_dict=False)
        estimates[name] = out[0].clone()
    with torch.autocast(bench.device, torch.bfloat16 if bench.small else torch.float16):
        latents["fp16 autocast"] = bench.sample(reference, 2, 7)().clone()
    report["relative_error_of_latents"] = {name: distance(one, latents["float32"]) for name, one in latents.items()}
    report["relative_error_of_one_call"] = {
        name: distance(one, estimates["float32"]) for name, one in estimates.items()
    }
    report["latents_std"] = float(latents["float32"].std())
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed


def load(bench, options):
    """Return the networks of the released profile with random weights made where they work."""
    profile = find_profile("random-small" if bench.small else "mindeye2")
    plan = plan_memory(40, profile, options, can_offload=not bench.small)
    plan = replace(plan, batch=bench.batch)
    parts = {}
    for number, part in enumerate(part for part in profile.list_parts(options) if part != "refiner_text"):
        config = profile.parts[part].build_config()
        module = build(config, bench.device, bench.half, number)
        if part == "captioner":
            words = small_vocabulary()
            module.use_vocabulary(words + tuple(f"[unused{n}]" for n in range(config.vocabulary - len(words))))
        network = profile.parts[part].network
        ready = {"sdxl-unet": prepare_unet, "autoencoder": prepare_autoencoder}.get(network, lambda same: same)
        parts[part] = ready(module)
    text = profile.parts["refiner_text"].build_config()
    width = text.clip_l_width + text.bigg_width
    negative = (torch.randn(1, 77, width), torch.randn(1, text.pooled_dim))
    hashes = dict.fromkeys(profile.list_parts(options), "random")
    return Networks(profile, parts, hashes, plan, torch.device(bench.device), bench.half, negative)


def make_trials(networks, count, seed=0):
    voxels = networks.profile.parts["decoder"].config["voxels"][0]
    random = np.random.default_rng(seed)
    return [random.normal(size=(3, voxels)).astype(np.float32) for _ in range(count)]


def run_pipeline(bench, report):
    begin = time.perf_counter()
    networks = load(bench, GenerationOptions())
    bench.wait()
    loaded = time.perf_counter()
    found = report["pipeline"] = {"plan": str(networks.plan)}

    def go(count, **options):
        if bench.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        trials = make_trials(networks, count, count)
        start = time.perf_counter()
        made = reconstruct(networks, trials, list(range(count)), GenerationOptions(**options))
        seconds = time.perf_counter() - start
        assert all(one.image is None or np.isfinite(one.image).all() for one in made)
        return seconds

    found["first_image"] = {
        "imports": round(IMPORTED - START, 2),
        "networks": round(loaded - begin, 2),
        "first_image": round(go(1), 2),
        "second_image": round(go(1), 2),
    }
    for name, preset in (("published", {}), ("fast", {"preset": "fast"})):
        go(bench.batch, **preset)  # the shapes are seen for the first time
        seconds = [go(bench.batch, **preset) / bench.batch for _ in range(2)]
        found[name] = {"batch": bench.batch, "seconds_an_image": round(min(seconds), 4), "all": seconds}
        if bench.device == "cuda":
            found[name]["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    found["stages_seconds_an_image"] = time_stages(bench, lambda: go(bench.batch))
    many = 4 * bench.batch if bench.small else 64
    go(many, stop="tokens")
    found["tokens_only_trials_a_second"] = round(3 * many / go(many, stop="tokens"), 1)
    go(many, stop="caption")
    found["captions_a_second"] = round(many / go(many, stop="caption"), 1)


def time_stages(bench, run):
    """Return seconds an image of each stage, from one more run that waits for the GPU after each."""
    names = [
        "decode_voxels", "sample_tokens", "sample_unclip", "decode_unclip", "decode_blurry", "condition_on_text",
        "encode_unrefined", "sample_refined", "decode_refined", "blend",
    ]  # fmt: skip
    places = [(stages, name) for name in names] + [(generate, "caption_tokens")]
    spent = {}

    def wrap(name, function):
        def timed(*given, **named):
            bench.wait()
            start = time.perf_counter()
            out = function(*given, **named)
            bench.wait()
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
            return out

        return timed

    with ExitStack() as patches:
        for module, name in places:
            patches.enter_context(mock.patch.object(module, name, wrap(name, getattr(module, name))))
        total = run()
    spent["between stages"] = total - sum(spent.values())
    return {name: round(seconds / bench.batch, 4) for name, seconds in spent.items()}


def compare(report):
    """Return how many times faster the prepared UNet is than what ran beside it."""
    if "unet" not in report:
        return {}
    best = min(one["seconds_an_image"] for one in report["unet"].values())
    others = {
        name: report[name]["seconds_an_image"] for name in ("plain_diffusers", "published_type") if name in report
    }
    return {name: round(seconds / best, 2) for name, seconds in others.items()}


SECTIONS = {
    "ceiling": run_ceiling, "unet": run_unet, "pipeline": run_pipeline, "plain": run_plain,
    "published": run_published, "fp8": run_fp8, "error": run_error,
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    bench = Bench(arguments)
    report = {"torch": torch.__version__, "device": "cpu" if bench.small else torch.cuda.get_device_name()}
    report["measured_before_seconds_an_image"] = MEASURED_BEFORE
    with torch.inference_mode():
        for name in arguments.only.split(","):
            try:
                SECTIONS[name](bench, report)
            except Exception:  # what the other sections found is worth keeping
                report.setdefault("failed", {})[name] = traceback.format_exc()
            report["times_faster"] = compare(report)
            print(f"{name}: {time.perf_counter() - START:.0f} s", file=sys.stderr, flush=True)
            if arguments.out:
                arguments.out.write_text(json.dumps(report, indent=2))
            gc.collect()  # a prepared UNet and its calls know each other
            if not bench.small:
                torch.cuda.empty_cache()
    print(json.dumps(report, indent=2))
    sys.exit(1 if "failed" in report else 0)


if __name__ == "__main__":
    main()
