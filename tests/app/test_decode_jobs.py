"""Decoding jobs with a real network of random weights: what is kept, what is refused, and how they are stopped."""

import io
import json
import shutil
import threading
import time
from collections import Counter

import nibabel as nib
import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from sqlalchemy import func, select

from voxelight.app.pipelines import loaded
from voxelight.app.pipelines.decode import DecodeOptions, hash_parts
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetChange, DatasetRequest, JobRequest, ResultQuery, ScanRequest
from voxelight.app.warm import WARM
from voxelight.app.worker import working
from voxelight.models.errors import BadInput, NotFound, Refused, Unavailable
from voxelight.neuro.profiles import find_profile
from voxelight.storage.formats.images import decode_png
from voxelight.storage.schema import Artifact, Job, Model, Reconstruction

pytestmark = pytest.mark.usefixtures("one_thread")

FAST = {"preset": "fast", "prior_steps": 2, "dtype": "float32"}
OVER = ("done", "failed", "cancelled")
sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def ask(services, seed=5, recipe="random-small", dataset="random", **options):
    request = JobRequest(kind="decode", recipe=recipe, dataset=dataset, seed=seed, queue="cpu", options=FAST | options)
    return services.jobs.submit(request)


def do(services, job):
    """Do the steps of a job here and now."""
    runner = Runner(services)
    for batch in runner.list_batches(job.id):
        runner.run_batch(job.id, batch)
    runner.close(job.id)
    return services.jobs.show(job.id)


def wait(services, job_id, until=lambda job: job.status in OVER, seconds=120):
    deadline = time.monotonic() + seconds
    while not until(job := services.jobs.show(job_id)):
        assert time.monotonic() < deadline, f"still {job}"
        time.sleep(0.02)
    return job


def store(services, content):
    services.datasets.create(DatasetRequest(name="random", consent="simulated", purpose="a test", simulated=True))
    services.scans.ingest(io.BytesIO(content), ScanRequest(name="betas.mat", dataset="random"))


def results_of(services, job):
    return sorted(services.results.walk(ResultQuery(job=job.id)), key=lambda result: result.item)


def read(services, result, role):
    return [services.results.read(a) for a in sorted(result.artifacts, key=lambda a: a.name) if a.role == role]


def tokens_of(services, result):
    return load_tensors(read(services, result, "tokens")[0])


def test_a_decoding_job_gives_tokens_captions_and_pictures(services, decodable):
    job = ask(services)
    assert (job.kind, job.total, job.random_weights) == ("decode", 6, True)
    with working(services):
        job = wait(services, job.id)
    assert (job.status, job.done, job.failed, job.error) == ("done", 6, 0, "")
    results = results_of(services, job)
    stimuli = {result.item for result in results}
    for result in results:
        assert result.random_weights
        assert result.simulated
        assert result.notice.startswith("RANDOM WEIGHTS: these pictures mean nothing")
        roles = Counter(artifact.role for artifact in result.artifacts)
        once = ("tokens", "caption", "stimulus", "reconstruction", "unrefined", "blurry")
        assert roles == dict.fromkeys(once, 1) | {"retrieved": 5}
        [decoded] = result.decoded
        assert (decoded.stimulus, decoded.rank) == (result.item, 0)
        assert decoded.caption == read(services, result, "caption")[0].decode().strip() != ""
        assert len(set(decoded.retrieved)) == 5
        assert set(decoded.retrieved) <= stimuli
        assert decode_png(read(services, result, "reconstruction")[0]).shape == (64, 64, 3)
        kept = tokens_of(services, result)
        assert (kept["tokens"].shape, kept["tokens"].dtype) == ((1, 16, 64), np.float16)
        assert kept["retrieval"].shape == (16, 64)
        assert result.provenance["options"]["random_weights"] is True
        assert result.provenance["options"]["seeds"] == [decoded.seed]
        assert len(result.weights_sha256) == 64
    assert len({result.decoded[0].seed for result in results}) == 6
    scores = {metric.name: metric for metric in job.metrics}
    assert scores.keys() == {"retrieval_image_of_brain", "retrieval_brain_of_image", "two_way", "pixel_correlation"}
    for score in scores.values():
        assert score.low <= score.value <= score.high
    assert scores["retrieval_image_of_brain"].detail["chance"] == pytest.approx(1 / 6)
    assert scores["retrieval_brain_of_image"].detail["published_as"] == "image retrieval (fwd)"
    [model] = services.results.list_models()
    assert (model.name, model.config["random_weights"], model.weights_sha256) == ("random-small", True, "")
    report = next(artifact for artifact in job.artifacts if artifact.role == "scores")
    assert json.loads(services.results.read(report))["random_weights"] is True
    with services.stores.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Reconstruction)) == 6


