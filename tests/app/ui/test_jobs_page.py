"""The page Jobs: submit once, follow, cancel, retry, look at one."""

import pytest

from voxelight.app.schemas import DatasetRequest


def one(elements, label):
    """The element of this label."""
    return next(element for element in elements if element.label == label)


def texts(app):
    """Everything that the page says, escapes of markdown taken out."""
    kinds = (app.markdown, app.caption, app.error, app.warning, app.success, app.info, app.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


@pytest.fixture
def form(visit, dataset):
    """The form, filled in."""
    app = visit("jobs")
    one(app.selectbox, "Recipe").set_value("miyawaki-ridge").run()
    return one(app.selectbox, "Data set").set_value(dataset).run()


def test_without_a_data_set_it_says_where_to_begin(visit):
    assert "there is none yet" in texts(visit("jobs"))


def test_the_form_shows_what_the_recipe_is_and_submits_it(form, services):
    assert "Ridge from V1 betas" in texts(form)
    assert "Simulated data" in texts(form)
    one(form.number_input, "Permutations of the null").set_value(19)
    one(form.number_input, "Seed").set_value(7)
    one(form.button, "Submit job").click().run()
    [job] = services.jobs.list().items
    assert (job.recipe, job.seed, job.options) == ("miyawaki-ridge", 7, {"permutations": 19})
    assert job.status == "queued"


def test_the_form_of_a_profile_asks_how_far_to_decode(visit, services, decodable):
    app = visit("jobs")
    one(app.selectbox, "Recipe").set_value("random-small").run()
    one(app.selectbox, "Data set").set_value(decodable).run()
    assert "Random weights: means nothing" in texts(app)
    one(app.button, "Submit job").click().run()
    one(app.button, "Prepare the same again").click().run()
    one(app.selectbox, "Decode up to").set_value("caption").run()
    one(app.selectbox, "Sampling").set_value("fast").run()
    one(app.number_input, "Samples of each stimulus").set_value(3).run()
    one(app.button, "Submit job").click().run()
    last, first = services.jobs.list().items
    assert (first.kind, first.options) == ("decode", {})
    assert last.options == {"stop": "caption", "preset": "fast", "samples": 3}


def test_a_second_click_gives_no_second_job(form, services):
    one(form.button, "Submit job").click().run()
    assert one(form.button, "Submit job").disabled
    form.run()
    assert len(services.jobs.list().items) == 1
    one(form.button, "Prepare the same again").click().run()
    one(form.button, "Submit job").click().run()
    assert len(services.jobs.list().items) == 2


def test_without_consent_the_refusal_is_shown_in_words(visit, services):
    services.datasets.create(DatasetRequest(name="closed"))
    app = visit("jobs")
    one(app.selectbox, "Recipe").set_value("miyawaki-ridge").run()
    assert "names no consent or no purpose" in texts(app)
    one(app.button, "Submit job").click().run()
    assert "consent 'none'" in texts(app)
    assert not app.exception
    assert not services.jobs.list().items


def test_a_waiting_job_is_cancelled_and_retried(visit, services, submitted):
    app = visit("jobs")
    one(app.button, "Cancel").click().run()
    assert services.jobs.show(submitted.id).status == "cancelled"
    one(app.button, "Retry").click().run()
    assert services.jobs.show(submitted.id).status == "queued"


def test_a_refusal_of_a_job_stays_while_the_list_runs_by_itself(visit, services, submitted, finish):
    app = visit("jobs")
    finish(submitted.id)
    one(app.button, "Cancel").click().run()
    for _ in range(2):
        [error] = app.error
        assert "done" in error.value
        app.run()


def test_one_job_shows_its_scores_with_their_null_and_every_item(visit, submitted, finish):
    job = finish(submitted.id)
    app = visit("jobs", job=str(job.id))
    scores = app.table[0].value
    assert {"Value", "95 % interval", "Null mean", "p", "Normalisation"} <= set(scores.columns)
    assert len(scores) == len(job.metrics)
    assert set(scores["Normalisation"]) == {"training-rows"}
    assert list(app.dataframe[0].value["State"]) == ["done"] * job.total
    assert "Model estimate, not a photograph of thought" in texts(app)
    assert "Simulated data" in texts(app)
    assert {button.label for button in app.get("download_button")} >= {"Contact sheet", "Scores"}


def test_a_failed_item_shows_class_message_and_traceback(visit, services, submitted, finish, tmp_path):
    for blob in (tmp_path / "home" / "blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()  # as a lost disk would
    job = finish(submitted.id)
    assert job.failed == job.total
    app = visit("jobs", job=str(job.id))
    run = services.jobs.list_runs(job.id)[0]
    assert f"{run.item} failed: {run.error_class}" in app.expander[0].label.replace("\\", "")
    assert "Traceback" in app.code[0].value
    assert any(button.label == "Retry" for button in app.button)


@pytest.mark.parametrize("name", ["nonsense", "00000000-0000-0000-0000-000000000000"])
def test_an_address_of_no_job_is_refused_in_words(name, visit):
    app = visit("jobs", job=name)
    assert "Found:" in texts(app)
    assert not app.exception
