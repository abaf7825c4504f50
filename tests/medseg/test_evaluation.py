import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from voxelight.medseg.evaluate import mean_by_person
from voxelight.medseg.evaluation import compare_runs, evaluate_cases, find_scores
from voxelight.medseg.metrics import score_case
from voxelight.medseg.report import write_csv, write_json, write_page
from voxelight.models.errors import BadInput
from voxelight.models.values import Geometry, LabelMap

GRID = Geometry((16, 16, 16), np.eye(4))
NAMES = {1: "edema", 2: "core"}


def ball(radius, centre=8.0):
    at = np.indices(GRID.shape) - centre
    return (at**2).sum(0) <= radius**2


def make(number, shift=0.0, missed=False, confidence=True):
    """A case with edema everywhere and core in every other case; person = half the number."""
    reference = ball(5).astype(np.uint8)
    found = ball(5, 8 + shift).astype(np.uint8) * (not missed)
    if number % 2:
        reference[ball(2)] = 2
        found[ball(2, 8 + shift) & (found > 0)] = 2
    sure = np.random.default_rng(number).uniform(0.5, 1, GRID.shape) if confidence else None
    maps = (LabelMap(each.astype(np.uint8), GRID, NAMES) for each in (found, reference))
    return score_case(*maps, 1.0, f"case{number}", f"person{number // 2}", sure)


@pytest.fixture(scope="module")
def evaluation():
    cases = [make(n, shift=n / 4, missed=n == 5) for n in range(6)]
    found = evaluate_cases(cases, "Six spheres", 1.0)
    return replace(found, conditions={"Reference": "spheres <drawn>"}, provenance={"recipe": "none & nothing"})


def test_what_is_missing_counts_and_what_neither_has_is_left_out(evaluation):
    core = evaluation.labels[1]
    assert core.label == "core"
    assert core.presence == {"both": 2, "missed": 1, "invented": 0, "neither": 3}
    dice = find_scores(evaluation.cases, "core", "dice")
    assert set(dice) == {"case1", "case3", "case5"}
    assert dice["case5"] == 0
    person_of = {case.case: case.person for case in evaluation.cases}
    assert core.scores["dice"] == mean_by_person(dice, person_of, 0)
    found = find_scores(evaluation.cases, "core", "dice_tp")
    assert set(found) == {"case1", "case3"}
    assert core.scores["dice_tp"].estimate > core.scores["dice"].estimate
    assert find_scores(evaluation.cases, "core", "hd95_mm")["case5"] == pytest.approx(16 * np.sqrt(3))
    assert find_scores(evaluation.cases, "edema", "absolute_volume_error_percent")["case5"] == 100


def test_regions_are_scored_as_one():
    reference, found = (LabelMap(ball(5).astype(np.uint8) + ball(radius), GRID, NAMES) for radius in (2, 3))
    scored = score_case(found, reference, 1.0, regions={"whole": ("edema", "core")})
    assert list(scored.labels) == ["edema", "core", "whole"]
    assert scored.labels["whole"].dice == 1
    assert scored.labels["core"].dice < 1
    assert scored.labels["whole"].lesions.reference_ml == pytest.approx((ball(5).sum() / 1000,))
    for regions in ({"whole": ("edema", "rim")}, {"core": ("edema",)}):
        with pytest.raises(BadInput, match="the region"):
            score_case(found, reference, 1.0, regions=regions)


def test_voxels_of_all_cases_are_pooled(evaluation):
    assert evaluation.reliability.voxels.sum() == 6 * 16**3
    assert 0 < evaluation.border.voxels.sum() < evaluation.reliability.voxels.sum()
    without = evaluate_cases([make(0), make(1, confidence=False)], "Mixed", 1.0)
    assert without.reliability is None


def test_another_run_is_compared_case_by_case(evaluation):
    better = evaluate_cases([make(n) for n in range(6)], "In place", 1.0)
    tests = compare_runs(better, evaluation, folds=[("case0", "case1"), ("case2", "case3"), ("case4", "case5")])
    wilcoxon, corrected = tests["edema"]["dice"]
    assert (wilcoxon.test, corrected.test) == ("wilcoxon", "nadeau_bengio")
    assert wilcoxon.difference > 0.1
    assert wilcoxon.difference == pytest.approx(corrected.difference)
    assert tests["edema"]["hd95_mm"][0].difference < 0
    other = evaluate_cases([replace(make(0), case="elsewhere")], "Elsewhere", 1.0)
    with pytest.raises(BadInput, match="no case"):
        compare_runs(better, other)


def test_json_and_csv_hold_every_case(evaluation):
    content = json.loads(write_json(evaluation))
    assert [case["case"] for case in content["cases"]] == [f"case{n}" for n in range(6)]
    assert content["labels"][1]["presence"]["missed"] == 1
    assert content["cases"][0]["labels"]["core"]["dice"] is None
    counts = content["detection"]["edema"]["counts"]
    assert (counts["tp"], counts["fn"]) == (5, 1)
    assert content["detection"]["edema"]["rates"]["recall"] == pytest.approx(5 / 6, abs=1e-5)
    assert content["calibration"]["everywhere"]["ece"] == pytest.approx(evaluation.reliability.ece)
    lesions = content["lesions"]["edema"]
    assert list(lesions) == ["all", "0 to 3 ml"]
    assert {name: lesions["all"][name] for name in ("tp", "fn", "fp")} == {"tp": 5, "fn": 1, "fp": 0}
    assert lesions["all"]["precision"] == pytest.approx(1, abs=1e-5)
    assert lesions["all"]["f1"] == pytest.approx(10 / 11, abs=1e-5)
    assert "core" not in content["lesions"] or not content["lesions"]["core"]  # a core is smaller than 50 voxels
    rows = list(csv.DictReader(io.StringIO(write_csv(evaluation))))
    assert len(rows) == 12
    for row in rows:
        scores = next(c for c in evaluation.cases if c.case == row["case"]).labels[row["label"]]
        assert row["dice"] == ("" if scores.dice is None else str(scores.dice))
        assert row["presence"] == scores.presence
    odd = replace(evaluation, cases=(replace(evaluation.cases[0], case="=1+1"),))
    assert write_csv(odd).splitlines()[1].startswith("'=1+1")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in {"meta", "path", "circle"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in {"path", "circle"}:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_nobody(evaluation):
    better = evaluate_cases([make(n) for n in range(6)], "In place", 1.0)
    page = write_page(replace(better, other="Six spheres", tests=compare_runs(better, evaluation)))
    reader = Tags()
    reader.feed(page)
    assert reader.open == []
    assert not re.search(r"(src|href)=|url\(|@import", page)
    assert "Against Six spheres" in page
    assert page.count("<svg") == 1 + 2 + 2
    plain = write_page(evaluation)
    assert "spheres &lt;drawn&gt;" in plain
    assert "none &amp; nothing" in plain
    assert plain.index("<td>missed</td>") < plain.index("<td>in both</td>")  # the worst case comes first
    assert "Not for clinical use." in plain


def test_a_case_comes_once():
    with pytest.raises(BadInput, match="case0 twice"):
        evaluate_cases([make(0), make(0)], "Twice", 1.0)
    with pytest.raises(BadInput, match="0 cases"):
        evaluate_cases([], "None", 1.0)
