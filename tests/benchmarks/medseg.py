"""Speed of segmentation beside plain forms of the same, in one run. Prints JSON with ratios; above 1 is faster.

python tests/benchmarks/medseg.py whole [--shape 128 128 144] [--repeats 3]
    AGUNet with the published filters over a whole volume: as inference on a processor runs it, against plain PyTorch.
python tests/benchmarks/medseg.py windows [--side 384] [--patch 96] [--device cuda]
    Sliding windows and the likeliest label, 3 and 100 labels: time and peak memory against MONAI's.
python tests/benchmarks/medseg.py end-to-end [--side 256]
    Read, resample, infer, resample back, write: all of it over the time inside the network.
python tests/benchmarks/medseg.py cdal [--side 64] [--device cuda]
    20 votes of a cDAL against a loop that encodes the image again at every call.
python tests/benchmarks/medseg.py training --device cuda [--steps 200]
    Training steps a second against a plain MONAI loop: the same network, window, batch, loss and precision.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.inferers.utils import sliding_window_inference
from monai.losses import DiceCELoss
from monai.transforms import Compose, RandAffined, RandFlipd, RandGaussianNoised, RandSpatialCropd
from scipy import ndimage
from torch import nn

from voxelight.medseg.cases import Case
from voxelight.medseg.predict import Segmenter, build_segmenter
from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.medseg.reduce import LabelReducer
from voxelight.medseg.segment import label, prepare
from voxelight.medseg.stream import Windows, stream
from voxelight.medseg.train import fit
from voxelight.models.segmentation.agunet import AGUNetConfig
from voxelight.models.segmentation.cdal import CDALConfig
from voxelight.models.segmentation.fuse import fuse
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.storage.formats.nifti import write_label_map
from voxelight.storage.formats.volumes import read_image

GIB = 2**30
PUBLISHED = {"in_channels": 1, "classes": 2, "filters": (16, 32, 128, 256, 256)}
SMALL = {"in_channels": 1, "filters": (16, 32, 64, 128)}


def settled(network):
    """Give normalisations statistics as training leaves them; with fresh ones they would do nothing."""
    chance = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.uniform_(-0.2, 0.2, generator=chance)
            module.running_var.uniform_(0.5, 2, generator=chance)
    return network.eval()


def wait(device):
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def take_turns(functions, repeats, device="cpu"):
    """Call each in turn and return its seconds: wall and of the processor, the least of each."""
    taken = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            wait(device)
            wall, own = time.perf_counter(), time.process_time()
            function()
            wait(device)
            taken[name].append((time.perf_counter() - wall, time.process_time() - own))
    return {name: [min(column) for column in zip(*rows, strict=True)] for name, rows in taken.items()}


def compare(taken, plain, ours):
    names = ("wall", "processor")
    seconds = {name: dict(zip(names, map(float, values), strict=True)) for name, values in taken.items()}
    return {"seconds": seconds} | {
        f"ratio_{name}": seconds[plain][name] / seconds[ours][name] for name in names if seconds[ours][name] > 0
    }


@torch.inference_mode()
def run_whole(arguments):
    network = settled(AGUNetConfig(**PUBLISHED).build())
    fused = fuse(network, torch.zeros(1, 1, 32, 32, 32))
    x = torch.randn(1, 1, *arguments.shape, generator=torch.Generator().manual_seed(0))
    expected, found = network(x), fused(x)
    taken = take_turns({"plain": lambda: network(x), "fused": lambda: fused(x)}, arguments.repeats)
    error = float((found - expected).abs().max() / expected.abs().max())
    labels = float((found.argmax(1) == expected.argmax(1)).float().mean())
    return compare(taken, "plain", "fused") | {"largest_relative_difference": error, "equal_labels": labels}


def run_windows(arguments):
    results = {}
    for labels in arguments.labels:
        each = {}
        for which in ("monai", "ours"):
            with multiprocessing.get_context("spawn").Pool(1) as pool:  # peak memory is of one process
                each[which] = pool.apply(time_windows, (which, labels, vars(arguments)))
        with_labels = [each[which].pop("labels") for which in ("monai", "ours")]
        results[f"{labels} labels"] = each | {
            "ratio_wall": each["monai"]["seconds"] / each["ours"]["seconds"],
            "ratio_processor": each["monai"]["processor_seconds"] / each["ours"]["processor_seconds"],
            "ratio_memory": each["monai"]["beyond_input_gib"] / each["ours"]["beyond_input_gib"],
            "equal_labels": float(np.mean(with_labels[0] == with_labels[1])),
        }
    return results


@torch.inference_mode()
def time_windows(which, labels, options):
    """Segment noise in one process: half precision on a GPU, single on a processor."""
    torch.manual_seed(0)
    device, size = options["device"], (options["patch"],) * 3
    on_gpu = torch.device(device).type == "cuda"
    network = settled(AGUNetConfig(classes=labels, **SMALL).build()).to(device)
    if on_gpu:
        network = network.half()
    image = torch.randn(1, *(options["side"],) * 3).to(device, torch.float16 if on_gpu else torch.float32)
    grid = Geometry(tuple(image.shape[1:]), np.eye(4))

    def predict(x):
        return network(x).softmax(dim=1)

    def monai():
        found = sliding_window_inference(image[None], size, 1, predict, 0.25, mode="gaussian")
        return found[0].argmax(0).to(torch.uint8).cpu().numpy()

    def ours():
        reducer = LabelReducer(grid, grid, labels)
        for box, block in stream(image, predict, Windows(size, 0.25)):
            reducer.take(box, block)
        return reducer.labels

    function = {"monai": monai, "ours": ours}[which]
    predict(image[None, :, : size[0], : size[1], : size[2]])
    before = start_memory(device)
    wall, own = time.perf_counter(), time.process_time()
    found = function()
    wait(device)
    seconds, own = time.perf_counter() - wall, time.process_time() - own
    told = {"seconds": seconds, "processor_seconds": own, "beyond_input_gib": read_memory(device, before)}
    return told | {"labels": found}


def start_memory(device):
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def read_memory(device, before):
    """Return what the peak has over what was there, GiB; on a processor of all the process has touched."""
    if torch.device(device).type == "cuda":
        return (torch.cuda.max_memory_allocated(device) - before) / GIB
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before, 1) / GIB


class Timed(nn.Module):
    """A network that counts the seconds inside it."""

    def __init__(self, network):
        super().__init__()
        self.network, self.wall, self.own, self.calls = network, 0.0, 0.0, 0

    def forward(self, x):
        wall, own = time.perf_counter(), time.process_time()
        found = self.network(x)
        self.wall += time.perf_counter() - wall
        self.own += time.process_time() - own
        self.calls += 1
        return found


def run_end_to_end(arguments):
    recipe = SegmentationRecipe(
        name="timed", title="", summary="", network="agunet", config=PUBLISHED, weights="none", labels={1: "label"},
        spacing_mm=(1, 1, 1), patch=tuple(arguments.shape), overlap=0.25, mirror_average=False,
    )  # fmt: skip
    built = build_segmenter(recipe, settled(AGUNetConfig(**PUBLISHED).build()).state_dict(), "cpu")
    timed = Timed(built.networks[0])
    segmenter = Segmenter(recipe, (timed,), "cpu")
    parts, marks = {}, []

    def mark(name):
        marks.append(time.perf_counter())
        if name:
            parts[name] = marks[-1] - marks[-2]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.nii.gz"
        write_head(path, arguments.side)
        own = time.process_time()
        mark("")
        volume, grid = read_image(path)
        mark("read")
        prepared = prepare(volume, recipe)
        mark("prepare")
        found = label(prepared, segmenter).label_map
        mark("infer")
        write_label_map(Path(folder) / "head_dseg.nii.gz", found, grid)
        mark("write")
        own = time.process_time() - own
    return {
        "seconds": parts | {"network": timed.wall},
        "windows": timed.calls,
        "all_over_network_wall": sum(parts.values()) / timed.wall,
        "all_over_network_processor": own / timed.own,
    }


def write_head(path, side):
    """Write noise of the smoothness of a scan, 0.8 mm voxels, in a head of an ellipsoid."""
    at = np.linspace(-1, 1, side)
    inside = (at[:, None, None] ** 2 + at[:, None] ** 2 + at**2) < 0.8
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(side,) * 3).astype(np.float32), 1)
    voxels = (inside * (600 + 900 * noise)).clip(0, 4000).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([0.8, 0.8, 0.8, 1])), path)


@torch.inference_mode()
def run_cdal(arguments):
    torch.manual_seed(0)
    network = CDALConfig(classes=2, votes=20).build().eval().to(arguments.device)
    image = torch.randn(1, 1, arguments.side, arguments.side, device=arguments.device)
    padded, forward = network.pad(image), network.generator.forward

    def ours():
        return network.draw_votes(image, 20, torch.Generator(arguments.device).manual_seed(0))

    def loop():
        chance = torch.Generator(arguments.device).manual_seed(0)
        network.generator.forward = lambda x, t, z, _: forward(x, t, z, network.generator.encode(padded))
        try:
            return torch.cat([network.draw_votes(image, 1, chance) for _ in range(20)])
        finally:
            del network.generator.forward

    ours()
    taken = take_turns({"loop": loop, "ours": ours}, arguments.repeats, arguments.device)
    return compare(taken, "loop", "ours")


def make_cases(count=16):
    chance, cases = np.random.default_rng(0), []
    grid = Geometry((48, 64, 48), np.eye(4))
    for number in range(count):
        image = ndimage.gaussian_filter(chance.normal(size=grid.shape), 2).astype(np.float32)
        labels = np.digitize(image, [0.02, 0.05]).astype(np.uint8)
        names = {1: "anterior", 2: "posterior"}
        cases.append(Case(f"case{number}", Volume(image[None], grid), LabelMap(labels, grid, names)))
    return cases


def run_training(arguments):
    recipe = find_recipe("hippocampus-agunet")
    cases, steps = make_cases(), arguments.steps
    seconds = {}
    for name, function in (("monai", train_plainly), ("ours", train_ours)):
        function(cases, recipe, 20, arguments.device)
        wait(arguments.device)
        start = time.perf_counter()
        function(cases, recipe, steps, arguments.device)
        wait(arguments.device)
        seconds[name] = time.perf_counter() - start
    return {
        "steps_a_second": {name: steps / value for name, value in seconds.items()},
        "ratio_wall": seconds["monai"] / seconds["ours"],
    }


def train_ours(cases, recipe, steps, device):
    short = {"steps": steps, "settling": 1}
    training = recipe.training.model_copy(update=short)
    fit(cases, recipe.model_copy(update={"training": training}), device)


def train_plainly(cases, recipe, steps, device):
    """Train as MONAI's tutorials do: cached cases, random transforms in two workers, mixed precision."""
    window, keys = recipe.training.window, ("image", "label")
    change = Compose([
        RandAffined(keys, prob=1, spatial_size=window, rotate_range=(0.4,) * 3, scale_range=(0.25,) * 3,
                    translate_range=(5,) * 3, mode=("bilinear", "nearest"), padding_mode="border"),
        RandSpatialCropd(keys, window, random_size=False),
        RandFlipd(keys, prob=0.5, spatial_axis=0),
        RandGaussianNoised("image", prob=0.5, std=0.1),
    ])  # fmt: skip
    rows = [{"image": case.volume.array, "label": case.labels.array[None].astype(np.float32)} for case in cases]
    data = CacheDataset(rows * recipe.training.batch, change, num_workers=0, progress=False)
    loader = DataLoader(data, batch_size=recipe.training.batch, shuffle=True, num_workers=2, persistent_workers=True)
    network = AGUNetConfig(**recipe.config).build().to(device)
    loss = DiceCELoss(include_background=False, softmax=True, to_onehot_y=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    done = 0
    while done < steps:
        for batch in loader:
            x, y = batch["image"].to(device), batch["label"].to(device)
            optimiser.zero_grad()
            with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
                levels = network.forward_levels(x)
            finest = levels[0].shape[2:]
            value = sum(
                0.5**n * loss(nn.functional.interpolate(level.float(), finest), y) for n, level in enumerate(levels)
            )
            value.backward()
            optimiser.step()
            done += 1
            if done == steps:
                break


PARTS = {
    "whole": run_whole,
    "windows": run_windows,
    "end-to-end": run_end_to_end,
    "cdal": run_cdal,
    "training": run_training,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="of the processor")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=3, default=[128, 128, 144])
    parser.add_argument("--side", type=int)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--labels", type=int, nargs="+", default=[3, 100])
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    arguments.side = arguments.side or {"windows": 384, "end-to-end": 256, "cdal": 64}.get(arguments.part, 0)
    torch.set_num_threads(arguments.threads)
    on_gpu = torch.device(arguments.device).type == "cuda"
    where = {
        "device": torch.cuda.get_device_name() if on_gpu else "processor",
        "threads": arguments.threads,
        "torch": torch.__version__,
        "shape": arguments.shape,
        "side": arguments.side,
        "patch": arguments.patch,
    }
    print(json.dumps({"part": arguments.part, "where": where} | PARTS[arguments.part](arguments), indent=2))


if __name__ == "__main__":
    main()
