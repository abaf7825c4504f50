"""The first steps: offered where nothing is stored, put away and brought back, and what they submit."""

import pytest

from voxelight.app import demo
from voxelight.app.schemas import DatasetRequest

STEPS = "First steps"


def shows(app):
    return STEPS in [heading.value for heading in app.subheader]


def press(app, label):
    return next(button for button in app.button if button.label == label).click().run()


def test_an_empty_installation_offers_both_samples(visit):
    app = visit("upload")
    assert shows(app)
    assert {"Segment the sample", "Decode the sample", "Put the tour away"} <= {button.label for button in app.button}


def test_it_is_put_away_and_brought_back(visit):
    app = press(visit("upload"), "Put the tour away")
    assert not shows(app)
    assert not shows(app.run())
    assert shows(press(app.switch_page("screens/about.py").run(), "Show the first steps"))


def test_who_has_data_is_not_asked_to_begin(visit, services):
    services.datasets.create(DatasetRequest(name="own"))
    app = visit("upload")
    assert not shows(app)
    assert shows(press(app.switch_page("screens/about.py").run(), "Show the first steps"))


def test_a_sample_is_taken_in_and_its_job_submitted_once(visit, services):
    app = press(visit("upload"), "Segment the sample")
    (job,) = services.jobs.list().items
    assert (job.dataset, job.recipe, job.total) == (demo.TEMPLATE_DATASET, "hippocampus-mni", 1)
    assert "Segment the sample" not in {button.label for button in app.button}
    assert shows(app), "samples are no data of one's own"
    assert "Queued" in " ".join(element.value for element in app.markdown)


@pytest.mark.parametrize("repeat", [1, 2])
def test_the_simulated_subject_is_called_simulated(services, repeat):
    requests = [demo.ask_decoding(services) for _ in range(repeat)]
    dataset = services.datasets.show(requests[-1].dataset)
    assert dataset.simulated
    assert dataset.consent == "simulated"
    assert dataset.name.startswith(demo.PREFIX)
    assert len({request.dataset for request in requests}) == 1
    assert len(services.scans.list(dataset=dataset.name, limit=500).items) == len(requests[0].scans)
