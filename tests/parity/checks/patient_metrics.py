"""Patient-wise metrics beside Raidionics: a file that is a table, without tensors."""

import re
from functools import partial

import numpy as np
from checks.cases import Beside, Case, Found
from checks.compare import Tolerance
from checks.files import BrokenFixture, Fixture

from voxelight.medseg.detection import PatientScore, count_patients, count_voxels, rates_by_fold, score_patient

WITHIN = Tolerance(absolute=1e-9, relative=1e-9)  # counts and divisions: the file states no tolerance
SETTING = r"(?P<condition>All|Positive|TP)\|vol>(?P<volume>[\d.]+)\|dice>(?P<cut_off>[\d.]+)\|fold(?P<fold>\d+)"
KNOWN = {"source", "columns", "rows", "expected", "pixelwise", "fixture", "tolerance", "sha256"}


def read_scores(fixture: Fixture) -> list[PatientScore]:
    names = ("PiW Dice", "GT volume (ml)", "Detection volume (ml)", "Fold", "Threshold")
    return [PatientScore(*(row[name] for name in names)) for row in fixture.fact("rows")]


def run_setting(fixture: Fixture, setting: str) -> Found:
    match = re.fullmatch(SETTING, setting)
    assert match
    scores = fixture.once(read_scores)
    options = (match["condition"].lower(), float(match["volume"]), float(match["cut_off"]))
    fold, columns = int(match["fold"]), fixture.fact("columns")
    alone = count_patients([score for score in scores if score.fold == fold], *options).rates()
    found, expected = rates_by_fold(scores, *options)[fold], fixture.fact("expected")[setting]
    if set(columns) != set(found):
        raise BrokenFixture(f"the columns {columns}; expected {sorted(found)}")
    assert alone == found
    return {name: Beside(found[name], value) for name, value in zip(columns, expected, strict=True)}


def run_voxels(fixture: Fixture) -> Found:
    facts = fixture.fact("pixelwise")
    unknown = set(facts) - {"gt", "det", "shape", "order", "dice_recall_precision_f1"}
    if unknown:
        raise BrokenFixture(f"entries of pixelwise that no check reads: {sorted(unknown)}")
    shape = facts["shape"]
    reference, found = (
        np.unpackbits(np.array(facts[name], np.uint8))[: np.prod(shape)].reshape(shape) for name in ("gt", "det")
    )
    rates = count_voxels(found, reference).rates()
    ours = [score_patient(found, reference, 1.0).dice, rates["recall"], rates["precision"], rates["f1"]]
    expected = facts["dice_recall_precision_f1"]
    return {
        name: Beside(*pair) for name, *pair in zip(("dice", "recall", "precision", "f1"), ours, expected, strict=True)
    }


class Table:
    """A file of patients, settings and what is expected of each."""

    def plan(self, fixture: Fixture) -> list[Case]:
        """Return a case for each setting, and one for the voxels."""
        unknown = sorted(set(fixture.facts) - KNOWN)
        if unknown:
            return [Case(fixture, "file", problem=f"entries that no check reads: {unknown}")]
        cases = []
        for setting in fixture.fact("expected"):
            if re.fullmatch(SETTING, setting):
                cases.append(Case(fixture, setting, compute=partial(run_setting, fixture, setting), within=WITHIN))
            else:
                cases.append(Case(fixture, setting, problem=f"no check knows the setting {setting}"))
        if "pixelwise" in fixture.facts:
            cases.append(Case(fixture, "pixelwise", compute=partial(run_voxels, fixture), within=WITHIN))
        return cases


KIND = Table()
