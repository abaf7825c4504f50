"""The pages Review and Follow-up, without the frame in which the review itself runs."""

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.app.schemas_reviews import ReviewRequest
from voxelight.storage.results import Outcome, OutputFile, record_run


def texts(app):
    """Everything that the page says, escapes of markdown taken out."""
    kinds = (app.markdown, app.caption, app.error, app.warning, app.info, app.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


def one(elements, label):
    """The element of this label."""
    return next(element for element in elements if element.label == label)


@pytest.fixture
def visits(services, store_label_map, tmp_path):
    """Label maps of two scans, stored as results."""
    services.datasets.create(DatasetRequest(name="grown"))
    labels = np.zeros((12, 12, 12), np.uint8)
    for number in (1, 2):
        image = np.random.default_rng(number).normal(100, 9, labels.shape).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / f"visit{number}.nii.gz")
    labels[3:8, 3:8, 3:8] = 1
    return [
        store_label_map(services, tmp_path / f"visit{number}.nii.gz", labels, {1: "lesion"}, "grown")
        for number in (1, 2)
    ]


@pytest.fixture
def sessions(services, tmp_path):
    """A simulated lesion at three sessions, as a worker writes its results down."""
    services.datasets.create(DatasetRequest(name="lesions", consent="simulated", purpose="a test", simulated=True))
    volumes = {"01": 100, "02": 104, "03": 208}
    for session in volumes:
        path = tmp_path / f"visit{session}.nii"
        image = np.random.default_rng(int(session)).normal(100, 9, (12, 12, 12)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), path)
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="lesions", session=session))
    job = services.jobs.submit(JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="lesions"))
    for run in services.jobs.list_runs(job.id):
        voxels = volumes[run.scan.removeprefix("visit").removesuffix(".nii")]
        labels = np.zeros(12**3, np.uint8)
        labels[:voxels] = 1
        content = nib.Nifti1Image(labels.reshape(12, 12, 12), np.eye(4)).to_bytes()
        files = (OutputFile("label_map", "lesion_dseg.nii", "application/octet-stream", content),)
        outcome = Outcome(files, label_names={1: "lesion"}, volumes_ml={"lesion": voxels / 1000})
        record_run(services.stores, run.id, outcome)


@pytest.mark.parametrize(("page", "said"), [("review", "nothing to review yet"), ("followup", "no data set yet")])
def test_without_a_result_it_says_what_to_do_next(visit, page, said):
    assert said in texts(visit(page))


def test_the_review_is_in_a_frame_of_the_job_that_the_address_names(visit, services, visits):
    job = str(services.results.show(visits[0]).job)
    app = visit("review", job=job)
    assert not app.exception
    frame = app.get("iframe")[0].proto
    assert f"/api/v1/pages/review?job={job}" in frame.src
    assert app.query_params["job"] in (job, [job])
    assert "Found" in texts(visit("review", job="nonsense"))


def test_the_group_and_the_agreement_are_one_choice_away(visit, services, visits):
    run = visits[0]
    app = visit("review", job=str(services.results.show(run).job))
    app.get("button_group")[0].set_value("Group report").run()
    assert not app.exception
    assert "1 case, 0 with a number far from the others" in texts(app)
    for reviewer, verdict in (("Ada", "accept"), ("Bob", "reject")):
        services.reviews.save(run, reviewer, ReviewRequest(verdict=verdict))
    app.get("button_group")[0].set_value("Agreement").run()
    assert not app.exception
    assert {metric.label: metric.value for metric in app.metric}["Same verdict"] == "0% of 1"
    assert "They differ on 1 case" in texts(app)
    assert "No case was corrected by both" in texts(app)


def test_one_session_has_a_volume_and_no_change(visit, services, visits):
    app = visit("followup", dataset="grown")
    assert not app.exception
    assert "nothing was registered" in texts(app)
    assert "Session 01: 0.125 ml" in texts(app)
    assert "One session has no change" in texts(app)
    one(app.text_input, "Scans").set_value("other*").run()
    assert not app.exception
    assert "Nothing that fits" in texts(app)


def test_a_subject_is_followed_with_a_chart_a_table_and_what_is_known_of_errors(visit, services, sessions):
    app = visit("followup", dataset="lesions")
    assert not app.exception
    assert "Simulated data" in texts(app)
    assert len(app.get("vega_lite_chart") or app.get("arrow_vega_lite_chart")) == 1
    assert set(app.table[0].value["Detectable"]) == {"Can't be told"}
    one(app.number_input, "Minimal detectable change (%)").set_value(10.0).run()
    assert not app.exception
    assert list(app.table[0].value["Detectable"]) == ["No", "Yes", "Yes"]
    assert "that was stated: 10 %" in texts(app)
    one(app.number_input, "Day of session 01").set_value(0).run()
    one(app.number_input, "Day of session 02").set_value(100).run()
    one(app.number_input, "Day of session 03").set_value(200).run()
    assert not app.exception
    assert list(app.table[0].value["Doubles in"])[1] == "100 days"
