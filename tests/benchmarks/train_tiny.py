"""Train the `tiny` profile, stage by stage: python tests/benchmarks/train_tiny.py PICTURES WORK STAGE [STAGE ...]

PICTURES is a folder with Parquet files (columns key, image, label) and classes.json, WORK a folder where stages are
kept: a stage that was interrupted is taken up, one that is finished is left alone, and each reads what it needs of the
others there. `--seconds unclip=150` gives a stage as many steps as fit in that time on this device; the number is
recorded in WORK/<stage>.json, with the seed and the hash of the pictures.
"""

import argparse
import io
import json
import platform
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from voxelight.models.diffusion.presets import PRESETS
from voxelight.models.training.loop import Hooks, LoopOptions
from voxelight.neuro import stages
from voxelight.neuro.memory import TOKEN_BATCH, MemoryPlan
from voxelight.neuro.networks import Networks
from voxelight.neuro.profiles import Part, Profile
from voxelight.neuro.tiny.autoencoder import build_autoencoder, fit_autoencoder, score_autoencoder
from voxelight.neuro.tiny.captions import build_speaker, fit_captions, score_captions
from voxelight.neuro.tiny.descent import Sitting, State
from voxelight.neuro.tiny.imagetext import build_image_text, classify, encode_pixels, fit_image_text
from voxelight.neuro.tiny.pictures import Pictures, split_pictures
from voxelight.neuro.tiny.recipe import TinyRecipe, find_tiny_recipe
from voxelight.neuro.tiny.subjects import (
    Recording,
    find_trials,
    fit_subject,
    record_subject,
    score_oracle,
    shuffle_trials,
)
from voxelight.neuro.tiny.teacher import build_teacher, fit_teacher, score_classes
from voxelight.neuro.tiny.unclip import build_unclip, draw_pictures, encode_views, fit_unclip
from voxelight.neuro.training.start import build_decoder
from voxelight.storage.checkpoints import CheckpointFolder

DRAWN = 500
GUIDANCES = (1.0, 1.5, 2.0, 3.0, 5.0)


def read_pictures(folder: Path) -> Pictures:
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    keys, labels, images = (
        [value for table in tables for value in table.column(name).to_pylist()] for name in ("key", "label", "image")
    )

    def decode(image: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).transpose(2, 0, 1)

    with ThreadPoolExecutor() as threads:
        pixels = np.stack(list(threads.map(decode, images)))
    names = tuple(row["name"] for row in json.loads((folder / "classes.json").read_text(encoding="utf-8")))
    return Pictures(pixels, np.asarray(labels, np.int64), tuple(keys), names)


