"""Label maps of a finished job against references that were uploaded, or against corrections, as a worker does it."""

import json
import uuid

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.actions import run_action
from voxelight.app.schemas import DatasetRequest, ScanRequest
from voxelight.app.schemas_exports import EvaluationRequest, MapsEvaluationRequest
from voxelight.app.schemas_viewer import CorrectionRequest
from voxelight.medseg.evaluate import dice
from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.schema import Run

NAMES = {1: "edema", 2: "core"}
SHAPE = (12, 11, 10)

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def draw(radius, centre=5.0):
    far = np.linalg.norm(np.indices(SHAPE) - centre, axis=0)
    return (far < radius).astype(np.uint8) + (far < radius / 2)


def store(services, store_label_map, folder, labels, subject="01"):
    path = folder / "brain.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=SHAPE), np.diag([-1, 1, 2, 1.0])), path)
    return store_label_map(services, path, labels, NAMES, "tumours", subject=subject, session="a")


def upload(services, folder, labels, dataset, **place):
    path = folder / "brain_dseg.nii.gz"
    nib.save(nib.Nifti1Image(labels, np.diag([-1, 1, 2, 1.0])), path)
    return services.scans.ingest_path(path, ScanRequest(name=path.name, dataset=dataset, **place))


@pytest.fixture
def found(services, store_label_map, tmp_path):
    """A result with its references: id of the run, id of the job, labels found and drawn."""
    services.datasets.create(DatasetRequest(name="tumours", simulated=True))
    labels, drawn = draw(4.5, 5.4), draw(4.5)
    run = store(services, store_label_map, tmp_path, labels)
    (tmp_path / "references").mkdir()
    upload(services, tmp_path / "references", drawn, "tumours", subject="01", session="a")
    return run, services.results.show(run).job, labels, drawn


def evaluate(services, job, **options):
    asked = services.actions.evaluate_maps(job, MapsEvaluationRequest(**options))
    assert run_action(services, asked.id) == services.actions.show(job, "evaluate-maps").status
    answer = services.actions.show(job, "evaluate-maps")
    files = {file.role: services.results.read(file) for file in answer.artifacts}
    return answer, json.loads(files["maps_evaluation_data"]) if files else {}


def test_uploaded_references_score_a_job(services, found):
    run, job, labels, drawn = found
    answer, report = evaluate(services, job, regions={"whole": ["edema", "core"]})
    assert answer.status == "done"
    assert answer.notice == "Not for clinical use."
    assert {file.role for file in answer.artifacts} == {
        "maps_evaluation", "maps_evaluation_data", "maps_evaluation_table",
    }  # fmt: skip
    [case] = report["cases"]
    assert case["labels"]["core"]["dice"] == pytest.approx(dice(labels, drawn, 2))
    assert case["labels"]["whole"]["dice"] == pytest.approx(dice(labels, drawn, 1, 2))
    assert report["conditions"]["References"] == "label maps in tumours"
    scores = {(score.name, score.label): score for score in services.results.show(run).metrics}
    assert scores["dice", "edema"].value == pytest.approx(dice(labels, drawn, 1))
    assert scores["hd95_mm", "core"].unit == "mm"
    again, _ = evaluate(services, job, tolerance_mm=2.0)
    assert len(again.artifacts) == 3
    assert sum(score.name == "dice" for score in services.results.show(run).metrics) == 2


def test_references_may_lie_in_a_data_set_of_their_own(services, found, tmp_path):
    services.datasets.create(DatasetRequest(name="drawn", simulated=True))
    (tmp_path / "other").mkdir()
    upload(services, tmp_path / "other", found[2], "drawn", subject="01", session="a")
    _, report = evaluate(services, found[1], dataset="drawn")
    assert report["cases"][0]["labels"]["edema"]["dice"] == 1
    with pytest.raises(NotFound):
        services.actions.evaluate_maps(found[1], MapsEvaluationRequest(dataset="nowhere"))


def test_another_job_is_compared_case_by_case(services, found):
    answer, report = evaluate(services, found[1], against=found[1])
    assert answer.status == "done"
    [test] = report["tests"]["edema"]["dice"]
    assert (test["difference"], test["p"], test["pairs"]) == (0, 1, 1)


def test_files_of_one_name_are_told_apart_by_whom_they_show(services, found):
    _, report = evaluate(services, found[1])
    assert (report["cases"][0]["case"], report["cases"][0]["person"]) == ("01/a/brain", "01")


def test_corrections_are_references_too(services, found, tmp_path):
    run, job, labels, _ = found
    [base] = [file.id for file in services.results.show(run).artifacts if file.role == "label_map"]
    mended = labels.copy()
    mended[0, 0, 0] = 1
    nib.save(nib.Nifti1Image(mended, np.diag([-1, 1, 2, 1.0])), tmp_path / "mended.nii.gz")
    services.corrections.keep_path(tmp_path / "mended.nii.gz", run, CorrectionRequest(author="Ada", base=base))
    _, report = evaluate(services, job, references="corrections")
    assert 0.99 < report["cases"][0]["labels"]["edema"]["dice"] < 1


def test_one_bad_reference_keeps_no_other_case_from_its_scores(services, store_label_map, found, tmp_path):
    """A second case of the job, whose reference lies on another grid: its row has no score, the other's has."""
    run, job, labels, drawn = found
    (tmp_path / "second").mkdir()
    other = store(services, store_label_map, tmp_path / "second", labels, subject="02")
    with services.stores.sessions.begin() as session:
        row = session.get_one(Run, other)
        row.job_id, row.position, row.item_key = job, 1, "second"
    path = tmp_path / "second" / "brain_dseg.nii.gz"
    nib.save(nib.Nifti1Image(drawn, np.diag([-1, 1, 3, 1.0])), path)
    services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="tumours", subject="02", session="a"))
    answer, report = evaluate(services, job)
    assert answer.status == "done"
    assert [case["case"] for case in report["cases"]] == ["01/a/brain"]
    assert list(report["left_out"]) == ["02/a/brain"]
    assert "one grid" in report["left_out"]["02/a/brain"]
    scored = {each: any(m.name == "dice" for m in services.results.show(each).metrics) for each in (run, other)}
    assert scored == {run: True, other: False}


def test_what_can_not_be_scored_says_why(services, found):
    job = found[1]
    services.datasets.create(DatasetRequest(name="empty", simulated=True))
    answer, _ = evaluate(services, job, dataset="empty")
    assert answer.status == "failed"
    assert "Name each reference" in answer.problem["remedy"]
    with pytest.raises(BadInput, match="kind segment"):
        services.actions.evaluate(job, EvaluationRequest())
    with pytest.raises(NotFound):
        services.actions.evaluate_maps(uuid.uuid4(), MapsEvaluationRequest())
