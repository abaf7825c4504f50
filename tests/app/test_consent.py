"""Nothing decodes without consent and purpose: no kind of job, at no time, by no way round."""

import pytest

from voxelight.app.pipelines import PIPELINES, find_pipeline
from voxelight.app.pipelines.inputs import DECODING_KINDS
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetChange, DatasetRequest, JobRequest
from voxelight.app.schemas_exports import EvaluationRequest, RelevanceRequest
from voxelight.app.schemas_jobs import JobClone
from voxelight.models.errors import Refused
from voxelight.storage.schema import Dataset, Job, Run

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
NOTHING_DECODED = {"segment", "train-segmenter", "glm"}
GROUNDS = [{}, {"consent": "given"}, {"purpose": "a study"}, {"consent": "given", "purpose": "   "}]


def test_every_kind_of_job_is_known_here():
    assert set(PIPELINES) == {*DECODING_KINDS, *NOTHING_DECODED}, "say of a new kind whether it asks for consent"


@on_sqlite
@pytest.mark.parametrize("ground", GROUNDS, ids=["neither", "no purpose", "no consent", "blank purpose"])
def test_no_kind_that_decodes_is_taken_without_both(services, ground):
    services.datasets.create(DatasetRequest(name="bare", **ground))
    for kind in DECODING_KINDS:
        recipe = find_pipeline(kind).list_recipes(services.stores.weights)[0].name
        with pytest.raises(Refused, match="consent"):
            services.jobs.submit(JobRequest(kind=kind, recipe=recipe, dataset="bare"))
    assert services.jobs.list().items == []


def withdraw(services, name, **what):
    services.datasets.change(name, DatasetChange(**what))
    with services.stores.sessions.begin() as session:  # the change leaves out what is empty
        if "purpose" in what:
            session.query(Dataset).filter_by(name=name).one().purpose = ""


@on_sqlite
@pytest.mark.parametrize("what", [{"consent": "none"}, {"purpose": ""}], ids=["consent", "purpose"])
def test_what_waits_when_consent_is_withdrawn_is_not_decoded_nor_repeated_nor_copied(services, brain, what):
    job = services.jobs.submit(JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset=brain))
    withdraw(services, brain, **what)
    runner = Runner(services)
    for batch in runner.list_batches(job.id):
        assert runner.run_batch(job.id, batch) == 0
    assert runner.close(job.id) == "failed"
    runs = services.jobs.list_runs(job.id)
    assert {run.error_class for run in runs} == {"Refused"}
    assert "consent" in runs[0].error_message
    with pytest.raises(Refused, match="consent"):
        services.jobs.retry(job.id)
    with pytest.raises(Refused, match="consent"):
        services.jobs.clone(job.id, JobClone())
    services.datasets.change(brain, DatasetChange(consent="simulated", purpose="a test"))
    assert services.jobs.retry(job.id).status == "queued"


@on_sqlite
def test_a_decoded_job_is_neither_evaluated_nor_mapped_after_consent_is_withdrawn(services, brain):
    job = services.jobs.submit(JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset=brain))
    with services.stores.sessions.begin() as session:
        row = session.get_one(Job, job.id)
        row.status = "done"
        row.params = row.params | {"inputs": row.params["inputs"] | {"mask": row.params["inputs"]["betas"]}}
        session.query(Run).update({"status": "done"})
    withdraw(services, brain, consent="none")
    for ask in (
        lambda: services.actions.evaluate(job.id, EvaluationRequest()),
        lambda: services.actions.map_relevance(job.id, RelevanceRequest()),
    ):
        with pytest.raises(Refused, match="consent"):
            ask()
