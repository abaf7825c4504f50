"""A training is a job: planned, followed by its curve, cancelled, taken up, and ended as a model; on both databases."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from threading import Event

import nibabel as nib
import numpy as np
import pytest

from voxelight.app import runner
from voxelight.app.pipelines import pausing, train_segmenter
from voxelight.app.pipelines.pausing import ask_now_and_then
from voxelight.app.schemas import DatasetRequest, JobRequest, ResultQuery, ScanRequest
from voxelight.app.worker import working
from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.storage.checkpoints import CheckpointFolder
from voxelight.storage.trained import TrainedModels

OVER = ("done", "failed", "cancelled")
SMALL = {"config": {"filters": [4, 8]}, "labels": {"1": "front", "2": "back"}, "training": {"batch": 2, "settling": 2}}


@pytest.fixture(scope="module")
def balls(tmp_path_factory):
    """Three simulated persons with a bright ball of two halves each, and the label maps beside them."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("balls")
    at = np.stack(np.meshgrid(*[np.arange(18)] * 3, indexing="ij"))
    files = []
    for number in range(3):
        centre = random.uniform(7, 11, 3)[:, None, None, None]
        labels = ((np.square(at - centre).sum(axis=0) < 30) * np.where(at[1] > centre[1], 1, 2)).astype(np.uint8)
        image = (labels * 2 + 0.3 * random.standard_normal(labels.shape)).astype(np.float32)
        for name, array in (("ball.nii.gz", image), ("ball_dseg.nii.gz", labels)):
            path = folder / f"p{number}" / name
            path.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), path)
            files.append((path, f"p{number}"))
    return files


@pytest.fixture
def dataset(services, balls):
    services.datasets.create(
        DatasetRequest(name="balls", simulated=True, licence="CC0-1.0", source="made by the test", purpose="a test")
    )
    for path, subject in balls:
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="balls", subject=subject))
    return "balls"


def request(dataset, steps=6, **more):
    options = SMALL | {"steps": steps} | more
    return JobRequest(kind="train-segmenter", recipe="train-planned", dataset=dataset, options=options)


def wait(services, job_id, until=lambda job: job.status in OVER, seconds=200):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = services.jobs.show(job_id)
        if until(job):
            return job
        time.sleep(0.05)
    raise AssertionError(f"still {job}")


def test_folds_are_trained_scored_and_kept_as_a_model_that_segments(services, dataset):
    job = services.jobs.submit(request(dataset, name="halves", folds="all"))
    assert (job.total, job.model) == (3, "halves")
    with working(services):
        job = wait(services, job.id)
        assert (job.status, job.error) == ("done", "")
        curves = services.trainings.read_curves(job.id)
        assert [curve.item for curve in curves] == [f"fold {number}" for number in range(3)]
        assert [point.step for point in curves[0].points] == list(range(6))
        assert {"loss", "lr"} <= curves[0].points[0].values.keys()
        assert [point.step for point in services.trainings.read_curves(job.id, since=4)[0].points] == [4, 5]
        assert {metric.label for metric in job.metrics} <= {"front", "back"}
        results = list(services.results.walk(ResultQuery(job=job.id)))
        assert {artifact.role for artifact in results[0].artifacts} == {"weights", "curve", "scores"}
        assert results[0].simulated
        assert results[0].notice == "Not for clinical use."
        assert len(results[0].provenance["inputs_sha256"]) == 6
        model = TrainedModels(services.stores.weights).find("halves")
        assert len(model.sha256s) == 3
        assert model.provenance["job"] == str(job.id)
        assert model.provenance["simulated"]
        assert "CC0-1.0" in services.recipes.show("halves").card
        own = JobRequest(
            kind="segment", recipe="halves", dataset=dataset, query={"name": "ball.nii.gz", "subject": "p0"}
        )
        done = wait(services, services.jobs.submit(own).id)
        assert done.status == "done"
    [result] = services.results.walk(ResultQuery(job=done.id))
    assert result.weights_sha256 == model.sha256
    assert not (services.stores.cache / "trainings" / str(job.id)).exists()


def test_a_training_starts_from_a_model_of_the_installation(services, dataset):
    def tune(start, network="agunet"):
        more = {"training": SMALL["training"] | {"start_from": start, "learning_rate": 1e-9}, "network": network}
        return services.jobs.submit(request(dataset, 1, name="tuned", folds="none", **more))

    with working(services):
        first = wait(services, services.jobs.submit(request(dataset, 60, name="first", folds="none")).id)
        assert first.status == "done"
        assert wait(services, tune("first").id).status == "done"
    models = TrainedModels(services.stores.weights)
    [start], [tuned] = models.load("first"), models.load("tuned")
    learned = [name for name, value in start.items() if name.endswith("weight") and value.dim() > 1]
    assert all(np.allclose(start[name], tuned[name], atol=1e-3) for name in learned)
    model = models.find("tuned")
    assert model.licence == "as the data: CC0-1.0; as first, which it started from"
    assert "| started from | first;" in model.card
    with pytest.raises(NotFound, match="the weights 'absent' to start from"):
        tune("absent")
    with pytest.raises(BadInput, match="weights of msga, to start a training of agunet"):
        tune("nuclei-msga")


