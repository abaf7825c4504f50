"""Score the `tiny` profile on pictures that no network of it has seen: score_tiny.py PICTURES WORK [--draw NAME ...]

PICTURES is the folder that the profile was trained on. WORK keeps what was computed, and an interrupted run goes on;
`--draw` only draws some of the kinds of pictures, so that several processes share the work. `--guidance` tries
guidances on held-out pictures that are scored nowhere. Writes WORK/tiny.json, grid.png and report.html.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_scores import Scores, as_images, draw_sheet, evaluate, write_figures

from voxelight.models.diffusion.presets import PRESETS
from voxelight.models.feature_weights import read_feature_weights
from voxelight.models.values import ClipTokens, Stimuli
from voxelight.models.weights import load_weights
from voxelight.neuro import stages
from voxelight.neuro.caption import caption_tokens
from voxelight.neuro.evaluate.guards import SAME_PICTURE_COSINE, Guard
from voxelight.neuro.evaluate.judge import Judge, compare_features
from voxelight.neuro.evaluate.metrics.features import load_extractor
from voxelight.neuro.evaluate.page import write_page
from voxelight.neuro.evaluate.pixels import compare_pixels
from voxelight.neuro.memory import TOKEN_BATCH
from voxelight.neuro.networks import load_networks
from voxelight.neuro.profiles import GenerationOptions, find_profile
from voxelight.neuro.retrieve import find_cosine
from voxelight.neuro.simulation import find_trial_noise, refuse_circular, response_likelihood
from voxelight.neuro.tiny.encoding import NETWORK, build_encoder
from voxelight.neuro.tiny.pictures import split_pictures
from voxelight.neuro.tiny.recipe import find_tiny_recipe
from voxelight.neuro.tiny.subjects import find_trials, record_subject
from voxelight.storage.formats.class_pictures import read_class_pictures

AT_ONCE = 10
KINDS = {
    "true-published": ("true", "published"),
    "true-fast": ("true", "fast"),
    "betas-published": ("betas", "published"),
}
GUIDANCES = (1.0, 1.5, 2.0, 3.0, 4.0)
TRIED = 60
OPTIONS = GenerationOptions(stop="unrefined")  # in the precision that a job has where nothing is said


class Bench:
    """Pictures, subject and networks, each made when it is first asked for."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.work, self.folder, self.count, self.drawn_on = args.work, args.pictures, args.count, args.drawn_on
        self.profile = find_profile("tiny")
        if args.profile_guidance is not None:
            self.profile = self.profile.model_copy(update={"guidance": args.profile_guidance})
        self.work.mkdir(parents=True, exist_ok=True)

    def keep(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return arrays that were made before, or make and keep them."""
        path = self.work / f"{name}.npz"
        if not path.exists():
            start = time.perf_counter()
            draft = path.with_name(f".{name}.{np.random.default_rng().integers(1 << 30)}.npz")
            np.savez(draft, **make())
            draft.replace(path)
            print(name, f"{time.perf_counter() - start:.0f} s", flush=True)
        with np.load(path) as kept:
            return {key: kept[key] for key in kept.files}

    @cached_property
    def split(self):
        """Training and held-out pictures."""
        return split_pictures(read_class_pictures(self.folder), find_tiny_recipe().held_out)

    @cached_property
    def networks(self):
        """All networks of the profile."""
        parts = (*self.profile.list_parts(OPTIONS), "image_encoder")
        return load_networks(self.profile, Path(), OPTIONS, "cpu", parts)

    @cached_property
    def subject(self) -> dict[str, np.ndarray]:
        """The simulated subject: its betas of the held-out pictures that it saw, and the likelihoods of the oracle."""
        return self.keep("subject", lambda: simulate(self))

    @cached_property
    def tokens(self) -> dict[str, np.ndarray]:
        """True tokens of the shown pictures, what the decoder made of their betas, and tokens of training pictures."""
        return self.keep("tokens", lambda: encode(self))

    @cached_property
    def twins(self) -> np.ndarray:
        """Whether a shown picture is one that the decoder was trained on, by the cosine of its tokens."""
        space = self.profile.space
        cosine = find_cosine(ClipTokens(self.tokens["true"], space), ClipTokens(self.tokens["training"], space))
        return cosine.max(1) > SAME_PICTURE_COSINE

    @cached_property
    def scored(self) -> np.ndarray:
        """Rows of the shown pictures that are scored: evenly spaced, without twins of training pictures."""
        rows = np.flatnonzero(~self.twins)
        return rows[np.linspace(0, len(rows) - 1, self.count).round().astype(int)]

    @property
    def shown(self) -> np.ndarray:
        """Rows of the held-out pictures that the subject saw."""
        place = {key: row for row, key in enumerate(self.split[1].keys)}
        return np.array([place[key] for key in self.subject["ids"].tolist()])

    def draw(self, kind: str) -> np.ndarray:
        """Pictures (picture, row, column, 3) of one kind, in parts that are kept one by one."""
        tokens, preset = KINDS[kind]
        parts = []
        for start in range(0, len(self.scored), AT_ONCE):
            rows = self.scored[start : start + AT_ONCE]
            parts.append(
                self.keep(
                    f"{kind}-{self.count}-{start:04d}",
                    lambda rows=rows: {"pictures": draw(self, self.tokens[tokens][rows], rows, preset)},
                )["pictures"]
            )
        return np.concatenate(parts).astype(np.float32) / 255

    def draw_all(self) -> dict[str, np.ndarray]:
        """Pictures of every kind."""
        return {kind: self.draw(kind) for kind in KINDS}

    def say(self, tokens: np.ndarray) -> list[str]:
        """Captions of tokens."""
        return caption_tokens(self.networks, torch.from_numpy(tokens.astype(np.float32)))

    def caption(self) -> dict[str, np.ndarray]:
        """Captions of all shown pictures, from true tokens and from betas, and what a linear classifier says."""
        tensors = load_weights("tiny-image-text")
        mean = torch.from_numpy(self.tokens["true"].astype(np.float32)).mean(1)
        linear = mean @ tensors["classes.weight"].float().T + tensors["classes.bias"].float()
        told = {name: np.array(self.say(self.tokens[name])) for name in ("true", "betas")}
        return {**told, "linear": linear.argmax(1).numpy()}

    def reencode(self, images: np.ndarray) -> np.ndarray:
        """What the autoencoder makes of pictures (picture, row, column, 3)."""
        autoencoder = self.networks.parts["autoencoder"]
        with torch.inference_mode():
            parts = torch.from_numpy(images).permute(0, 3, 1, 2).split(20)
            back = torch.cat([(autoencoder.decode(autoencoder.encode(part)) + 1) / 2 for part in parts])
        return back.clamp(0, 1).permute(0, 2, 3, 1).numpy()

    def check_alone(self) -> Guard:
        """Decode one picture alone, and compare with what it gave among others."""
        row = int(self.scored[0])
        brain = stages.decode_voxels(self.networks, [self.subject["trials"][row]])
        apart = float(np.abs(brain.retrieval[0].numpy() - self.tokens["retrieval"][row]).max())
        if apart > 1e-4:
            raise SystemExit(f"a picture decoded alone differs by {apart}")
        return Guard("alone", "held", f"Retrieval tokens of one picture differ by {apart:.1g} at most.")


def simulate(bench: Bench) -> dict[str, np.ndarray]:
    training, held_out = bench.split
    encoder = build_encoder(read_feature_weights(NETWORK).tensors())
    refuse_circular(NETWORK, bench.profile.space, ["efficientnet-lite0"])
    recording = record_subject(training, held_out, find_tiny_recipe(), encoder)
    place = {key: row for row, key in enumerate(held_out.keys)}
    images = as_images(held_out.pixels[[place[key] for key in recording.shown]])
    ids = np.array(recording.shown)
    batches = [slice(start, start + 100) for start in range(0, len(ids), 100)]
    responses = np.concatenate([recording.subject.respond(Stimuli(images[each], ids[each])) for each in batches])
    averages = recording.betas.values[recording.test].mean(axis=1)
    noise = find_trial_noise(recording.subject)
    return {
        "ids": ids,
        "trials": np.stack(find_trials(recording)),
        "sessions": recording.betas.labels["session"][recording.test],
        "seen": np.unique(recording.betas.stimulus_ids[recording.train]),
        "oracle": response_likelihood(noise, averages, responses, recording.test.shape[1]),
    }


def encode(bench: Bench) -> dict[str, np.ndarray]:
    training, held_out = bench.split
    place = {key: row for row, key in enumerate(training.keys)}
    seen = [place[key] for key in bench.subject["seen"].tolist()]
    found = {
        name: np.concatenate(
            [encode_images(bench, pixels[start : start + 100]) for start in range(0, len(pixels), 100)]
        )
        for name, pixels in (("true", held_out.pixels[bench.shown]), ("training", training.pixels[seen]))
    }
    retrieval, tokens = [], []
    for start in range(0, len(bench.subject["trials"]), TOKEN_BATCH):
        brain = stages.decode_voxels(bench.networks, list(bench.subject["trials"][start : start + TOKEN_BATCH]))
        seeds = list(range(start, start + len(brain.tokens)))
        retrieval.append(brain.retrieval.numpy())
        tokens.append(
            stages.sample_tokens(bench.networks, brain.tokens, seeds, bench.profile.prior_steps, None).numpy()
        )
    return {**found, "retrieval": np.concatenate(retrieval), "betas": np.concatenate(tokens)}


def encode_images(bench: Bench, pixels: np.ndarray) -> np.ndarray:
    return stages.encode_images(bench.networks, torch.from_numpy(pixels).float() / 255).half().numpy()


def draw(bench: Bench, tokens: np.ndarray, seeds: np.ndarray, preset: str, guidance: float | None = None) -> np.ndarray:
    """Draw pictures as the product does, each by the seed of its number: uint8 (picture, row, column, 3)."""
    used = bench.profile.guidance if guidance is None else guidance
    chosen = PRESETS[preset] if used is None else PRESETS[preset].model_copy(update={"guidance": used})
    given = torch.from_numpy(tokens.astype(np.float32))
    latents = stages.sample_unclip(bench.networks, given, seeds.tolist(), chosen, None)
    pictures = stages.decode_unclip(bench.networks, latents).permute(0, 2, 3, 1)
    return (255 * pictures).round().byte().numpy()


def try_guidances(bench: Bench) -> None:
    """Compare guidances on held-out pictures that the subject did not see, which are scored nowhere."""
    _, held_out = bench.split
    rows = np.setdiff1d(np.arange(len(held_out)), bench.shown)
    rows = rows[np.linspace(0, len(rows) - 1, TRIED).round().astype(int)]
    tokens, shown = encode_images(bench, held_out.pixels[rows]), as_images(held_out.pixels[rows])
    judge = Judge(load_extractor())
    for guidance in GUIDANCES:
        drawn = bench.keep(
            f"guidance-{guidance}", lambda guidance=guidance: {"pictures": draw(bench, tokens, rows, "fast", guidance)}
        )["pictures"]
        pictures = drawn.astype(np.float32) / 255
        scores = compare_features(judge, pictures[None], shown).join(compare_pixels(pictures[None], shown)).score()
        print(json.dumps({"guidance": guidance} | {name: float(each.mean()) for name, each in scores.items()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--count", type=int, default=300, help="pictures that are drawn and scored")
    parser.add_argument("--draw", nargs="*", choices=KINDS, help="only draw these")
    parser.add_argument("--guidance", action="store_true", help="only try guidances, on pictures that are not scored")
    parser.add_argument("--drawn-on", help="machine that drew the pictures in WORK, where it was another; recorded")
    parser.add_argument("--profile-guidance", type=float, help="in place of the profile's")
    args = parser.parse_args()
    bench = Bench(args)
    if args.guidance:
        return try_guidances(bench)
    if args.draw is not None:
        for kind in args.draw:
            bench.draw(kind)
        return None
    scores = Scores(bench)
    evaluation = evaluate(scores)
    Image.fromarray(draw_sheet(evaluation.grids[0])).save(bench.work / "grid.png")
    (bench.work / "report.html").write_text(write_page(evaluation), encoding="utf-8")
    write_figures(scores, evaluation, bench.work / "tiny.json")
    print((bench.work / "tiny.json").read_text(encoding="utf-8"))
    return None


if __name__ == "__main__":
    main()
