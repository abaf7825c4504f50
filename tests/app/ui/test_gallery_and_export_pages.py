"""What stands beside a decoded picture, what can be asked of its job, and how results are taken home."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest

from voxelight.app.actions import run_action
from voxelight.app.schemas import ResultQuery


def one(elements, label):
    return next(element for element in elements if element.label == label)


def texts(app):
    kinds = (app.markdown, app.caption, app.error, app.warning, app.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


def links(app):
    """Addresses that the page offers to save from, by what they are called."""
    pages = "".join(element.value if hasattr(element, "value") else element.proto.body for element in app.get("html"))
    return {
        label: address.replace("&amp;", "&") for address, label in re.findall(r'href="([^"]+)"[^>]*>([^<]+)', pages)
    }


@pytest.fixture
def job(submitted, finish):
    return finish(submitted.id)


def test_every_sample_is_shown_beside_what_another_stimulus_gave(visit, services, decoded):
    app = visit("results")
    said = texts(app)
    assert said.count("All 2 samples that were drawn are shown") == decoded.total
    # of each stimulus: seen, two samples, two of another stimulus, two before refinement, three retrieved
    assert len(app.get("image")) == decoded.total * (1 + 2 + 2 + 2 + 3)
    results = services.results.query(ResultQuery(job=decoded.id)).items
    for result in results:
        control = services.actions.show_controls(result.id)
        assert control.shuffled_item != result.item
        assert control.shuffled_item in {other.item for other in results}
        assert len(control.shuffled) == 2


def test_an_evaluation_is_asked_for_on_the_page_and_shown_there(visit, services, job):
    app = visit("results", job=str(job.id))
    one(app.text_input, "Sessions of the training").set_value("one, simulated")
    one(app.number_input, "Draws of the null").set_value(19)
    one(app.button, "Evaluate").click().run()
    asked = services.actions.show(job.id, "evaluate")
    assert (asked.status, asked.options["sessions"], asked.options["permutations"]) == ("queued", "one, simulated", 19)
    assert "Evaluation: waits for a worker" in texts(app)
    run_action(services, asked.id)
    app = visit("results", job=str(job.id))
    table = next(one.value for one in app.table if "Decoded" in one.value.columns)
    assert {"Null", "Shuffled betas", "Nearest training", "Generator ceiling"} <= set(table.columns)
    assert re.fullmatch(r"\d\.\d+ \[.+, .+\], p = .+", table.set_index("Score")["Decoded"].iloc[0])
    assert "Guard-rails:" in texts(app)
    beside = [one.value for one in app.table if "This picture" in one.value.columns]
    assert len(beside) == job.total
    assert "Nearest training" in beside[0].columns


def test_what_can_not_be_evaluated_says_why_beside_the_form(visit, services, job):
    app = visit("results", job=str(job.id))
    one(app.button, "Evaluate").click().run()
    run_action(services, services.actions.show(job.id, "evaluate").id)
    app = visit("results", job=str(job.id))
    assert "sessions" in texts(app)
    assert one(app.button, "Evaluate")


def test_betas_without_a_grid_have_no_map(visit, job):
    app = visit("results", job=str(job.id))
    one(app.button, "Map it").click().run()
    assert "betas without a grid" in texts(app)


def test_an_export_says_what_it_holds_and_links_to_it(visit, services, job):
    app = visit("export", job=str(job.id))
    boxes = {box.label.partition(":")[0]: box for box in app.checkbox}
    assert boxes["BIDS derivatives"].value
    assert boxes["NIfTI"].disabled
    assert "no decoder was mapped" in texts(app)
    assert "No scan that was segmented came as a DICOM series." in texts(app)
    address = urlsplit(links(app)["Download the archive"])
    assert address.path == "/api/v1/exports/archive.zip"
    asked = parse_qs(address.query)
    assert asked["job"] == [str(job.id)]
    assert asked["format"] == ["bids", "pictures", "tables", "report"]
    boxes["Pictures (PNG)"].uncheck().run()
    assert parse_qs(urlsplit(links(app)["Download the archive"]).query)["format"] == ["bids", "tables", "report"]
    assert "/api/v1/exports/report.pdf" in links(app)["Report as PDF"]
    assert "simulated data: nobody was scanned" in texts(app)


def test_results_are_chosen_by_hand_and_nothing_is_said_where_there_is_nothing(visit, services, job):
    app = visit("export")
    one(app.selectbox, "Data set").set_value("noise").run()
    assert "dataset=noise" in links(app)["Scores as CSV"]
    assert "No result to export" in texts(visit("export", subject="nobody"))
    assert "the result 'nonsense'" in texts(visit("export", result="nonsense"))
    [first, *_] = services.results.query(ResultQuery(job=job.id)).items
    assert f"run={first.id}" in links(visit("export", result=str(first.id)))["Scores as Parquet"]