def test_a_cancelled_training_goes_on_where_it_was(services, dataset, monkeypatch):
    monkeypatch.setattr(pausing, "ASK_EVERY_S", 0.0)
    monkeypatch.setattr(runner, "_LOOK_S", 0.0)
    cancelled = Event()

    def slow(go_on):  # steps are so short that a busy machine would be through before it is told
        ask, asked = ask_now_and_then(go_on), itertools.count()

        def ask_slowly():
            if next(asked) >= 10:
                cancelled.wait(1)
            return ask()

        return ask_slowly

    monkeypatch.setattr(train_segmenter, "ask_now_and_then", slow)
    job = services.jobs.submit(request(dataset, steps=60, name="long", folds="none"))
    with working(services):
        wait(services, job.id, lambda _: len(services.trainings.read_curves(job.id)[0].points) >= 10)
        services.jobs.cancel(job.id)
        cancelled.set()
        wait(services, job.id)
        wait(services, job.id, lambda _: services.jobs.list_runs(job.id)[0].status == "cancelled")
        [curve] = services.trainings.read_curves(job.id)
        seen = {point.step: point.values for point in curve.points}
        assert 10 <= len(seen) < 60
        services.jobs.retry(job.id)
        job = wait(services, job.id)
    assert job.status == "done"
    [curve] = services.trainings.read_curves(job.id)
    assert [point.step for point in curve.points] == list(range(60))
    again = {point.step: point.values for point in curve.points}
    assert sum(again[step] == values for step, values in seen.items()) >= len(seen) - 1, "it was not begun anew"
    [run] = services.jobs.list_runs(job.id)
    assert json.loads(json.dumps(run.provenance))["options"]["held_out"] == "all cases"


def test_a_killed_worker_leaves_a_training_that_the_next_one_goes_on_with(services, dataset):
    job = services.jobs.submit(request(dataset, steps=60, name="killed", folds="none", checkpoint_steps=5))
    environment = os.environ | {
        "VOXELIGHT_HOME": str(services.settings.home), "VOXELIGHT_POLL_S": "0.05", "OMP_NUM_THREADS": "1",
        "VOXELIGHT_DATABASE_URL": services.settings.database_url,
    }  # fmt: skip
    command = [sys.executable, "-m", "voxelight.app.cli", "worker", "--queue", "cpu", "--name", "trainer"]
    worker = subprocess.Popen(command, env=environment)
    wait(services, job.id, lambda _: len(services.trainings.read_curves(job.id)[0].points) >= 10)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    folder = services.stores.cache / "trainings" / str(job.id) / "all-cases"
    kept = CheckpointFolder(folder / "checkpoints").steps()[0]
    assert 5 <= kept < 60
    lines = (folder / "curve.jsonl").read_text().splitlines()[:kept]
    before = services.trainings.read_curves(job.id)[0].points[:kept]
    with working(services, name="trainer"):
        job = wait(services, job.id)
        assert job.status == "done"
    [curve] = services.trainings.read_curves(job.id)
    assert [point.step for point in curve.points] == list(range(60))
    assert curve.points[:kept] == before
    assert len(lines) == kept
    [run] = services.jobs.list_runs(job.id)
    assert run.attempts == 2


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"network": "unet5"}, NotFound, "agunet"),
        ({"name": "hippocampus-agunet"}, Conflict, "packaged"),
        ({"name": "no/name"}, BadInput, "letters"),
        ({"colour": 1}, BadInput, "colour"),
    ],
)
def test_what_can_not_be_trained_is_refused_at_once(services, dataset, options, error, said):
    with pytest.raises(error, match=said):
        services.jobs.submit(request(dataset, **options))
    assert services.jobs.list("balls").items == []


def test_images_without_label_maps_are_left_out_or_refused(services, balls):
    services.datasets.create(DatasetRequest(name="bare", simulated=True))
    image = next(path for path, _ in balls if "dseg" not in path.name)
    services.scans.ingest_path(image, ScanRequest(name=image.name, dataset="bare"))
    with pytest.raises(BadInput, match="_dseg"):
        services.jobs.submit(request("bare"))


def test_a_curve_is_asked_of_a_training_alone(services, crops):
    services.datasets.create(DatasetRequest(name="volumes"))
    services.scans.ingest_path(crops[0], ScanRequest(name="crop.nii.gz", dataset="volumes"))
    job = services.jobs.submit(JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="volumes"))
    with pytest.raises(BadInput, match="train-segmenter"):
        services.trainings.read_curves(job.id)
