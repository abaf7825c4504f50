"""The scores of the `tiny` profile beside all control rows, its aims, and the report; see score_tiny.py."""

import json
import platform
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxelight.models.values import ClipTokens
from voxelight.models.weights import WEIGHTS
from voxelight.neuro.draw import DecodedStages, draw_stages
from voxelight.neuro.evaluate.compare import compare_paired
from voxelight.neuro.evaluate.compared import Compared
from voxelight.neuro.evaluate.conditions import state_conditions
from voxelight.neuro.evaluate.controls import DECODED, derange, draw_exchanges, find_exchange
from voxelight.neuro.evaluate.evaluation import Column, Evaluation, Grid, MetricFacts, Row, summarise
from voxelight.neuro.evaluate.guards import Guard, Side, check_gallery, check_overlap
from voxelight.neuro.evaluate.judge import Judge, compare_features, describe_network
from voxelight.neuro.evaluate.metrics.features import load_extractor
from voxelight.neuro.evaluate.metrics.identification import expect_hits
from voxelight.neuro.evaluate.pixels import compare_pixels, describe_pixels, score_structure
from voxelight.neuro.evaluate.similarity import own_correlation, two_way
from voxelight.neuro.retrieve import find_cosine
from voxelight.neuro.simulation import fraction_of_oracle
from voxelight.neuro.tiny.words import caption_class

Score = Callable[[np.ndarray], float]
POOL, SHUFFLES, NULL_DRAWS, DRAWS, ON_GRID = 300, 20, 999, 2000, 24
JUDGED, TOP = "lite_two_way", "retrieval_image_of_brain"
CEILING, FAST, LINEAR = "generator_ceiling", "from true tokens, fast preset", "linear classifier of true tokens"
ORACLE = "oracle"


def as_images(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1), np.float32) / np.float32(255)


def match(said: list[str], wanted: list[str]) -> Compared:
    """Whether each caption is that of each picture's class, word for word."""
    table = np.array([[each == right for right in wanted] for each in said], np.float64)
    return Compared({"caption_class": table[None]}, {"caption_class": own_correlation})


def hit(similarity: np.ndarray, own: np.ndarray) -> np.ndarray:
    return (similarity.argmax(1) == own).astype(np.float64)


def retrieve(cosine: np.ndarray) -> Compared:
    """Top-1 retrieval both ways; the scored pictures are the pool."""
    tables = {"retrieval_image_of_brain": cosine[None], "retrieval_brain_of_image": cosine.T[None]}
    return Compared(tables, dict.fromkeys(tables, hit))


def bootstrap(score: Score, count: int) -> dict[str, float]:
    """A figure with its 95 % interval over pictures, the gallery being fixed."""
    random = np.random.default_rng(0)
    draws = [score(random.integers(count, size=count)) for _ in range(DRAWS)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"value": float(score(np.arange(count))), "low": float(low), "high": float(high)}


