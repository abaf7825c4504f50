"""The pages Results, Models and About."""

from datetime import UTC, datetime, timedelta

import pytest

from voxelight.app.schemas import ResultQuery
from voxelight.app.schemas_search import SearchRequest


def one(elements, label):
    """The element of this label."""
    return next(element for element in elements if element.label == label)


def texts(app):
    """Everything that the page says, escapes of markdown taken out."""
    kinds = (app.markdown, app.caption, app.error, app.warning, app.success, app.info, app.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


@pytest.fixture
def job(submitted, finish):
    return finish(submitted.id)


def test_without_a_result_it_says_what_to_do_next(visit):
    assert "No result yet" in texts(visit("results"))


def test_each_result_shows_the_stimulus_beside_the_estimate_and_what_that_is(visit, job):
    app = visit("results")
    assert len(app.get("image")) == 3 * job.total  # seen, estimate, and that of another stimulus
    assert "Model estimate, not a photograph of thought. Not for clinical use." in texts(app)
    assert "Simulated data" in texts(app)
    assert texts(app).count("Two way") == job.total
    assert len(app.json) == job.total


def test_a_decoded_stimulus_shows_stages_captions_and_what_was_retrieved(visit, services, decoded):
    app = visit("results")
    said = texts(app)
    assert "RANDOM WEIGHTS: these pictures mean nothing" in said
    assert "Random weights: means nothing" in said
    assert "Simulated data" in said
    # of each stimulus: seen, both samples, unrefined and final, both of another stimulus, and the three retrieved
    assert len(app.get("image")) == decoded.total * (1 + 2 * 2 + 2 + 3)
    for result in services.results.query(ResultQuery(job=decoded.id)).items:
        assert len(result.decoded) == 2
        for each in result.decoded:
            assert each.caption in said
            assert f"seed {each.seed}" in said
    assert "Retrieved from the pictures of the data set" in said
    assert {button.label for button in app.get("download_button")} == {"Tokens"}
    page = visit("jobs", job=str(decoded.id))
    assert "RANDOM WEIGHTS" in texts(page)
    assert {"Chance"} <= set(page.table[0].value.columns)
    models = visit("models")
    assert "random, nothing was learnt" in texts(models)
    assert list(models.table[0].value["Weights"]) == ["random"]


def test_a_label_map_shows_its_overlay_volumes_and_downloads(visit, segmented):
    app = visit("results")
    assert len(app.get("image")) == 1
    volumes = dict(app.table[0].value.itertuples(index=False))
    assert volumes == {"anterior": "1.234", "posterior": "0.900"}
    assert {button.label for button in app.get("download_button")} == {"Label map", "Sidecar"}
    assert "subject 07" in texts(app)
    assert "photograph of thought" not in texts(app)


def test_filters_narrow_what_is_shown(visit, job):
    app = visit("results")
    one(app.selectbox, "Kind").set_value("segment").run()
    assert "No result fits this filter" in texts(app)
    one(app.selectbox, "Kind").set_value("reconstruct").run()
    one(app.selectbox, "Data set").set_value("noise").run()
    one(app.selectbox, "Model").set_value("ridge").run()
    assert len(app.json) == job.total
    one(app.text_input, "Subject").set_value("99").run()
    assert "No result fits this filter" in texts(app)


def test_both_ends_of_the_dates_count(visit, job):
    today = datetime.now(UTC).date()
    app = visit("results")
    one(app.date_input, "From").set_value(today)
    one(app.date_input, "To").set_value(today)
    assert len(app.run().json) == job.total
    one(app.date_input, "From").set_value(today + timedelta(days=1))
    one(app.date_input, "To").set_value(None)
    assert "No result fits this filter" in texts(app.run())


def test_an_address_brings_back_its_filter(visit, job):
    assert len(visit("results", dataset="noise", kind="Reconstruction").json) == job.total
    assert one(visit("results", dataset="noise").selectbox, "Data set").value == "noise"
    assert not visit("results", kind="Segmentation").json
    assert len(visit("results", job=str(job.id)).json) == job.total
    assert not visit("results", job="nonsense").json


def test_an_address_holds_as_http_says_it_and_though_nothing_has_it(visit, services, job):
    lowest = services.results.query(ResultQuery(sort="two_way"), limit=1).items[0].item
    app = visit("results", kind="reconstruct", sort="two_way")
    assert len(app.json) == job.total
    assert next(each.value for each in app.markdown if "subject" in each.value).startswith(f"**{lowest}**")
    assert (app.query_params["kind"], app.query_params["sort"]) == ("Reconstruction", "two_way, lowest first")
    assert not visit("results", kind="segment").json
    for gone in ({"model": "gone"}, {"recipe": "gone"}):
        assert "No result fits this filter" in texts(visit("results", **gone))
    refused = visit("results", kind="nonsense")
    assert "What to do" in texts(refused)
    assert not refused.exception


def test_models_names_recipes_with_weights_and_licence(visit, services, job):
    app = visit("models")
    for recipe in services.jobs.list_recipes():
        assert recipe.title in texts(app)
        assert (recipe.weights_sha256 or "fitted anew in every run") in texts(app)
    assert list(app.table[0].value["Model"]) == ["ridge"]


def test_about_says_what_runs_here_and_what_it_is_not_for(visit, services):
    app = visit("about")
    assert "None lives" in " ".join(each.value for each in app.markdown)
    assert {metric.label: metric.value for metric in app.metric}["Database"] == "SQLite"
    assert str(services.settings.home) in texts(app)
    assert "no medical device" in texts(app)


@pytest.mark.parametrize("page", ["upload", "jobs", "results", "models", "about"])
def test_every_page_carries_the_notice(page, visit):
    app = visit(page)
    assert not app.exception
    assert any("Not for clinical use." in element.value for element in app.get("html"))


def test_results_are_narrowed_by_scores_and_sorted(visit, services, job):
    app = visit("results")
    one(app.text_input, "Scores").set_value("two_way:0..1").run()
    assert len(app.json) == job.total
    one(app.selectbox, "Sort by").set_value("-two_way").run()
    expected = services.results.query(ResultQuery(metric=["two_way:0..1"], sort="-two_way")).items
    shown = [element.value for element in app.markdown if element.value.startswith("**")]
    assert next(item for item in shown if "subject" in item).startswith(f"**{expected[0].item}**")
    one(app.text_input, "Scores").set_value("two_way").run()
    assert "What to do" in texts(app)
    one(app.text_input, "Scores").set_value("two_way:2..").run()
    assert "No result fits this filter" in texts(app)


def test_a_saved_search_comes_back_by_its_address(visit, services, job):
    query = ResultQuery(dataset="noise", kind="reconstruct", metric=["two_way:0..1"], sort="two_way", simulated=True)
    services.searches.create(SearchRequest(title="Mine", query=query))
    app = visit("results", search="mine")
    assert not app.exception
    assert one(app.selectbox, "Data set").value == "noise"
    assert one(app.text_input, "Scores").value == "two_way:0..1"
    assert one(app.selectbox, "Sort by").value == "two_way"
    assert len(app.json) == job.total
    assert "no saved search" in texts(visit("results", search="nothing"))


def test_a_search_is_saved_changed_and_forgotten(visit, services, job):
    app = visit("results", dataset="noise")
    one(app.text_input, "Title").set_value("All of noise")
    one(app.button, "Save").click().run()
    assert services.searches.read("all-of-noise") == ResultQuery(dataset="noise")
    one(app.selectbox, "Sort by").set_value("subject").run()
    one(app.button, "Save the changes").click().run()
    assert services.searches.read("all-of-noise").sort == "subject"
    one(app.button, "Forget this search").click().run()
    assert services.searches.list().items == []
    assert not app.exception
