"""The page Compare."""

import pytest

from voxelight.app.schemas import JobRequest


def texts(app):
    """Everything that the page says, escapes of markdown taken out."""
    kinds = (app.markdown, app.caption, app.error, app.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


@pytest.fixture
def jobs(services, submitted, finish):
    """Two jobs over one data set, the second of another seed."""
    request = JobRequest(
        kind="reconstruct", recipe="miyawaki-ridge", dataset="noise", options={"permutations": 19}, queue="cpu", seed=1
    )
    return [finish(submitted.id), finish(services.jobs.submit(request).id)]


def test_without_two_jobs_it_says_what_to_do(visit):
    assert "takes two jobs" in texts(visit("compare"))


def test_two_jobs_stand_side_by_side(visit, services, jobs):
    app = visit("compare", a=str(jobs[0].id), b=str(jobs[1].id))
    assert not app.exception
    table = app.table[0].value
    assert {"First minus second", "95 % interval", "p", "q"} <= set(table.columns)
    assert "Two way" in list(table["Score"])
    assert "photograph of thought" in texts(app)
    assert "Simulated data" in texts(app)
    pairs = min(6, services.compare.jobs(jobs[0].id, jobs[1].id).matched)
    assert len(app.get("image")) == 3 * pairs  # seen, first, second


def test_an_address_of_no_job_says_so(visit, jobs):
    assert "no job" in texts(visit("compare", a="nonsense", b=str(jobs[1].id)))
    assert "same twice" in texts(visit("compare", a=str(jobs[0].id), b=str(jobs[0].id)))