class Scores:
    """What is scored, picture by picture; `bench` makes pictures and tokens, see score_tiny.py."""

    def __init__(self, bench: Any) -> None:
        self.bench, rows = bench, bench.scored
        training, held_out = bench.split
        self.labels = held_out.labels[bench.shown]
        self.names = [caption_class(name) for name in held_out.names]
        self.ids = bench.subject["ids"][rows]
        self.shown = as_images(held_out.pixels[bench.shown[rows]])
        self.drawn = bench.draw_all()
        self.captions = bench.keep("captions", bench.caption)
        self.judge = Judge(load_extractor())
        space = bench.profile.space
        true, training_tokens = (ClipTokens(bench.tokens[name], space) for name in ("true", "training"))
        self.cosine = find_cosine(ClipTokens(bench.tokens["retrieval"], space), true)
        nearest = find_cosine(ClipTokens(bench.tokens["betas"][rows], space), training_tokens).argmax(1)
        place = {key: row for row, key in enumerate(training.keys)}
        found = [place[key] for key in bench.subject["seen"][nearest].tolist()]
        self.nearest = as_images(training.pixels[found])
        self.nearest_said = [self.names[label] for label in training.labels[found]]
        self.others = [derange(len(rows), seed) for seed in range(SHUFFLES)]
        ids, sessions = np.repeat(bench.subject["ids"], 3), bench.subject["sessions"].ravel()
        self.exchange = find_exchange(ids, sessions, self.ids)
        self.orders = draw_exchanges(self.exchange, NULL_DRAWS, 0)

    def compare(self, pictures: np.ndarray) -> Compared:
        return compare_pixels(pictures[None], self.shown).join(compare_features(self.judge, pictures[None], self.shown))

    def look(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        return self.compare(pictures).score() | score_structure(pictures[None], self.shown)

    def match(self, said: list[str]) -> Compared:
        return match(said, [self.names[label] for label in self.labels[self.bench.scored]])

    @cached_property
    def oracle(self) -> np.ndarray:
        """Gaussian likelihood of every scored picture under the true responses and noise, given the betas of each."""
        return self.bench.subject["oracle"][np.ix_(self.bench.scored, self.bench.scored)]

    @cached_property
    def decoded(self) -> Compared:
        rows = self.bench.scored
        found = self.compare(self.drawn["betas-published"]).join(retrieve(self.cosine[np.ix_(rows, rows)]))
        return found.join(self.match(self.captions["betas"][rows].tolist()))

    @cached_property
    def hits(self) -> dict[str, np.ndarray]:
        """Of every shown picture but twins: expected top-1 hits in pools of 300, and captions that name its class."""
        rows, said = np.flatnonzero(~self.bench.twins), self.captions
        pool = min(POOL, len(rows))
        right = np.array([self.names[label] for label in self.labels[rows]])
        others = [derange(len(rows), seed) for seed in range(SHUFFLES)]
        return {
            "retrieval": expect_hits(self.cosine[np.ix_(rows, rows)], pool),
            "retrieval_brain_of_picture": expect_hits(self.cosine[np.ix_(rows, rows)].T, pool),
            "oracle": expect_hits(self.bench.subject["oracle"][np.ix_(rows, rows)], pool),
            "captions_from_true_tokens": (said["true"][rows] == right).astype(float),
            "captions_from_betas": (said["betas"][rows] == right).astype(float),
            "captions_from_shuffled_betas": np.mean([said["betas"][rows][each] == right for each in others], axis=0),
            "linear_classifier": (said["linear"][rows] == self.labels[rows]).astype(float),
        }

    @cached_property
    def nulls(self) -> dict[str, np.ndarray]:
        return self.decoded.draw_null(self.orders)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        picked, drawn = self.bench.scored, self.drawn
        betas = drawn["betas-published"][None]
        back = self.bench.keep(f"autoencoder-{len(picked)}", lambda: {"pictures": self.bench.reencode(self.shown)})
        said = self.match(self.captions["true"][picked].tolist()).score()
        linear = [self.names[label] for label in self.captions["linear"][picked]]
        constant = self.match([sorted(self.names)[0]] * len(picked)).score()
        none = "Every class has as many training pictures, so this is the constant caption."
        return (
            Row(DECODED, self.decoded.score() | score_structure(betas, self.shown)),
            Row(
                "shuffled_betas", self.decoded.score(self.others) | score_structure(betas, self.shown, self.others[:2])
            ),
            Row(CEILING, self.look(drawn["true-published"]) | said),
            Row("nearest_training", self.look(self.nearest) | self.match(self.nearest_said).score()),
            Row("constant_caption", constant),
            Row("most_frequent_caption", absent=none),
            Row("autoencoder", self.look(back["pictures"])),
            Row(FAST, self.look(drawn["true-fast"])),
            Row(LINEAR, self.match(linear).score()),
            Row(ORACLE, {TOP: hit(self.oracle, np.arange(len(picked)))[None]}),
        )


def find_aims(scores: Scores) -> list[dict[str, Any]]:
    """Return every aim with what was reached, its 95 % interval over pictures, and whether that is enough."""
    table = {row.name: row.scores for row in scores.rows}
    best, null = two_way(scores.oracle, np.arange(len(scores.ids))), float(np.mean(scores.nulls[JUDGED]))
    true, betas, fast = (table[name][JUDGED][0] for name in (CEILING, DECODED, FAST))
    hits, shuffled = scores.hits, scores.hits["captions_from_shuffled_betas"]
    top, ideal, said = (hits[name] for name in ("retrieval", "oracle", "captions_from_true_tokens"))
    means = {name: float(each.mean()) for name, each in hits.items()}

    def aim(title: str, least: float, count: int, score: Score, **beside: float) -> dict[str, Any]:
        found = bootstrap(score, count)
        return {"aim": title, "n": count, "at_least": least, **found, "met": found["value"] >= least, **beside}

    drawn, shown = len(scores.ids), len(top)
    return [
        aim("two-way identification of pictures from true tokens", 0.97, drawn, lambda rows: true[rows].mean()),
        aim(
            "two-way identification from betas, share of the way from the null to the oracle",
            0.85,
            drawn,
            lambda rows: fraction_of_oracle(betas[rows].mean(), null, best[rows].mean()),
            two_way=float(betas.mean()),
            null=null,
            oracle=float(best.mean()),
            true_tokens=float(true.mean()),
        ),
        aim(
            f"top-1 retrieval among {POOL}, share of the oracle's",
            0.60,
            shown,
            lambda rows: top[rows].mean() / max(ideal[rows].mean(), 1e-9),
            top_1=means["retrieval"],
            oracle=means["oracle"],
        ),
        aim(
            "right class in captions from true tokens",
            0.40,
            shown,
            lambda rows: said[rows].mean(),
            linear_classifier_top_1=means["linear_classifier"],
        ),
        aim(
            "right class in captions from betas, less that from shuffled betas",
            0.0,
            shown,
            lambda rows: (hits["captions_from_betas"][rows] - shuffled[rows]).mean(),
            from_betas=means["captions_from_betas"],
            from_shuffled_betas=means["captions_from_shuffled_betas"],
        ),
        aim(
            "two-way identification from true tokens, fast preset less 38 steps",
            -0.01,
            drawn,
            lambda rows: (fast[rows] - true[rows]).mean(),
            fast=float(fast.mean()),
            published=float(true.mean()),
        ),
    ]


def describe_shown(scores: Scores) -> dict[str, Any]:
    """Return what was found over all pictures that the subject saw."""
    hits = scores.hits
    found = {name: bootstrap(lambda some, each=each: each[some].mean(), len(each)) for name, each in hits.items()}
    told = [str(text) for text in scores.captions["betas"]]
    form = float(np.mean([text.startswith("a photo of a ") for text in told]))
    named = float(np.mean([text in scores.names for text in told]))
    return {"pool": POOL, **found, "captions_of_the_form": form, "captions_that_name_a_class": named}


def evaluate(scores: Scores) -> Evaluation:
    """Return the evaluation as the report shows it."""
    bench, count = scores.bench, len(scores.ids)
    tests = [
        compare_paired(f"{name}", by_row[0].mean(0), by_row[1].mean(0), scores.ids)
        for name in (JUDGED, "lite_distance", "two_way")
        for by_row in [[row.scores[name] for row in scores.rows if row.name in (CEILING, FAST)][::-1]]
    ]
    conditions = state_conditions(
        {
            "subject": "simulated-mismatched-01",
            "test_set": f"{count} of the {len(bench.subject['ids'])} held-out pictures that the subject saw, evenly "
            f"spaced over the classes; {int(bench.twins.sum())} left out for a training picture with the same tokens",
            "sessions": "40 simulated sessions, their trials of training pictures",
            "trials": "averaged",
            "betas": "simulated (mismatched: compressive Gabor energy and EfficientNet-Lite1, noise like NSD's), "
            "three repeats",
            "reference": f"the {count} pictures themselves; captions: the class of the picture, word for word",
            "normalisation": "training trials of each session",
            "seeds": 1,
            "simulated": True,
            "random_weights": False,
        }
    )
    return Evaluation(
        title="The tiny profile on pictures that it has not seen",
        conditions=conditions,
        metrics=describe(scores, count),
        stimulus_ids=scores.ids,
        clusters=scores.ids,
        rows=scores.rows,
        nulls=scores.nulls,
        guards=guard(scores),
        grids=(draw_grid(scores),),
        tests=tuple(tests),
        provenance={"weights_sha256": {n: w.sha256 for n, w in WEIGHTS.items() if n.startswith("tiny-")}},
        notes=(
            f"Null: whole stimuli permuted within {scores.exchange.within}, {NULL_DRAWS} draws.",
            "Shuffled betas: what the same decoder and generator made of another stimulus's betas, 20 exchanges.",
            "generator ceiling: pictures and captions from the true tokens. autoencoder: its own pictures back.",
            "oracle: Gaussian likelihood under the subject's true responses and noise; no decoder does better.",
            "Two runs compared: from true tokens, the preset `fast` (this run) and 38 steps (other run).",
            "ONE SAMPLE of each stimulus.",
            "The pictures are training pictures of ImageNet. EfficientNet-Lite2, which the encoder was distilled from, "
            "and the judge EfficientNet-Lite0 were trained on ImageNet by others, so these two may know them.",
            "The subject's late voxels answer to EfficientNet-Lite1: another network than teacher and judge, of their "
            "family and trained on the same pictures, which favours scores from betas.",
        ),
    )


def describe(scores: Scores, count: int) -> tuple[MetricFacts, ...]:
    brain = "Cosine of the decoder's retrieval tokens and true tokens."
    form = (
        'Captions are of the form "a photo of a <class>", of 200 classes; right where word for word that of the class.'
    )
    way = f"Brain of a picture among {count}, top 1"
    return (
        *describe_network(scores.judge),
        *describe_pixels(native=False),
        MetricFacts(TOP, f"Picture of a brain among {count}, top 1", "retrieval", chance=1 / count, note=brain),
        MetricFacts("retrieval_brain_of_image", way, "retrieval", chance=1 / count, note=brain),
        MetricFacts("caption_class", "Captions that name the class", "captions", chance=1 / 200, note=form),
    )


def guard(scores: Scores) -> tuple[Guard, ...]:
    bench, rows = scores.bench, scores.bench.scored
    training, space = bench.split[0], bench.profile.space
    test = Side(scores.ids, scores.shown, ClipTokens(bench.tokens["true"][rows], space))
    ids, pictures, _ = check_overlap(Side(np.array(training.keys), training.pixels.transpose(0, 2, 3, 1)), test)
    seen = Side(bench.subject["seen"], None, ClipTokens(bench.tokens["training"], space))
    tokens = check_overlap(seen, test)[2]
    return (
        ids,
        pictures,
        tokens,
        Guard("normalisation", "not checked", "By construction of training trials; tests/neuro/test_tiny_subjects.py."),
        Guard("fit", "not checked", "The decoder was fitted once, on another machine, to training trials alone."),
        bench.check_alone(),
        check_gallery(scores.ids, scores.shown),
    )


def draw_grid(scores: Scores) -> Grid:
    rows = np.linspace(0, len(scores.ids) - 1, min(ON_GRID, len(scores.ids))).round().astype(int)
    betas, order = scores.drawn["betas-published"], scores.others[0]
    picked = scores.bench.scored
    columns = [
        ("stimulus", scores.shown),
        ("from true tokens", scores.drawn["true-published"]),
        ("from betas", betas),
        ("from shuffled betas", betas[order]),
        ("nearest training picture", scores.nearest),
    ]
    told = {name: scores.captions[name][picked] for name in ("true", "betas")}
    captions = tuple(
        (
            f"stimulus: {scores.names[scores.labels[picked[row]]]}",
            f"from true tokens: {told['true'][row]}",
            f"from betas: {told['betas'][row]}",
        )
        for row in rows
    )
    shown = tuple(Column(name, pictures[rows][:, None].astype(np.float32)) for name, pictures in columns)
    return Grid("What was seen, and what was decoded", scores.ids[rows], shown, captions)


def draw_sheet(grid: Grid) -> np.ndarray:
    """Return the grid as one picture."""
    rows = []
    for place, name in enumerate(grid.ids.tolist()):
        pictures = {column.title: column.pictures[place, 0] for column in grid.columns if column.pictures is not None}
        said = grid.captions[place]
        rows.append(
            DecodedStages(name, pictures, f"{said[0].partition('photo of a ')[2]}: {said[2].partition(': ')[2]}")
        )
    return draw_stages(rows, simulated=True, random_weights=False, title="The tiny profile, held-out pictures")


def write_figures(scores: Scores, evaluation: Evaluation, path: Path) -> None:
    lines = [
        {"row": line.row, "metric": line.metric, "value": line.value, "low": line.low, "high": line.high, "p": line.p}
        for line in summarise(evaluation)
    ]
    content = {
        "simulated": True,
        "conditions": evaluation.conditions.model_dump(),
        "guidance": scores.bench.profile.guidance,
        "weights_sha256": evaluation.provenance["weights_sha256"],
        "training_pictures_sha256": scores.bench.split[0].sha256(),
        "held_out_pictures_sha256": scores.bench.split[1].sha256(),
        "judge": scores.judge.extractor.network.title,
        "device": f"{platform.machine()}, torch {torch.__version__}, bfloat16",
        "pictures_drawn_on": scores.bench.drawn_on or "the same",
        "aims": find_aims(scores),
        "all_shown": describe_shown(scores),
        "scores": lines,
        "fast_less_38_steps": [
            {"metric": test.metric, "difference": test.difference, "low": test.low, "high": test.high, "p": test.p}
            for test in evaluation.tests
        ],
    }
    rounded = json.loads(json.dumps(content), parse_float=lambda text: round(float(text), 5))
    path.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
