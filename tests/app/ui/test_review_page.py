"""The pages Review and Follow-up, without the frame in which the review itself runs."""

import numpy as np
import pytest

from voxelight.app.schemas_reviews import ReviewRequest


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
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[3:8, 3:8, 3:8] = 1
    return [
        store_label_map(services, tmp_path / f"visit{number}.nii.gz", labels, {1: "lesion"}, "grown")
        for number in (1, 2)
    ]


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
    app.get("button_group")[0].set_value(["Group report"]).run()
    assert not app.exception
    assert "1 case, 0 with a number far from the others" in texts(app)
    for reviewer, verdict in (("Ada", "accept"), ("Bob", "reject")):
        services.reviews.save(run, reviewer, ReviewRequest(verdict=verdict))
    app.get("button_group")[0].set_value(["Agreement"]).run()
    assert not app.exception
    assert {metric.label: metric.value for metric in app.metric}["Same verdict"] == "0% of 1"
    assert "They differ on 1 case" in texts(app)
    assert "No case was corrected by both" in texts(app)


def test_a_subject_is_followed_with_a_chart_a_table_and_what_is_known_of_errors(visit, services, visits):
    app = visit("followup", dataset="grown")
    assert not app.exception
    assert "nothing was registered" in texts(app)
    assert "lesion" in texts(app)
    assert app.get("vega_lite_chart") or app.get("arrow_vega_lite_chart")
    one(app.number_input, "Minimal detectable change (%)").set_value(10.0).run()
    assert not app.exception
