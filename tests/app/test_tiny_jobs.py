"""A job with the tiny profile, whose weights ship: what it gives, how it is called, what it refuses."""

import io
import shutil

import pytest

from voxelight.app.demo import ask_unseen
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest, ResultQuery, ScanRequest
from voxelight.models.errors import BadInput
from voxelight.models.weights import read_words

pytestmark = pytest.mark.usefixtures("one_thread")

sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def do(services, request):
    job = services.jobs.submit(request)
    runner = Runner(services)
    for batch in runner.list_batches(job.id):
        runner.run_batch(job.id, batch)
    runner.close(job.id)
    return services.jobs.show(job.id), list(services.results.walk(ResultQuery(job=job.id)))


@sqlite
def test_a_job_reconstructs_and_captions_what_the_simulated_subject_saw(services):
    request = ask_unseen(services)
    job, results = do(services, request.model_copy(update={"seed": 3, "queue": "cpu"}))
    assert (job.status, job.done, job.failed, job.error) == ("done", 16, 0, "")
    assert job.simulated
    assert not job.random_weights
    allowed = {f"a photo of a {name.lower().replace('-', ' ')}" for name in read_words("tiny-captions")["classes"]}
    for result in results:
        assert result.simulated
        assert result.dataset.startswith("demo-tiny-")
        assert {artifact.role for artifact in result.artifacts} >= {"tokens", "caption", "stimulus", "reconstruction"}
        assert len(result.weights_sha256) == 64
    captions = [result.decoded[0].caption for result in results]
    assert all(caption.startswith("a photo of a ") for caption in captions)
    assert sum(caption in allowed for caption in captions) >= 15
    [model] = services.results.list_models()
    assert model.licence == "LicenseRef-ImageNet-research"
    shutil.rmtree(services.stores.cache)  # so that the stages are done again
    # The same seed gives the same captions and pictures; the data set is stored once.
    again, repeated = do(services, ask_unseen(services).model_copy(update={"seed": 3, "queue": "cpu"}))
    assert again.dataset == job.dataset
    hashes = [
        {artifact.name: artifact.sha256 for result in some for artifact in result.artifacts}
        for some in (results, repeated)
    ]
    assert hashes[0] == hashes[1]


@sqlite
def test_measured_betas_are_refused(services, decodable_mat):
    services.datasets.create(DatasetRequest(name="measured", consent="given", purpose="a test"))
    services.scans.ingest(io.BytesIO(decodable_mat), ScanRequest(name="betas.mat", dataset="measured"))
    with pytest.raises(BadInput, match=r"not marked as simulated.*simulated subject"):
        services.jobs.submit(JobRequest(kind="decode", recipe="tiny", dataset="measured"))


@sqlite
def test_the_recipe_says_what_it_is(services):
    recipe = services.recipes.show("tiny")
    assert any("SIMULATED" in warning for warning in recipe.warnings)
    assert "Its weights are not here" not in " ".join(recipe.warnings)
    assert "a photo of a <class>" in recipe.summary
    assert "not for clinical use" in recipe.card.lower()
    assert recipe.licence == "LicenseRef-ImageNet-research"