@sqlite
def test_an_image_depends_on_seed_and_betas_and_not_on_its_batch(services, make_mat):
    store(services, make_mat(n_stimuli=3))
    together = results_of(services, do(services, ask(services, batch=3)))
    other = results_of(services, do(services, ask(services, batch=3, seed=6)))
    shutil.rmtree(services.stores.cache)  # so that the stages are done again
    alone = results_of(services, do(services, ask(services, batch=1)))
    for one, single, another in zip(together, alone, other, strict=True):
        assert one.decoded[0].seed == single.decoded[0].seed != another.decoded[0].seed
        assert one.decoded[0].caption == single.decoded[0].caption
        pictures = [decode_png(read(services, result, "reconstruction")[0]) for result in (one, single, another)]
        np.testing.assert_allclose(pictures[0], pictures[1], atol=2 / 255)
        assert np.abs(pictures[0] - pictures[2]).max() > 0.1


@sqlite
def test_the_same_seed_gives_the_same_bytes(services, decodable):
    files = []
    for _ in range(2):
        results = results_of(services, do(services, ask(services, stop="caption")))
        files.append({artifact.name: artifact.sha256 for result in results for artifact in result.artifacts})
        shutil.rmtree(services.stores.cache)  # so that the stages are done again
    assert files[0] == files[1]


@sqlite
def test_samples_are_rows_of_one_stimulus(services, decodable):
    result = results_of(services, do(services, ask(services, samples=2)))[0]
    assert result.stimuli == [result.item]
    assert [decoded.rank for decoded in result.decoded] == [0, 1]
    assert len({decoded.seed for decoded in result.decoded}) == 2
    names = {artifact.id: artifact.name for artifact in result.artifacts}
    assert [names[decoded.artifact] for decoded in result.decoded] == [
        f"{result.item}_sample-{number}_reconstruction.png" for number in ("01", "02")
    ]
    assert tokens_of(services, result)["tokens"].shape == (2, 16, 64)
    assert len(read(services, result, "caption")[0].decode().splitlines()) == 2


@sqlite
@pytest.mark.parametrize(
    ("stop", "shown", "roles"),
    [
        ("tokens", "tokens", {"tokens"}),
        ("caption", "caption", {"tokens", "caption"}),
        ("unrefined", "reconstruction", {"tokens", "caption", "unrefined", "blurry", "reconstruction"}),
    ],
)
def test_a_job_stops_where_it_is_told(services, decodable, stop, shown, roles):
    job = do(services, ask(services, stop=stop))
    assert job.status == "done"
    for result in results_of(services, job):
        assert {artifact.role for artifact in result.artifacts} == roles | {"stimulus", "retrieved"}
        by_id = {artifact.id: artifact.role for artifact in result.artifacts}
        assert by_id[result.decoded[0].artifact] == shown
    assert {metric.name for metric in job.metrics} >= {"retrieval_image_of_brain"}
    assert ("two_way" in {metric.name for metric in job.metrics}) == (stop == "unrefined")


