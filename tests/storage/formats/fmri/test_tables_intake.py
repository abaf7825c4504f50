"""What tables and sidecars of runs are, told by what is in them, before they are stored."""

import json

import pytest

from voxelight.models.errors import BadInput
from voxelight.storage.formats.fmri.tables_intake import KEPT, clean_sidecar
from voxelight.storage.formats.intake import inspect


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "kind", "facts"),
    [
        ("onset\tduration\ttrial_type\n0\t2\tface\n4\t2\thouse\n8\t2\tface\n", "events", {"rows": 3, "stimuli": 2}),
        ("onset\tduration\tstim_file\n0\t2\ta.png\n4\t2\tn/a\n", "events", {"rows": 2, "stimuli": 1}),
        ("stimulus\nface\nhouse\n", "events", {"rows": 2, "stimuli": 2}),
        ("trans_x\trot_z\n0.1\tn/a\n0.2\t0\n", "confounds", {"rows": 2, "columns": 2}),
    ],
)
def test_a_table_is_told_by_its_columns(tmp_path, text, kind, facts):
    found = inspect(write(tmp_path / "x.tsv", text), "sub-01_x.tsv")
    assert found.kind == kind
    assert facts.items() <= found.facts.items()


def test_rows_without_a_stimulus_are_said(tmp_path):
    text = "onset\tduration\tstim_file\n0\t2\ta.png\n4\t2\tn/a\n"
    assert any("1 rows left out" in warning.found for warning in inspect(write(tmp_path / "x", text), "x.tsv").warnings)


@pytest.mark.parametrize(
    "text", ["a\tb\n1\t2\n", "onset\tduration\n0\t1\n", "onset\tduration\ttrial_type\nx\t1\tface\n"]
)
def test_a_table_that_is_neither_is_refused(tmp_path, text):
    with pytest.raises(BadInput):
        inspect(write(tmp_path / "x.tsv", text), "x.tsv")


@pytest.mark.parametrize("text", ["[1, 2]", "{", json.dumps({"Name": "a data set"})])
def test_json_that_is_no_sidecar_is_refused(tmp_path, text):
    with pytest.raises(BadInput):
        inspect(write(tmp_path / "x_bold.json", text), "x_bold.json")


def test_a_sidecar_is_described_and_keeps_how_and_not_who(tmp_path):
    told = {"RepetitionTime": 1.6, "StartTime": 0.8, "SliceTimingCorrected": True, "InstitutionName": "X"}
    path = write(tmp_path / "x_bold.json", json.dumps(told))
    facts = inspect(path, "x_bold.json").facts
    assert facts == {"RepetitionTime": 1.6, "StartTime": 0.8, "slice_timing_corrected": "true"}
    assert clean_sidecar(path, tmp_path / "clean.json", "x_bold.json")
    kept = json.loads((tmp_path / "clean.json").read_text())
    assert kept == {name: value for name, value in told.items() if name in KEPT}
    assert not clean_sidecar(tmp_path / "clean.json", tmp_path / "again.json", "x_bold.json")
