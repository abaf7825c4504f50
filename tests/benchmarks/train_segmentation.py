"""Train the segmentation recipes on a machine that has little but torch, a stretch at a time. Prints one JSON object.

python tests/benchmarks/train_segmentation.py pack SET FOLDER OUT.npz
    On any machine with the whole installation: reads the cases of a set (hippocampus, jsrt, nuclei) once, as arrays.
python tests/benchmarks/train_segmentation.py train OUT.npz WORK [--runs agunet:0-4 swin_unetr:0 ...] [--from-shipped]
    Trains and scores what is not finished yet, from the last checkpoint, until --seconds are over; the same command
    goes on. Needs torch, MONAI, numpy, scipy, pydantic, safetensors and fsspec. A run is NETWORK or RECIPE, a colon and
    folds (`all` for no fold); a network of the table is trained by the recipe of the set, so that only networks differ.
"""

import argparse
import hashlib
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from voxelight.medseg.cases import Case
from voxelight.medseg.evaluate import paired_difference
from voxelight.medseg.recipes import find_recipe
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.medseg.splits import choose_split
from voxelight.medseg.train_folds import fit_fold, tabulate
from voxelight.models.registry import SEGMENTERS
from voxelight.models.training.loop import Hooks, LoopOptions
from voxelight.models.values import Geometry, LabelMap, Volume
from voxelight.models.weights import load_weights
from voxelight.storage.checkpoints import CheckpointFolder
from voxelight.storage.training_log import TrainingLog

SETS = {"hippocampus": "hippocampus-agunet", "jsrt": "lungs-jsrt", "nuclei": "nuclei-msga"}
CONFIGS = {"attention_unet": {"filters": (24, 48, 96, 192)}}
RUNS = {
    "hippocampus": ["agunet:0-4", "attention_unet:0-4", "hippocampus-daunet:0", "hippocampus-cdal:0"],
    "jsrt": ["lungs-jsrt:0"],
    "nuclei": ["nuclei-msga:0", "nuclei-cdal:0"],
}
_BORDER = 2


def pack(name, folder, out):
    """Read the cases of a set and write them as one file of arrays."""
    from voxelight.storage.formats.cases import read_cases

    recipe = find_recipe(SETS[name])
    cases = read_nuclei(folder) if name == "nuclei" else read_cases(folder, recipe.labels, recipe.values)
    arrays = {}
    for case in cases:
        arrays[f"{case.name}/image"] = case.volume.array.astype(np.float32)
        arrays[f"{case.name}/labels"] = case.labels.array.astype(np.uint8)
        arrays[f"{case.name}/affine"] = case.volume.geometry.affine
    np.savez_compressed(out, __set__=np.array(name), **arrays)
    print(json.dumps({"cases": len(cases), "bytes": out.stat().st_size}))


def read_nuclei(folder):
    """Fluorescence pictures, bright on dark, in grey; label 2 is the edge of a nucleus."""
    from PIL import Image
    from skimage.segmentation import find_boundaries

    cases = []
    for path in sorted((folder / "images").glob("*.png")):
        picture = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
        if np.ptp(picture, axis=2).max() > 0.05 or picture.mean() > 0.5:
            continue  # stained, or dark on bright: another domain
        instances = np.asarray(Image.open(folder / "labels" / path.name)).astype(np.int32)
        edges = find_boundaries(instances, mode="inner")
        labels = np.where(edges, _BORDER, (instances > 0).astype(int)).astype(np.uint8)
        grid = Geometry((*labels.T.shape, 1), np.eye(4))
        names = {1: "nucleus", 2: "border"}
        cases.append(
            Case(
                path.stem,
                Volume(picture.mean(axis=2).T[None, ..., None], grid),
                LabelMap(labels.T[..., None], grid, names),
            )
        )
    return cases