@sqlite
def test_betas_without_pictures_are_decoded_and_not_scored(services, tmp_path):
    services.datasets.create(DatasetRequest(name="bare", consent="given", purpose="a test"))
    betas = np.random.default_rng(0).normal(size=(1200, 1, 1, 4)).astype(np.float32)
    nib.save(nib.Nifti1Image(betas, np.eye(4)), tmp_path / "betas.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((1200, 1, 1), np.uint8), np.eye(4)), tmp_path / "mask.nii.gz")
    (tmp_path / "events.tsv").write_text("stimulus\na\nb\na\nb\n")
    for name in ("betas.nii.gz", "mask.nii.gz", "events.tsv"):
        services.scans.ingest_path(tmp_path / name, ScanRequest(name=name, dataset="bare"))
    job = do(services, ask(services, dataset="bare"))
    assert (job.status, job.done, job.metrics) == ("done", 2, [])
    assert not job.simulated
    for result in results_of(services, job):
        assert {artifact.role for artifact in result.artifacts} & {"stimulus", "retrieved"} == set()
        assert result.decoded[0].retrieved == []
    report = json.loads(services.results.read(next(a for a in job.artifacts if a.role == "scores")))
    assert any("No score: pictures of 0 decoded stimuli" in note for note in report["notes"])
    assert any(artifact.role == "contact_sheet" for artifact in job.artifacts)


@pytest.mark.parametrize(
    ("dataset", "change", "error", "words"),
    [
        ("brain", {}, BadInput, "40 voxels.*expected the 1200 voxels that the decoder of random-small"),
        ("random", {"recipe": "mindeye2"}, Unavailable, "voxelight weights fetch"),
        ("random", {"recipe": "another"}, NotFound, "profile"),
        ("random", {"subject": "subj09"}, NotFound, "no decoder of random-small"),
        ("random", {"stop": "dreams"}, BadInput, "option stop"),
        ("random", {"samples": 0}, BadInput, "option samples"),
        ("random", {"speed": 1}, BadInput, "options among stop, samples"),
    ],
)
@sqlite
def test_what_can_not_be_decoded_is_refused_before_a_job_is_there(
    services, brain, decodable, dataset, change, error, words
):
    with pytest.raises(error, match=words):
        ask(services, dataset=dataset, **change)
    with services.stores.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0
        assert session.scalar(select(func.count()).select_from(Model)) == 0


@sqlite
def test_decoding_asks_for_consent(services, decodable):
    services.datasets.change(decodable, DatasetChange(consent="none"))
    with pytest.raises(Refused, match="stated purpose"):
        ask(services)


@sqlite
@pytest.mark.filterwarnings("ignore:overflow")
def test_one_bad_stimulus_fails_none_beside_it(services, make_mat):
    store(services, make_mat(stimulus1=1e30))  # finite, and too large for any network
    job = do(services, ask(services))
    assert (job.status, job.done, job.failed) == ("failed", 5, 1)
    [failed] = services.jobs.list_runs(job.id, status="failed")
    assert failed.item not in {result.item for result in results_of(services, job)}
    assert failed.error_message
    assert "Traceback" in failed.traceback
    with services.stores.sessions() as session:
        kept = Counter(session.scalars(select(Artifact.role)))
    assert kept["tokens"] == kept["reconstruction"] == 5


class Counting:
    """Counts the denoising steps of the networks that a worker has loaded, and can let each last."""

    def __init__(self, networks, seconds=0.0):
        self.steps, self.seconds = 0, seconds
        self.waiting, self._count = threading.Event(), 0
        decoder = networks.parts["decoder"].diffusion_prior.net
        self._hooks = [part.register_forward_pre_hook(self._step) for part in (decoder, networks.parts["unclip"])]

    def _step(self, *_):
        self.steps += 1
        time.sleep(self.seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hook in self._hooks:
            hook.remove()


@pytest.mark.parametrize("in_the_prior", [True, False], ids=["in-the-prior", "in-the-unet"])
def test_cancel_stops_within_two_denoising_steps(services, decodable, in_the_prior):
    options = {"stop": "unrefined", "prior_steps": 20}
    networks = loaded.find_networks(
        find_profile("random-small"), services.stores.weights, DecodeOptions(**FAST | options).generation, "cpu"
    )
    with Counting(networks, seconds=0.1) as counting:
        job = ask(services, **options)
        with working(services):
            while counting.steps < (4 if in_the_prior else 22):
                time.sleep(0.01)
            services.jobs.cancel(job.id)
            at_cancel = counting.steps
            wait(services, job.id, until=lambda job: not services.jobs.list_runs(job.id, status="running"))
            time.sleep(0.5)
            assert counting.steps - at_cancel <= 2
            statuses = Counter(run.status for run in services.jobs.list_runs(job.id))
            assert statuses == {"cancelled": 6}
            assert services.jobs.show(job.id).status == "cancelled"
            counting.seconds = 0
            services.jobs.retry(job.id)
            job = wait(services, job.id)
    assert (job.status, job.done, job.failed, job.attempt) == ("done", 6, 0, 2)


@pytest.mark.parametrize("taken_up", [False, True], ids=["left", "taken-up-at-once"])
def test_a_job_that_is_cancelled_while_networks_load_leaves_nothing_running(services, decodable, monkeypatch, taken_up):
    job = ask(services, stop="tokens")
    load = loaded.load_networks

    def interrupted(*arguments, **options):
        monkeypatch.setattr(loaded, "load_networks", load)
        services.jobs.cancel(job.id)
        if taken_up:
            services.jobs.retry(job.id)
        return load(*arguments, **options)

    monkeypatch.setattr(loaded, "load_networks", interrupted)
    runner = Runner(services)
    [batch] = runner.list_batches(job.id)
    assert runner.run_batch(job.id, batch) == 0
    runs = services.jobs.list_runs(job.id)
    assert {run.status for run in runs} == {"pending" if taken_up else "cancelled"}
    if not taken_up:
        services.jobs.retry(job.id)
    assert do(services, job).status == "done"
    assert {run.attempts for run in services.jobs.list_runs(job.id)} == {1}


@sqlite
def test_networks_are_loaded_once_for_all_jobs_that_ask_for_them(services, decodable, monkeypatch):
    loads = []
    load = loaded.load_networks

    def counted(profile, weights, options, device, parts=None):
        loads.append((options.dtype, "image_encoder" if parts else "all"))
        return load(profile, weights, options, device, parts)

    monkeypatch.setattr(loaded, "load_networks", counted)
    WARM.clear()
    for seed in (1, 2):
        assert do(services, ask(services, seed=seed, stop="tokens")).status == "done"
    once = [("float32", "image_encoder"), ("float32", "all")]
    assert loads == once
    do(services, ask(services, stop="tokens", dtype="bfloat16"))
    assert loads == [*once, ("bfloat16", "image_encoder"), ("bfloat16", "all")]


def test_the_hash_of_a_model_is_that_of_its_results(tmp_path):
    options = DecodeOptions(**FAST | {"stop": "tokens"}).generation
    networks = loaded.find_networks(find_profile("random-small"), tmp_path, options, "cpu")
    assert hash_parts(networks.part_sha256) == networks.weights_sha256
