"""From verdicts and corrections to a folder that a network is trained on."""

import csv
import json
from collections.abc import Callable
from datetime import timedelta

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.schemas import DatasetRequest
from voxelight.app.schemas_reviews import ReviewRequest
from voxelight.app.schemas_viewer import CorrectionRequest
from voxelight.app.verbs.training_sets import write_training_set
from voxelight.models.errors import BadInput, Conflict, NotFound, Refused
from voxelight.storage.formats.cases import read_cases
from voxelight.storage.formats.groups import read_groups
from voxelight.storage.schema import Review, utc_now

NAMES = {1: "lesion", 2: "oedema"}
AFFINE = np.array([[-1.0, 0, 0, 8], [0, 0, 2, -3], [0, 1.5, 0, 1], [0, 0, 0, 1]])  # axes stored as L, S, A


def drawn(radius):
    apart = np.linalg.norm(np.indices((12, 10, 8)) - 4, axis=0)
    return (apart < radius).astype(np.uint8)


@pytest.fixture
def reviewed(services, store_label_map: Callable, tmp_path):
    """Six scans: accepted, corrected, corrected after a rejection, rejected, doubted by a second reader, never seen."""
    services.datasets.create(DatasetRequest(name="read", licence="CC0-1.0", purpose="a test"))
    runs = {}
    for number, name in enumerate(("accepted", "corrected", "mended", "rejected", "doubted", "unseen")):
        path = tmp_path / f"{name}.nii.gz"
        image = np.random.default_rng(number).normal(size=(12, 10, 8)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, AFFINE), path)
        runs[name] = store_label_map(services, path, drawn(3), NAMES, "read")
    for name, verdict in (("accepted", "accept"), ("mended", "reject"), ("rejected", "reject"), ("doubted", "accept")):
        services.reviews.save(runs[name], "ann", ReviewRequest(verdict=verdict))
    services.reviews.save(runs["doubted"], "ben", ReviewRequest(verdict="unsure"))
    with services.stores.sessions.begin() as session:
        for review in session.query(Review):
            review.updated_at = utc_now() - timedelta(hours=1)
    for name in ("corrected", "mended"):
        path = tmp_path / f"{name}_drawn.nii.gz"
        nib.save(nib.Nifti1Image(drawn(4), AFFINE), path)
        services.corrections.keep_path(path, runs[name], CorrectionRequest(author="cleo"))
    return runs


def test_what_people_stand_behind_becomes_a_folder_to_train_on(services, reviewed, tmp_path):
    out = tmp_path / "set"
    answer = write_training_set(services.stores, "read", out)
    kinds = {case.name.rpartition("_")[2]: (case.kind, case.people) for case in answer.cases}
    assert kinds == {
        "accepted": ("accepted", ["ann"]),
        "corrected": ("corrected", ["cleo"]),
        "mended": ("corrected", ["cleo"]),
    }
    assert answer.left_out == {"rejected or unsure": 2, "not reviewed": 1}
    cases = read_cases(out, NAMES)
    assert {case.name for case in cases} == {case.name for case in answer.cases}
    for case in cases:
        image = nib.load(tmp_path / f"{case.name.rpartition('_')[2]}.nii.gz")
        turned = nib.as_closest_canonical(image)
        np.testing.assert_allclose(case.volume.array[0], turned.get_fdata(), rtol=1e-6)
        expected = drawn(3 if case.name.endswith("accepted") else 4)
        turned = nib.as_closest_canonical(nib.Nifti1Image(expected, AFFINE))
        np.testing.assert_array_equal(case.labels.array, np.asarray(turned.dataobj))
    facts = json.loads((out / "training_set.json").read_text())
    assert facts["licence"] == "CC0-1.0"
    assert facts["labels"] == {"1": "lesion", "2": "oedema"}
    assert {case["run"] for case in facts["cases"]} == {str(reviewed[name]) for name in kinds}
    with (out / "groups.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["case"]: row["group"] for row in rows} == read_groups(out / "groups.csv").person_of


def test_a_doubt_after_the_correction_counts(services, reviewed, tmp_path):
    services.reviews.save(reviewed["mended"], "ben", ReviewRequest(verdict="reject"))
    answer = write_training_set(services.stores, "read", tmp_path / "set")
    assert len(answer.cases) == 2
    assert answer.left_out["rejected or unsure"] == 3


def test_nothing_is_written_where_nothing_fits(services, reviewed, tmp_path):
    out = tmp_path / "set"
    with pytest.raises(BadInput, match="0 accepted"):
        write_training_set(services.stores, "read", out, recipe="hippocampus-agunet")
    services.datasets.create(DatasetRequest(name="clinic", keeps_headers=True))
    with pytest.raises(Refused, match="clinical"):
        write_training_set(services.stores, "clinic", out)
    with pytest.raises(NotFound):
        write_training_set(services.stores, "nowhere", out)
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("kept")
    with pytest.raises(Conflict, match="not empty"):
        write_training_set(services.stores, "read", out)
    assert [path.name for path in tmp_path.glob("set*/*")] == ["mine.txt"]
    assert not list(tmp_path.glob(".set*"))


def test_results_with_other_labels_are_not_mixed(services, reviewed, store_label_map, tmp_path):
    path = tmp_path / "other.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((12, 10, 8), np.float32), AFFINE), path)
    run = store_label_map(services, path, drawn(2), {1: "lung"}, "read")
    services.reviews.save(run, "ann", ReviewRequest(verdict="accept"))
    with pytest.raises(BadInput, match="one set of labels"):
        write_training_set(services.stores, "read", tmp_path / "set")
