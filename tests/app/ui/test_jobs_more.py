"""The page Jobs: scans by a query, copies, priorities, items page by page, single items again, notices."""

import io

import nibabel as nib
import numpy as np
import pytest
from sqlalchemy import update

from voxelight.app.schemas import DatasetRequest, JobRequest, ScanQuery, ScanRequest
from voxelight.app.ui import jobitems
from voxelight.storage.schema import Scan


def one(elements, label):
    """The element of this label."""
    return next(element for element in elements if element.label == label)


def texts(app):
    """Everything that the page says, escapes of markdown taken out."""
    kinds = (app.markdown, app.caption, app.error, app.warning, app.success, app.info, app.subheader, app.toast)
    said = [str(element.value) for kind in kinds for element in kind]
    # A bar of progress has no class of its own there.
    said += [element.proto.text for element in app.get("progress")]
    return "\n".join(said).replace("\\", "")


@pytest.fixture
def volumes(services):
    """A data set of volumes of two subjects, one of them held."""
    services.datasets.create(DatasetRequest(name="mri"))
    for number in range(4):
        image = nib.Nifti1Image(np.full((4, 4, 4), number, np.float32), np.eye(4))
        request = ScanRequest(name=f"v{number}_T{number % 2 + 1}w.nii", dataset="mri", subject=f"{number // 2:02}")
        services.scans.ingest(io.BytesIO(image.to_bytes()), request)
    with services.stores.sessions.begin() as session:
        session.execute(update(Scan).where(Scan.name == "v3_T2w.nii").values(held="text burned into the image"))
    return "mri"


@pytest.fixture
def form(visit, volumes):
    """The form, before a data set of volumes."""
    app = visit("jobs")
    one(app.selectbox, "Recipe").set_value("hippocampus-agunet").run()
    return one(app.selectbox, "Data set").set_value(volumes).run()


def test_the_form_shows_card_licence_and_what_an_item_takes(form):
    said = texts(form)
    assert "licence CC-BY-SA-4.0" in said
    assert "an item" in said
    assert "Model card" in {expander.label for expander in form.expander}


def test_a_query_says_what_it_finds_and_is_submitted_as_such(form, services):
    one(form.button_group, "Scans").set_value("query").run()
    assert "Finds 4 scans" in texts(form)
    one(form.text_input, "File name").set_value("*T1w*").run()
    assert "Finds 2 scans: v0_T1w.nii, v2_T1w.nii." in texts(form)
    one(form.text_input, "Subject").set_value("77").run()
    assert "No scan fits this query" in texts(form)
    assert one(form.button, "Submit job").disabled
    one(form.text_input, "Subject").set_value("01").run()
    one(form.selectbox, "Priority").set_value(1).run()
    one(form.button, "Submit job").click().run()
    [job] = services.jobs.list().items
    assert services.jobs.find_request(job.id).query == ScanQuery(subject="01", name="*T1w*")
    assert (job.total, job.priority) == (1, 1)


def test_scans_are_picked_by_hand_and_a_held_one_is_no_choice(form, services):
    assert "1 scan held for a person to look at" in texts(form)
    one(form.button_group, "Scans").set_value("picked").run()
    assert one(form.button, "Submit job").disabled
    picked = one(form.multiselect, "Chosen scans")
    assert [option.split()[0] for option in picked.options] == ["v0_T1w.nii", "v1_T2w.nii", "v2_T1w.nii"]
    choices = services.recipes.find_scans("hippocampus-agunet", "mri", ScanQuery())
    picked.set_value([choices[0].id, choices[2].id]).run()
    one(form.button, "Submit job").click().run()
    [job] = services.jobs.list().items
    assert [run.scan for run in services.jobs.list_runs(job.id)] == ["v0_T1w.nii", "v2_T1w.nii"]


def test_what_was_left_out_of_a_job_is_said_with_it(form, services, visit):
    one(form.button, "Submit job").click().run()
    [job] = services.jobs.list().items
    said = texts(visit("jobs", job=str(job.id)))
    assert "Left out, held for a person to look at: v3_T2w.nii (text burned into the image)." in said
    assert "Submitted with 3 items" in visit("jobs", job=str(job.id)).code[-1].value