def unpack(path, limit):
    """Return the name of the set and its cases, as they were packed."""
    with np.load(path) as arrays:
        name = str(arrays["__set__"])
        names = find_recipe(SETS[name]).labels
        stems = sorted(key.removesuffix("/image") for key in arrays.files if key.endswith("/image"))
        cases = []
        for stem in stems[:: max(1, len(stems) // limit)] if limit else stems:
            image, labels = arrays[f"{stem}/image"], arrays[f"{stem}/labels"]
            grid = Geometry(labels.shape, arrays[f"{stem}/affine"])
            cases.append(Case(stem, Volume(image, grid), LabelMap(labels, grid, names)))
    return name, cases


def find_run_recipe(name, base, steps):
    """Return the recipe of a run: that of its name, or the set's with another network."""
    if name in SEGMENTERS:
        config = {key: base.config[key] for key in ("in_channels", "classes")} | CONFIGS.get(name, {})
        config = base.config if name == base.network else config
        recipe = base.model_copy(update={"network": name, "config": config, "name": f"{base.name}-by-{name}"})
    else:
        recipe = find_recipe(name)
    if steps:
        settling = min(steps, recipe.training.settling)
        training = recipe.training.model_copy(update={"steps": steps, "settling": settling})
        recipe = recipe.model_copy(update={"training": training})
    return SegmentationRecipe.model_validate(recipe.model_dump())


def list_runs(words):
    for word in words:
        name, _, folds = word.partition(":")
        if folds in ("", "all"):
            yield name, None
            continue
        first, _, last = folds.partition("-")
        yield from ((name, fold) for fold in range(int(first), int(last or first) + 1))


def train(args):
    name, cases = unpack(args.data, args.limit)
    if args.from_shipped and name != "nuclei":
        raise SystemExit("the weights that ship for this set have seen every case: start a fold fresh")
    base, stems = find_recipe(SETS[name]), [case.name for case in cases]
    split = choose_split(base.split or base.name, stems, base.seed)
    ends, done = time.monotonic() + args.seconds, {}
    for network, fold in list_runs(args.runs or RUNS[name]):
        recipe = find_run_recipe(network, base, args.steps)
        place = args.work / f"{network}_{'all' if fold is None else f'fold-{fold}'}"
        report = place / "report.json"
        if not report.exists() and time.monotonic() < ends:
            run(cases, recipe, split, fold, place, ends, args)
        if report.exists():
            done.setdefault(network, {})[fold] = json.loads(report.read_text())
    facts = {"set": name, "cases": len(cases), "device": describe_device(args.device), "torch": torch.__version__}
    print(json.dumps(facts | {"networks": compare(done, base, split)}, indent=2))


def run(cases, recipe, split, fold, place, ends, args):
    """Train and score one fold from its last checkpoint; its report is written once it is finished."""
    place.mkdir(parents=True, exist_ok=True)
    log, began = TrainingLog(place / "curve.jsonl"), time.monotonic()
    hooks = Hooks(CheckpointFolder(place / "checkpoints", keep=1), log, pause=lambda: time.monotonic() > ends)
    options = LoopOptions(checkpoint_s=args.checkpoint_s, log_steps=20)
    start = load_weights(recipe.weights) if args.from_shipped else None
    fit = fit_fold(cases, recipe, split, fold, args.device, hooks, options, start)
    took = (json.loads((place / "took.json").read_text()) if (place / "took.json").exists() else 0.0) + (
        time.monotonic() - began
    )
    (place / "took.json").write_text(json.dumps(took))
    if not fit.fitted.finished:
        return
    content = save({key: value.contiguous() for key, value in fit.weights.items()}, metadata={"recipe": recipe.name})
    (place / "weights.safetensors").write_bytes(content)
    last = log.rows(max(0, fit.fitted.steps - 100))
    facts = {
        "dice": fit.dice,
        "trained_on": fit.trained_on,
        "steps": fit.fitted.steps,
        "seconds": took,
        "loss": float(np.mean([row["loss"] for row in last])),
        "parameters": sum(value.numel() for value in fit.weights.values()),
        "sha256": hashlib.sha256(content).hexdigest(),
        "recipe": recipe.model_dump(mode="json"),
    }
    (place / "report.json").write_text(json.dumps(facts))


def compare(done, base, split):
    """Return the table of every network, and its paired difference to AttentionUnet over the folds of both."""
    found = {}
    for network, folds in done.items():
        held_out = {fold: facts["dice"] for fold, facts in folds.items() if fold is not None}
        found[network] = {
            "table": tabulate(held_out, base, split) if held_out else {},
            "cases": {case: row for dice in held_out.values() for case, row in dice.items()},
            "seconds": {str(fold): facts["seconds"] for fold, facts in folds.items()},
            "loss": {str(fold): facts["loss"] for fold, facts in folds.items()},
            "parameters": next(iter(folds.values()))["parameters"],
        }
        other = done.get("attention_unet", {})
        common = sorted(set(held_out) & set(other))
        if network != "attention_unet" and common:
            found[network]["against attention_unet"] = {
                label: asdict(
                    paired_difference(
                        *(gather(runs, common, label) for runs in (folds, other)), split.person_of, base.seed
                    )
                )
                for label in base.labels.values()
            }
    return found


def gather(runs, folds, label):
    return {case: row[label] for fold in folds for case, row in runs[fold]["dice"].items() if label in row}


def describe_device(device):
    return torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or "cpu"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack")
    packing.add_argument("name", choices=SETS)
    packing.add_argument("folder", type=Path)
    packing.add_argument("out", type=Path)
    training = verbs.add_parser("train")
    training.add_argument("data", type=Path)
    training.add_argument("work", type=Path)
    training.add_argument("--runs", nargs="+")
    training.add_argument("--seconds", type=float, default=540.0, help="no step is begun after them")
    training.add_argument("--checkpoint-s", type=float, default=60.0)
    training.add_argument("--steps", type=int, help="in place of the recipe's")
    training.add_argument("--from-shipped", action="store_true", help="start from the weights that ship")
    training.add_argument("--limit", type=int, help="about so many cases, for a rehearsal")
    training.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    if args.verb == "pack":
        pack(args.name, args.folder, args.out)
    else:
        train(args)


if __name__ == "__main__":
    main()
