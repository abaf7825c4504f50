"""Folders as they lie on a disk: series among images, and names that say where files belong."""

import json

import pytest

EVENTS = b"stim_file\na.png\nb.png\n"


@pytest.fixture
def study(tmp_path, slices):
    """Two subjects by name, a series without suffixes, and what is none of it."""
    folder = tmp_path / "study"
    (folder / "dicom").mkdir(parents=True)
    for number, content in enumerate(slices):
        (folder / "dicom" / f"IM{number:04}").write_bytes(content)
    for subject in ("01", "02"):
        (folder / f"sub-{subject}_ses-a_events.tsv").write_bytes(EVENTS)
    (folder / "readme.md").write_text("words")
    return folder


def test_a_folder_is_taken_in_with_its_series(ask, study, slices):
    answer = ask("ingest", study, "--dataset", "d", "--create", "--subject", "07")
    assert not answer["refused"]
    kinds = sorted((scan["kind"], scan["subject"]) for scan in answer["scans"])
    assert kinds == [("events", "07"), ("events", "07"), ("volume", "07")]
    assert next(scan for scan in answer["scans"] if scan["kind"] == "volume")["facts"]["slices"] == len(slices)


def test_a_dry_run_shows_where_files_would_go_and_stores_nothing(shell, ask, study):
    pattern = "sub-{subject}_ses-{session}_*.tsv"
    shell("datasets", "create", "d")
    answer = ask("ingest", study, "--dataset", "d", "--pattern", pattern, "--rename", "{subject}.tsv", "--dry-run")
    assert (answer["assigned"], answer["subjects"]) == (2, 2)
    assert {row["as_name"] for row in answer["rows"] if not row["problem"]} == {"01.tsv", "02.tsv"}
    assert ask("datasets", "show", "d")["scans"] == 0
    assert "nothing is stored" in shell("ingest", study, "--dataset", "d", "--pattern", pattern, "--dry-run").stdout


def test_a_pattern_assigns_files_and_names_those_that_do_not_fit(ask, study, slices):
    pattern = "sub-{subject}_ses-{session}_*.tsv"
    answer = ask("ingest", study, "--dataset", "d", "--create", "--pattern", pattern, code=2)
    assert {(scan["subject"], scan["session"]) for scan in answer["scans"]} == {("01", "a"), ("02", "a")}
    assert len(answer["refused"]) == len(slices)
    assert "does not fit" in json.dumps(answer["refused"][0])


def test_a_new_name_needs_a_pattern(shell, study):
    assert "--pattern" in shell("ingest", study, "--dataset", "d", "--create", "--rename", "x.tsv", code=2).stderr
