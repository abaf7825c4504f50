"""The page Training without a browser: start one, watch its curve, stop it, resume it, and find its model."""

import uuid

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.pipelines import train_segmenter
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, ScanRequest
from voxelight.models.values import Betas, Stimuli
from voxelight.storage.formats.export import write_betas

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
    assert not app.exception
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


@pytest.fixture
def brain(services, tmp_path):
    """A simulated subject: two sessions of trials whose pictures are told by an events table."""
    rng = np.random.default_rng(0)
    stimuli = Stimuli(rng.uniform(size=(24, 16, 16, 3)).astype(np.float32), np.array([f"p{n:02}" for n in range(24)]))
    shown = np.concatenate([rng.permutation(24) for _ in range(2)])
    labels = {"session": np.repeat(["ses-01", "ses-02"], 24)}
    betas = Betas(rng.normal(size=(48, 30)).astype(np.float32), stimuli.ids[shown], "s1", "v", labels, simulated=True)
    services.datasets.create(DatasetRequest(name="brain", consent="simulated", purpose="a test", simulated=True))
    for path in write_betas(tmp_path, "s1", betas, stimuli).paths:
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="brain", subject="s1"))
    return "brain"


def test_a_decoder_is_trained_through_the_page(visit, services, brain):
    app = visit("training")
    app.segmented_control(key="training-what").set_value("Decoder").run()
    assert not app.exception
    app.selectbox(key="decoder-recipe").set_value("train-mindeye2-finetune").run()
    assert "final_multisubject_subj01" in app.selectbox(key="decoder-start-from").options
    app.selectbox(key="decoder-recipe").set_value("train-mindeye2-one-subject").run()
    app.selectbox(key="decoder-profile").set_value("random-small")
    app.selectbox(key="decoder-sessions").set_value(1)
    app.number_input(key="decoder-rank").set_value(3)
    app.number_input(key="decoder-epochs").set_value(2)
    app.number_input(key="decoder-batch").set_value(8)
    app.text_input(key="decoder-subjects").set_value("nobody")
    app.text_input(key="decoder-name").set_value("mine").run()
    app.button(key="decoder-start").click().run()
    assert "nobody" in app.error[0].value, "a refusal stands on the page, and nothing was submitted"
    assert services.trainings.list() == []
    app.text_input(key="decoder-subjects").set_value(" s1 ").run()
    app.button(key="decoder-start").click().run()
    assert not app.exception
    [job] = services.trainings.list()
    assert (job.kind, job.model) == ("train-decoder", "mine")
    assert {"adapter_rank": 3, "sessions": 1, "subjects": ["s1"], "held_out": "auto"}.items() <= job.options.items()
    assert work(services, job.id) == "done"
    app = visit("training", job=str(job.id))
    assert not app.exception
    assert "mine can be named in a decoding now" in words(app)
    assert "On pictures that were held out" in words(app)
    assert len(app.get("vega_lite_chart")) == 2, "the loss, and its terms"
    assert {"simulated", "p", "q"} <= services.jobs.show(job.id).metrics[0].detail.keys()


def test_a_linear_decoder_is_fitted_through_the_page(visit, services, brain):
    app = visit("training")
    app.segmented_control(key="training-what").set_value("Decoder").run()
    app.selectbox(key="decoder-recipe").set_value("train-linear-random-small").run()
    assert not app.exception
    assert app.multiselect(key="decoder-spaces").value == ["git", "pixels-64"]
    assert not [field for field in app.number_input if field.key == "decoder-epochs"], "a ridge has no epochs"
    app.multiselect(key="decoder-spaces").set_value(["pixels-64"])
    app.text_input(key="decoder-subject").set_value("nobody")
    app.text_input(key="decoder-name").set_value("ridge").run()
    app.button(key="decoder-start").click().run()
    assert "nobody" in app.error[0].value, "a refusal stands on the page, and nothing was submitted"
    assert services.trainings.list() == []
    app.text_input(key="decoder-subject").set_value("s1").run()
    app.button(key="decoder-start").click().run()
    [job] = services.trainings.list()
    assert (job.kind, job.options) == ("train-linear", {"spaces": ["pixels-64"], "subject": "s1", "name": "ridge",
                                                        "held_out": "auto"})  # fmt: skip
    assert work(services, job.id) == "done"
    app = visit("training", job=str(job.id))
    assert not app.exception
    assert "ridge can be named in a decoding now" in words(app)
    decode_on_the_page(visit, services)
    assert "On pictures that were held out" in words(app)


def decode_on_the_page(visit, services):
    """The form asks a linear decoder for its generator, and for nothing that it has no use for."""

    def one(elements, label):
        [found] = [each for each in elements if each.label == label]
        return found

    app = visit("jobs")
    one(app.selectbox, "Recipe").set_value("ridge").run()
    assert one(app.selectbox, "Pictures by").options == ["img2img", "first-guess"]
    assert "Sampling" not in [each.label for each in app.selectbox]
    one(app.selectbox, "Pictures by").set_value("first-guess").run()
    one(app.button, "Submit job").click().run()
    assert not app.exception
    job = services.jobs.list().items[0]
    assert (job.kind, job.recipe, job.options) == ("decode", "ridge", {"generator": "first-guess"})
