"""A report holds everything or is refused, says it in three forms alike, and asks nobody for anything."""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.models.pages import read_style
from voxelight.neuro.evaluate.compare import compare_paired, score_by_distance
from voxelight.neuro.evaluate.compared import Compared
from voxelight.neuro.evaluate.conditions import Conditions
from voxelight.neuro.evaluate.controls import derange
from voxelight.neuro.evaluate.evaluation import Column, Evaluation, Grid, MetricFacts, Row, summarise
from voxelight.neuro.evaluate.guards import GUARDS, Guard
from voxelight.neuro.evaluate.intervals import permutation_p
from voxelight.neuro.evaluate.page import write_page
from voxelight.neuro.evaluate.pixels import compare_pixels, score_structure
from voxelight.neuro.evaluate.similarity import own_correlation, two_way
from voxelight.neuro.evaluate.tables import NOTICE, write_csv, write_json
from voxelight.neuro.evaluate.uncertainty import find_coverage

N, SEEDS = 24, 3
VOID = {"meta", "img", "input", "br", "hr", "link", "line", "circle", "path", "polygon", "polyline"}


def make(**changes):
    random = np.random.default_rng(0)
    ids = np.array([f"p{number}" for number in range(N - 1)] + ["<=evil>"])
    scores = {"effnet": 0.7 - 0.1 * random.uniform(size=(SEEDS, N)), "ssim": random.uniform(size=(SEEDS, N))}
    other = {name: random.uniform(0.8, 1, size=(40, N)) for name in scores}
    pictures = random.uniform(size=(4, SEEDS, 8, 8, 3)).astype(np.float32)
    parts = {
        "title": "A <test> & more",
        "conditions": Conditions(
            subject="01", test_set="all", sessions="2", trials="averaged", betas="simulated", reference="24 pictures",
            normalisation="training-rows", seeds=SEEDS, simulated=True, random_weights=True,
        ),
        "metrics": (
            MetricFacts("ssim", "SSIM", validity=0.11),
            MetricFacts("effnet", "EffNet-B", higher_is_better=False, validity=0.75),
        ),
        "stimulus_ids": ids,
        "clusters": ids,
        "rows": (
            Row("nearest_training", absent="The training set is unknown."),
            Row("decoded", scores),
            Row("shuffled_betas", other),
            Row("generator_ceiling", {name: np.ones((1, N)) for name in scores}),
        ),
        "nulls": {"effnet": random.uniform(0.8, 1, size=99)},
        "guards": tuple(Guard(name, "held", "All of it.") for name in GUARDS),
        "grids": (
            Grid("Pictures", ids[-4:], (Column("stimulus", pictures[:, :1]), Column("from betas", pictures),
                                        Column("from true tokens", absent="No network.")), (("a dog",) * SEEDS,) * 4),
        ),
        "curves": (score_by_distance(scores["ssim"][0], random.uniform(size=N)),),
        "coverages": (find_coverage("tokens", 0.9, np.ones((N, 3)), np.ones(1)),),
        "tests": (compare_paired("ssim", scores["ssim"][0], scores["ssim"][1], ids),),
        "provenance": {"job": "<1>", "hashes": {f"file {number}": "0" * 64 for number in range(9)}},
        "notes": ("Mind <this>.",),
    }  # fmt: skip
    return Evaluation(**parts | changes)


@pytest.fixture(scope="module")
def evaluation():
    return make()


@pytest.mark.parametrize("name", ["shuffled_betas", "generator_ceiling", "nearest_training", "decoded"])
def test_no_control_row_can_be_left_out(evaluation, name):
    with pytest.raises(BadInput, match=name):
        make(rows=tuple(row for row in evaluation.rows if row.name not in {name, "null"}))


def test_a_row_without_scores_needs_a_reason(evaluation):
    kept = tuple(row for row in evaluation.rows if row.name not in {"nearest_training", "null"})
    with pytest.raises(BadInput, match="nearest_training"):
        make(rows=(*kept, Row("nearest_training")))