def test_a_copy_starts_from_the_settings_of_its_job(visit, services, decodable):
    options = {"stop": "caption", "preset": "fast", "prior_steps": 2, "samples": 3}
    request = JobRequest(
        kind="decode", recipe="random-small", dataset=decodable, options=options, seed=9, priority=-1, queue="cpu"
    )
    first = services.jobs.submit(request)
    app = visit("jobs", clone=str(first.id))
    assert "A copy of random-small on random" in texts(app)
    assert one(app.selectbox, "Recipe").value == "random-small"
    assert one(app.selectbox, "Decode up to").value == "caption"
    assert one(app.number_input, "Seed").value == 9
    assert "prior_steps" in texts(app)
    one(app.number_input, "Seed").set_value(10).run()
    one(app.number_input, "Samples of each stimulus").set_value(1).run()
    one(app.button, "Submit job").click().run()
    copy = services.jobs.list().items[0]
    assert (copy.cloned_from, copy.seed, copy.priority, copy.queue) == (first.id, 10, -1, "cpu")
    assert copy.options == {"stop": "caption", "preset": "fast", "prior_steps": 2}
    one(app.button, "Start from nothing instead").click().run()
    assert one(app.number_input, "Seed").value == 0


@pytest.mark.parametrize("name", ["nonsense", "00000000-0000-0000-0000-000000000000"])
def test_a_copy_of_no_job_is_refused_in_words(visit, services, volumes, name):
    app = visit("jobs", clone=name)
    assert "Found:" in texts(app)
    assert not app.exception


def test_a_waiting_job_says_its_place_and_is_put_forward(visit, services, submitted):
    second = services.jobs.submit(services.jobs.find_request(submitted.id))
    app = visit("jobs", job=str(second.id))
    assert "2nd in line on queue cpu, about 1 s of work left" in texts(app)
    one(app.selectbox, "Priority").set_value(2).run()
    app.run()
    assert "next in line" in texts(app)
    assert "Priority highest" in texts(app)
    assert services.jobs.show(second.id).place == 1


def test_items_are_shown_page_by_page_and_by_state(visit, services, submitted, monkeypatch):
    monkeypatch.setattr(jobitems, "PAGE", 4)
    services.jobs.cancel(submitted.id)
    app = visit("jobs", job=str(submitted.id))
    assert len(app.dataframe[0].value) == 4
    one(app.button, "Next").click().run()
    assert len(app.dataframe[0].value) == 2
    assert "Items 5 to 6" in texts(app)
    assert one(app.button, "Next").disabled
    one(app.button, "Previous").click().run()
    assert len(app.dataframe[0].value) == 4
    one(app.button_group, "State").set_value("done").run()
    assert "No item is in this state" in texts(app)


def test_chosen_items_are_put_back_and_no_others(visit, services, submitted):
    services.jobs.cancel(submitted.id)
    runs = services.jobs.list_runs(submitted.id)
    app = visit("jobs", job=str(submitted.id))
    one(app.multiselect, "Run again only").set_value([runs[1].id, runs[3].id]).run()
    one(app.button, "Retry 2 items").click().run()
    statuses = [run.status for run in services.jobs.list_runs(submitted.id)]
    assert statuses == ["cancelled", "pending", "cancelled", "pending", "cancelled", "cancelled"]


def test_one_failed_item_is_put_back_beside_its_traceback(visit, services, submitted, finish, tmp_path):
    for blob in (tmp_path / "home" / "blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()  # as a lost disk would
    finish(submitted.id)
    app = visit("jobs", job=str(submitted.id))
    next(button for button in app.button if button.label == "Retry this item").click().run()
    statuses = [run.status for run in services.jobs.list_runs(submitted.id)]
    assert statuses == ["pending", *["failed"] * 5]


def test_a_notice_says_on_another_page_that_a_job_has_ended(form, services, finish):
    one(form.button_group, "Scans").set_value("query").run()
    one(form.text_input, "File name").set_value("v0*").run()
    one(form.button, "Submit job").click().run()
    assert not form.toast
    [job] = services.jobs.list().items
    services.jobs.cancel(job.id)
    form.switch_page("screens/models.py").run()
    assert "hippocampus-agunet** on mri: cancelled, 0 of 1 done." in texts(form)
    form.run()
    assert not form.toast, "it is said once"