class Curve:
    """The means of the losses over stretches of steps, printed now and then."""

    def __init__(self, stage: str, steps: int) -> None:
        self.stage, self.every, self.rows = stage, max(1, steps // 50), list[dict[str, float]]()
        self.pending: list[dict[str, float]] = []
        self.start = time.perf_counter()

    def write(self, rows: list[dict[str, float]]) -> None:
        self.pending += rows
        if len(self.pending) >= self.every:
            means = {name: round(float(np.mean([row[name] for row in self.pending])), 5) for name in self.pending[0]}
            self.rows.append({**means, "step": self.pending[-1]["step"]})
            self.pending = []
            if len(self.rows) % 5 == 0:
                print(self.stage, f"{time.perf_counter() - self.start:.0f} s", self.rows[-1], flush=True)

    def rewind(self, step: int) -> None:
        self.rows = [row for row in self.rows if row["step"] < step]


class Bench:
    """The pictures on the device, the recipe, and the folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.work, self.device = args.work, args.device
        self.ship: Path | None = args.ship
        self.seconds = dict(pair.split("=") for pair in args.seconds)
        self.recipe = find_tiny_recipe()
        if args.recipe is not None:
            self.recipe = TinyRecipe.model_validate(tomllib.loads(args.recipe.read_text(encoding="utf-8")))
        pictures = read_pictures(args.pictures)
        self.names = pictures.names
        self.training, self.held_out = split_pictures(pictures, self.recipe.held_out)
        if args.limit:
            self.training = self.training.take(np.linspace(0, len(self.training) - 1, args.limit).astype(np.int64))
        self.pixels, self.labels = self.place(self.training)
        self.unseen, self.unseen_labels = self.place(self.held_out)

    def place(self, pictures: Pictures) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(pictures.pixels).to(self.device), torch.from_numpy(pictures.labels).to(self.device)

    def load(self, stage: str) -> State:
        return load_file(self.work / f"{stage}.safetensors")

    def teacher(self) -> Any:
        return build_teacher(self.load("teacher"), len(self.names), self.device)

    def image_text(self) -> Any:
        return build_image_text(self.load("image_text"), self.recipe, self.names, self.device)

    def autoencoder(self) -> Any:
        return build_autoencoder(self.load("autoencoder"), self.recipe, self.device)

    def speaker(self) -> Any:
        states: dict[str, State] = {"converter": {}, "captioner": {}}
        for name, value in self.load("captions").items():
            part, _, key = name.partition(".")
            states[part][key] = value
        return build_speaker(states, self.recipe, self.names, self.device)

    def recording(self) -> Recording:
        return record_subject(self.training, self.held_out, self.recipe)

    def run(self, stage: str, fit: Callable[[TinyRecipe, Sitting], State]) -> None:
        path = self.work / f"{stage}.safetensors"
        if path.exists():
            return
        recipe = self.recipe
        if stage in self.seconds:
            recipe = self.fit_steps(stage, fit, float(self.seconds[stage]))
        curve = Curve(stage, count_steps(recipe, stage))
        checkpoints = CheckpointFolder(self.work / f"{stage}-checkpoints")
        hashes = {"training": self.training.sha256(), "held_out": self.held_out.sha256()}
        options = LoopOptions(checkpoint_s=60, log_steps=25)
        state = fit(recipe, Sitting(Hooks(checkpoints, curve), options, hashes["training"]))
        save_file(state, path)
        if self.ship is not None and stage != "teacher":
            halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
            save_file(halves, self.ship / path.name)
        record = {
            "stage": stage,
            "seconds": round(time.perf_counter() - curve.start, 1),
            "options": getattr(recipe, stage).model_dump(),
            "seed": recipe.seed,
            "pictures": hashes,
            "device": torch.cuda.get_device_name() if self.device == "cuda" else platform.machine(),
            "torch": torch.__version__,
            "curve": curve.rows,
        }
        (self.work / f"{stage}.json").write_text(json.dumps(record, indent=1), encoding="utf-8")

    def fit_steps(self, stage: str, fit: Callable[[TinyRecipe, Sitting], State], seconds: float) -> TinyRecipe:
        """Return the recipe with as many steps as fit."""

        def measure(steps: int) -> float:
            if self.device == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            fit(with_descent(self.recipe, stage, steps=steps), Sitting())
            return time.perf_counter() - start

        few, many = (2, 6) if self.device == "cpu" else (5, 45)
        measure(few)
        each = (measure(many) - measure(few)) / (many - few)
        steps = int(seconds / each)
        print(stage, f"{1000 * each:.2f} ms a step, {steps} steps in {seconds} s", flush=True)
        return with_descent(self.recipe, stage, steps=steps)


def count_steps(recipe: TinyRecipe, stage: str) -> int:
    if stage != "subject":
        return int(getattr(recipe, stage).descent.steps)
    decoder = recipe.subject.find_decoder(recipe.seed)
    return decoder.epochs * decoder.steps_an_epoch(1)


def with_descent(recipe: TinyRecipe, stage: str, **changes: Any) -> TinyRecipe:
    options = getattr(recipe, stage)
    descent = options.descent.model_copy(update=changes)
    return recipe.model_copy(update={stage: options.model_copy(update={"descent": descent})})


def teacher(bench: Bench) -> None:
    bench.run("teacher", lambda r, k: fit_teacher(bench.pixels, bench.labels, len(bench.names), r, k))
    model = bench.teacher()
    with torch.inference_mode():
        logits = [model(part.float() / 255)[0] for part in bench.unseen.split(1000)]
    report(bench, {"teacher_top1": score_classes(logits, bench.unseen_labels)})


def image_text(bench: Bench) -> None:
    model = bench.teacher() if (bench.work / "teacher.safetensors").exists() else None
    bench.run("image_text", lambda r, k: fit_image_text(bench.pixels, bench.labels, bench.names, r, model, k))
    by_text, by_tokens = classify(bench.image_text(), bench.unseen)
    report(
        bench,
        {
            "top1_by_text": score_classes([by_text], bench.unseen_labels),
            "top1_linear_on_mean_token": score_classes([by_tokens], bench.unseen_labels),
        },
    )


def autoencoder(bench: Bench) -> None:
    bench.run("autoencoder", lambda r, k: fit_autoencoder(bench.pixels, r, k))
    report(bench, {"autoencoder": score_autoencoder(bench.autoencoder(), bench.unseen)})


def unclip(bench: Bench) -> None:
    stage = bench.recipe.unclip
    encoder = bench.image_text().image
    views = encode_views(bench.pixels, encoder, bench.autoencoder(), stage.views, stage.augmentation, bench.recipe.seed)
    bench.run("unclip", lambda r, k: fit_unclip(views, r, k))
    report(bench, {"unclip_views": list(views.tokens.shape[:2])})


def captions(bench: Bench) -> None:
    stage = bench.recipe.captions
    model = bench.image_text()
    tokens = encode_views(bench.pixels, model.image, None, stage.views, stage.augmentation, bench.recipe.seed).tokens

    def fit(recipe: TinyRecipe, sitting: Sitting) -> State:
        states = fit_captions(tokens, bench.labels, bench.names, recipe, sitting)
        return {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}

    bench.run("captions", fit)
    said = bench.speaker().caption(encode_pixels(model.image, bench.unseen))
    report(bench, {"captions_right": score_captions(said, bench.held_out.labels.tolist(), bench.names)})


def subject(bench: Bench) -> None:
    """Fit the decoder of a simulated subject; tell its tokens of unseen pictures, true and shuffled."""
    recording = bench.recording()

    def fit(recipe: TinyRecipe, sitting: Sitting) -> State:
        tokens = encode_pixels(bench.image_text().image, bench.pixels)
        return dict(fit_subject(recording, bench.training.keys, tokens, recipe, bench.device, sitting).weights)

    bench.run("subject", fit)
    rows = {key: row for row, key in enumerate(bench.held_out.keys)}
    shown = [rows[key] for key in recording.shown]
    truth = encode_pixels(bench.image_text().image, bench.unseen[torch.tensor(shown, device=bench.device)])
    images = bench.held_out.pixels[shown].transpose(0, 2, 3, 1).astype(np.float32) / 255
    networks, trials = decoder_networks(bench, recording), find_trials(recording)
    pools = sorted({min(pool, len(shown)) for pool in (300, 1000)})
    kept = {"shown": np.asarray(shown)}
    for name, given in (("betas", trials), ("shuffled", shuffle_trials(trials, bench.recipe.seed))):
        retrieval, tokens = decode_trials(networks, given, bench.recipe.seed)
        scores = {
            f"{what}_{pool}": identify_tokens(found, truth.cpu(), pool)
            for what, found in (("retrieval", retrieval), ("prior", tokens))
            for pool in pools
        }
        report(bench, {f"subject {name}": scores})
        kept[name] = tokens[:DRAWN].half().numpy()
    report(bench, {f"oracle_{pool}": score_oracle(recording, images, pool) for pool in pools})
    np.savez(bench.work / "subject.npz", **kept)


def decoder_networks(bench: Bench, recording: Recording) -> Networks:
    """Return the decoder as the product's stages take it."""
    recipe = bench.recipe.subject.find_decoder(bench.recipe.seed)
    network = build_decoder(recipe, [recording.betas.values.shape[1]])
    network.load_state_dict(bench.load("subject"))
    config = {**recipe.config, "voxels": [recording.betas.values.shape[1]]}
    names = ("unclip", "autoencoder", "image_encoder", "converter", "captioner")
    parts = {name: Part(network="mindeye2", config=config) for name in (*names, "decoder")}
    profile = Profile(name="tiny", title="", summary="", space="tiny", parts=parts, random_seed=0)
    place = network.to(bench.device).eval().requires_grad_(False)
    plan = MemoryPlan(TOKEN_BATCH, frozenset(), False)
    return Networks(profile, {"decoder": place}, {"decoder": ""}, plan, torch.device(bench.device), torch.float32)


def decode_trials(networks: Networks, trials: list[np.ndarray], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return retrieval tokens of the decoder and image tokens of its prior, by the product's own stages."""
    retrieval, tokens = [], []
    for start in range(0, len(trials), TOKEN_BATCH):
        brain = stages.decode_voxels(networks, trials[start : start + TOKEN_BATCH])
        seeds = range(seed + start, seed + start + len(brain.tokens))
        retrieval.append(brain.retrieval)
        tokens.append(stages.sample_tokens(networks, brain.tokens, list(seeds), 20, None))
    return torch.cat(retrieval), torch.cat(tokens)


def identify_tokens(found: torch.Tensor, truth: torch.Tensor, pool: int) -> dict[str, float]:
    """Top-1 and two-way identification by the cosine of flattened tokens."""
    a, b = (torch.nn.functional.normalize(x[:pool].float().flatten(1), dim=1) for x in (found, truth))
    cosine = a @ b.T
    own = cosine.diagonal()[:, None]
    return {
        "top_1": float((cosine.argmax(1) == torch.arange(len(cosine))).float().mean()),
        "two_way": float(((cosine < own).sum(1) / (cosine.shape[1] - 1)).mean()),
    }


def pictures(bench: Bench) -> None:
    """Draw held-out pictures from their true tokens, at several guidances."""
    decoded = np.load(bench.work / "subject.npz") if (bench.work / "subject.npz").exists() else {}
    rows = np.linspace(0, len(bench.unseen) - 1, DRAWN).astype(np.int64)
    if "shown" in decoded:  # the pictures that the subject saw, so that all rows of the grid are of one picture
        rows = decoded["shown"][:DRAWN]
    unseen = bench.unseen[torch.from_numpy(rows).to(bench.device)]
    tokens = encode_pixels(bench.image_text().image, unseen)
    network, autoencoder = build_unclip(bench.load("unclip"), bench.recipe, bench.device), bench.autoencoder()
    back = autoencoder.decode(autoencoder.encode(unseen.float() / 255))
    drawn = {"stimulus": unseen.float() / 255, "autoencoder": ((back + 1) / 2).clamp(0, 1)}
    for name, preset in PRESETS.items():
        for guidance in GUIDANCES:
            chosen = preset.model_copy(update={"guidance": guidance})
            drawn[f"{name}-{guidance}"] = draw_pictures(
                network, autoencoder, tokens, bench.recipe.side, chosen, bench.recipe.seed
            )
    for name in ("betas", "shuffled"):
        if name in decoded:
            given = torch.from_numpy(decoded[name][: len(rows)]).to(bench.device)
            for guidance in GUIDANCES:
                chosen = PRESETS["published"].model_copy(update={"guidance": guidance})
                drawn[f"{name}-{guidance}"] = draw_pictures(
                    network, autoencoder, given, bench.recipe.side, chosen, bench.recipe.seed
                )
    arrays = {name: (255 * x).round().byte().cpu().numpy() for name, x in drawn.items()}
    for name, array in arrays.items():
        report(bench, {f"two_way_pixels {name}": identify_pixels(arrays["stimulus"], array)})
    keep = [name for name in arrays if name.rpartition("-")[2] not in ("1.0", "3.0")]
    out = bench.ship or bench.work
    half = [np.stack([arrays[name] for name in keep[part::2]]) for part in (0, 1)]
    for part, block in enumerate(half):
        np.savez_compressed(out / f"pictures{part}.npz", names=np.array(keep[part::2]), pixels=block)
    grid = [np.concatenate(list(array[:: DRAWN // 12][:12]), axis=2) for array in arrays.values()]
    Image.fromarray(np.concatenate(grid, axis=1).transpose(1, 2, 0)).save(out / "grid.png")


def identify_pixels(real: np.ndarray, drawn: np.ndarray) -> float:
    """Two-way identification by the correlation of pixels."""
    both = np.corrcoef(real.reshape(len(real), -1).astype(np.float32), drawn.reshape(len(real), -1).astype(np.float32))
    r = both[: len(real), len(real) :]
    own = np.diag(r)
    return float(((r < own).sum(0) / (len(r) - 1)).mean())


def report(bench: Bench, figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)
    with (bench.work / "figures.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(figures) + "\n")
    if bench.ship is not None:
        records = [path.read_text(encoding="utf-8") for path in sorted(bench.work.glob("*.json"))]
        lines_so_far = (bench.work / "figures.jsonl").read_text(encoding="utf-8").splitlines()
        whole = {"figures": [json.loads(line) for line in lines_so_far], "stages": [json.loads(r) for r in records]}
        (bench.ship / "report.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")


STAGES = {
    "teacher": teacher,
    "image_text": image_text,
    "autoencoder": autoencoder,
    "unclip": unclip,
    "captions": captions,
    "subject": subject,
    "pictures": pictures,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("stages", nargs="+", choices=STAGES)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", nargs="*", default=[], metavar="STAGE=SECONDS")
    parser.add_argument("--limit", type=int, default=0, help="train on so many pictures only, to try things out")
    parser.add_argument("--ship", type=Path, help="folder for weights in half precision, figures and pictures")
    parser.add_argument("--recipe", type=Path, help="another recipe, to try things out")
    args = parser.parse_args()
    for folder in (args.work, args.ship):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    torch.backends.cudnn.benchmark = True
    start = time.perf_counter()
    bench = Bench(args)
    print(f"{len(bench.training)} pictures after {time.perf_counter() - start:.1f} s", flush=True)
    for stage in args.stages:
        STAGES[stage](bench)


if __name__ == "__main__":
    main()