def test_captions_need_their_constant_rows(evaluation):
    with pytest.raises(BadInput, match="constant_caption"):
        make(metrics=(*evaluation.metrics, MetricFacts("cider", "CIDEr", "captions")))


def test_no_null_no_report(evaluation):
    with pytest.raises(BadInput):
        make(nulls={})
    kept = tuple(row for row in evaluation.rows if row.name != "null")
    assert make(nulls={}, rows=(*kept, Row("null", absent="Two pictures only."))).find_row("null").absent


def test_no_guard_and_no_seed_can_be_left_out(evaluation):
    with pytest.raises(BadInput, match="alone"):
        make(guards=tuple(guard for guard in evaluation.guards if guard.name != "alone"))
    with pytest.raises(BadInput, match="every seed"):
        make(conditions=evaluation.conditions.model_copy(update={"seeds": 5}))


def test_metrics_that_agree_with_people_come_first(evaluation):
    assert [metric.name for metric in evaluation.metrics] == ["effnet", "ssim"]
    assert evaluation.metrics[1].badge == "agrees little with people (r = 0.11)"
    assert [row.name for row in evaluation.rows][:3] == ["decoded", "null", "shuffled_betas"]


def test_figures_are_those_of_the_scores(evaluation):
    lines = {(line.row, line.metric): line for line in summarise(evaluation)}
    decoded, scores = lines["decoded", "effnet"], evaluation.find_row("decoded").scores["effnet"]
    assert decoded.value == pytest.approx(scores.mean())
    assert decoded.by_seed == pytest.approx(scores.mean(1))
    assert decoded.low < decoded.value < decoded.high
    # A distance is better where it is smaller.
    assert decoded.p == permutation_p(-scores.mean(), -evaluation.nulls["effnet"]) == 0.01
    assert lines["null", "effnet"].low == pytest.approx(np.percentile(evaluation.nulls["effnet"], 2.5))
    assert lines["decoded", "ssim"].p is None
    assert ("nearest_training", "ssim") not in lines


def test_json_and_csv_say_the_same(evaluation):
    told = json.loads(write_json(evaluation))
    table = list(csv.DictReader(io.StringIO(write_csv(evaluation))))
    assert told["notice"] == NOTICE == "Model estimate, not a photograph of thought. Not for clinical use."
    assert [mark.partition(":")[0] for mark in told["marks"]] == ["SIMULATED", "RANDOM WEIGHTS"]
    assert {row["marks"] for row in table} == {" ".join(told["marks"])}
    means = {(row["row"], row["metric"]): float(row["value"]) for row in table if row["level"] == "mean"}
    assert means == {(line["row"], line["metric"]): line["value"] for line in told["scores"]}
    pictures = [row for row in table if row["level"] == "picture" and row["row"] == "decoded"]
    assert len(pictures) == 2 * SEEDS * N
    assert float(pictures[5]["value"]) == told["by_picture"]["decoded"][pictures[5]["metric"]][0][5]
    assert told["guards"][0] == {"name": "ids", "status": "held", "detail": "All of it.", "rule": GUARDS["ids"]}


def test_a_spreadsheet_takes_no_stimulus_for_a_formula():
    ids = np.array(["=1+1", *(f"p{number}" for number in range(N - 1))])
    table = csv.DictReader(io.StringIO(write_csv(make(stimulus_ids=ids))))
    assert {row["stimulus"] for row in table if row["stimulus"].endswith("1+1")} == {"'=1+1"}


