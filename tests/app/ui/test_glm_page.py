"""An estimation of betas on the pages of jobs and results, without a browser."""

import pytest

from voxelight.app.pipelines.glm_intake import store_runs
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest
from voxelight.storage.formats.fmri.bold import index_bold
from voxelight.storage.formats.fmri.examples.bold import OPTIONS, write_bold_example

SMALL = OPTIONS.model_copy(update={"voxels": 50, "runs": 2, "trials": 10, "stimuli": 10})


@pytest.fixture
def bold(services, tmp_path):
    write_bold_example(tmp_path / "bids", 0, SMALL)
    services.datasets.create(DatasetRequest(name="bold", consent="simulated", purpose="tests", simulated=True))
    store_runs(services, index_bold(tmp_path / "bids"), "bold")


def field(app, kind, label):
    (found,) = (each for each in app.get(kind) if each.label == label)
    return found


def test_what_differs_from_the_preset_is_sent_and_a_copy_of_the_job_starts_there(visit, services, bold):
    app = visit("jobs")
    field(app, "selectbox", "Recipe").select("glm-lss").run()
    field(app, "selectbox", "Data set").select("bold").run()
    field(app, "text_input", "Name of the data set of betas").input("mine")
    field(app, "text_input", "Confounds to take out").input("none")
    field(app, "selectbox", "Estimate").select("ridge")
    runs = field(app, "multiselect", "Runs held out of every choice")
    held = runs.options[0]
    runs.select(held).run()
    next(each for each in app.button if each.label == "Submit job").click().run()
    assert not app.exception
    (job,) = services.jobs.list().items
    asked = services.jobs.find_request(job.id).options
    assert asked == {"name": "mine", "confounds": [], "held_out": [held], "model": {"estimate": "ridge"}}
    assert held in {run.item for run in services.jobs.list_runs(job.id)}
    copy = visit("jobs", clone=str(job.id))
    assert not copy.exception
    assert field(copy, "selectbox", "Estimate").value == "ridge"
    assert field(copy, "multiselect", "Runs held out of every choice").value == [held]


def test_quality_and_designs_are_shown(visit, services, bold):
    job = services.jobs.submit(JobRequest(kind="glm", recipe="glm-lss", dataset="bold"))
    runner = Runner(services)
    for batch in runner.list_batches(job.id):
        runner.run_batch(job.id, batch)
    assert runner.close(job.id) == "done"
    app = visit("jobs", job=str(job.id))
    assert not app.exception
    assert "Quality of the betas" in "\n".join(str(each.value) for each in app.subheader)
    maps = [artifact for artifact in services.jobs.show(job.id).artifacts if artifact.role == "map_picture"]
    assert len(app.get("image")) >= len(maps) >= 5
    assert any("repeat reliability" in str(each.value) for each in app.caption)
    results = visit("results")
    assert not results.exception
    assert len(results.get("image")) == SMALL.runs
