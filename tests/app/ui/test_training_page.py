"""The page Training without a browser: start one, watch its curve, stop it, resume it, and find its model."""

import uuid

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.pipelines import train_segmenter
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, ScanRequest

OPTIONS = {
    "config": {"filters": [4, 8]},
    "training": {"batch": 2, "settling": 2, "validation": 0.3, "validate_steps": 2},
}


@pytest.fixture
def pairs(services, tmp_path):
    """Four simulated persons with an image and its label map each."""
    services.datasets.create(DatasetRequest(name="balls", simulated=True))
    random = np.random.default_rng(0)
    for number in range(4):
        labels = np.zeros((18, 18, 18), np.uint8)
        labels[5:12, 6:13, 4:10], labels[5:12, 6:13, 10:13] = 1, 2
        image = (labels * 2 + 0.3 * random.standard_normal(labels.shape)).astype(np.float32)
        for name, array in (("ball.nii.gz", image), ("ball_dseg.nii.gz", labels)):
            nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / name)
            services.scans.ingest_path(tmp_path / name, ScanRequest(name=name, dataset="balls", subject=f"p{number}"))
    return "balls"


def work(services, job_id):
    """Do what a worker would."""
    runner = Runner(services)
    for batch in runner.list_batches(job_id):
        runner.run_batch(job_id, batch)
    return runner.close(job_id)


def words(app):
    shown = (*app.markdown, *app.caption, *app.error, *app.success, *app.subheader)
    return "\n".join(str(each.value) for each in shown)


def test_an_empty_installation_says_what_to_do_first(visit):
    app = visit("training")
    assert not app.exception
    assert "there is none yet" in words(app)


def test_a_training_is_started_followed_and_becomes_a_model(visit, services, pairs, monkeypatch):
    real = train_segmenter.TrainOptions
    app = visit("training")
    assert "None yet" in words(app)
    app.text_input(key="labels").set_value("1=front, 2")
    app.run()
    assert "1=anterior" in app.error[0].value
    app.text_input(key="labels").set_value("1=front, 2=back")
    app.text_input(key="training-name").set_value("my model")
    app.number_input(key="training-steps").set_value(6)
    app.run()
    next(button for button in app.button if button.label == "Start training").click().run()
    assert "letters" in app.error[0].value, "a refusal stands on the page, and nothing was submitted"
    assert services.trainings.list() == []
    app.text_input(key="training-name").set_value("mine").run()
    next(button for button in app.button if button.label == "Start training").click().run()
    assert not app.exception
    [job] = services.trainings.list()
    assert (job.model, job.options["labels"]) == ("mine", {"1": "front", "2": "back"})
    assert app.query_params["job"] in (str(job.id), [str(job.id)])
    monkeypatch.setattr(train_segmenter, "TrainOptions", lambda **told: real(**told | OPTIONS))
    assert work(services, job.id) == "done"
    app = visit("training", job=str(job.id))
    assert not app.exception
    assert "mine can be named in a segmentation now" in words(app)
    assert len(app.get("vega_lite_chart")) == 2, "the loss, and the Dice of those that are looked at"
    assert "mine" in [recipe.name for recipe in services.recipes.list()]
    assert any("step 6 of 6" in str(bar.proto) for bar in app.get("progress"))


def test_a_training_is_stopped_and_resumed(visit, services, pairs):
    from voxelight.app.schemas import JobRequest

    options = OPTIONS | {"steps": 6, "labels": {"1": "front", "2": "back"}, "name": "stopped"}
    job = services.jobs.submit(
        JobRequest(kind="train-segmenter", recipe="train-planned", dataset=pairs, options=options)
    )
    app = visit("training", job=str(job.id))
    assert "No step was taken yet" in words(app)
    next(button for button in app.button if button.label == "Stop").click().run()
    assert services.jobs.show(job.id).status == "cancelled"
    app = visit("training", job=str(job.id))
    next(button for button in app.button if button.label == "Resume").click().run()
    assert services.jobs.show(job.id).status == "queued"


def test_an_address_that_names_no_training_is_refused_on_the_page(visit, pairs):
    assert "no job" in words(visit("training", job=str(uuid.uuid4()))).lower()
    assert "an id as the list gives it" in words(visit("training", job="nonsense"))