class Reader(HTMLParser):
    """Checks that tags are closed in order, and keeps what they say."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.headings = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(evaluation):
    return write_page(evaluation)


@pytest.fixture(scope="module")
def read(page):
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


def test_the_page_asks_nobody_for_anything(page, read):
    links = [value for _, attrs in read.tags for name, value in attrs.items() if name in {"src", "href", "action"}]
    assert links
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert "url(" not in page
    assert "@import" not in page
    assert not {tag for tag, _ in read.tags} & {"script", "link", "iframe", "object"}
    assert "default-src 'none'" in page


def test_the_page_can_be_read_by_everybody(read):
    images = [attrs for tag, attrs in read.tags if tag == "img"]
    assert len(images) == 4 * (1 + SEEDS)
    assert all(attrs["alt"].strip() for attrs in images)
    assert len({attrs["alt"] for attrs in images}) == len(images)
    assert read.headings[0] == 1
    assert read.headings.count(1) == 1
    assert all(below - above <= 1 for above, below in zip(read.headings, read.headings[1:], strict=False))
    tags = dict(read.tags)
    assert tags["html"]["lang"] == "en"
    assert all(attrs.get("scope") for tag, attrs in read.tags if tag == "th")
    assert all(attrs["tabindex"] == "0" for tag, attrs in read.tags if attrs.get("class") == "scroll")
    assert all(attrs["role"] == "img" for tag, attrs in read.tags if tag == "svg")


def test_every_figure_is_xml_with_title_and_description(page):
    figures = re.findall(r"<svg.*?</svg>", page)
    assert len(figures) == 3
    for figure in figures:
        root = ElementTree.fromstring(figure)
        assert root.find("title").text
        assert root.find("desc").text
        assert "nan" not in figure


def test_the_page_says_all_that_must_be_said(page, evaluation):
    for text in (NOTICE, "SIMULATED", "RANDOM WEIGHTS", "No network.", "The training set is unknown.", "a dog"):
        assert text in page
    assert "A &lt;test&gt; &amp; more" in page
    assert "&lt;=evil&gt;, from betas, sample 3 of 3" in page
    assert "<test>" not in page
    assert "<=evil>" not in page
    clean = evaluation.conditions.model_copy(update={"simulated": False, "random_weights": False})
    assert "SIMULATED" not in write_page(replace(evaluation, conditions=clean))


def contrast(first, second):
    """Contrast of two colours (WCAG 2.2)."""

    def luminance(colour):
        levels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
        linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_enough_by_day_and_by_night():
    style = read_style()
    schemes = [dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in style.split("@media", 2)[:2]]
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for colours in schemes:
        for ground in ("ground", "raised"):
            for text in ("text", "muted", "accent", "good"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
            assert contrast(colours["control"], colours[ground]) >= 3
        assert contrast(colours["alarm-text"], colours["alarm-ground"]) >= 4.5
        assert contrast(colours["warn-text"], colours["warn-ground"]) >= 4.5


def test_rows_of_one_comparison_are_those_of_every_row_by_itself():
    random = np.random.default_rng(1)
    shown = random.uniform(size=(7, 9, 9, 1))
    pictures = np.clip(shown + 0.3 * random.normal(size=(2, 7, 9, 9, 1)), 0, 1)
    order = derange(7, 0)
    for native in (True, False):
        compared = compare_pixels(pictures, shown, native)
        again = compare_pixels(pictures[:, order], shown, native).score()
        for name, scores in compared.score([order]).items():
            np.testing.assert_allclose(scores, again[name])
        null = compared.draw_null(np.array([np.arange(7), order]))
        assert null["two_way"][0] == pytest.approx(compared.score()["two_way"].mean())
    moved = score_structure(pictures, shown, [order])["ssim"]
    np.testing.assert_allclose(moved, score_structure(pictures[:, order], shown)["ssim"])
    np.testing.assert_allclose(score_structure(shown[None], shown)["ssim"], 1)


def test_comparisons_are_joined():
    table = np.random.default_rng(2).normal(size=(1, 4, 4))
    joined = Compared({"a": table}, {"a": two_way}).join(Compared({"b": table}, {"b": own_correlation}))
    assert list(joined.score()) == ["a", "b"]
