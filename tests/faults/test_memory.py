"""A device that runs out of memory: fewer images at once, said in log and provenance, and the same result."""

import io
import shutil

import numpy as np
import pytest
import scipy.io
import torch
from sqlalchemy import select

from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.neuro import networks as loading
from voxelight.storage.formats.images import decode_png
from voxelight.storage.results import read_output
from voxelight.storage.schema import Run

STIMULI, TOLERANCE = 4, 1 / 255  # a level of a picture of 8 bits; in float32 batches differ by 1e-4


@pytest.fixture
def random_betas(services):
    rng = np.random.default_rng(3)
    content = io.BytesIO()
    betas = rng.normal(size=(STIMULI, 1200)).astype(np.float32)
    pictures = rng.integers(0, 255, (STIMULI, 64)).astype(np.uint8)
    scipy.io.savemat(content, {"fmriTrn": betas, "stimTrn": pictures})
    content.seek(0)
    services.datasets.create(DatasetRequest(name="random", consent="simulated", purpose="a test", simulated=True))
    services.scans.ingest(content, ScanRequest(name="betas.mat", dataset="random"))


def decode(services, batch=4):
    options = {"batch": batch, "dtype": "float32", "stop": "unrefined", "preset": "fast", "prior_steps": 2}
    job = services.jobs.submit(
        JobRequest(kind="decode", recipe="random-small", dataset="random", queue="cpu", options=options)
    )
    shutil.rmtree(services.stores.cache, ignore_errors=True)  # else the stages of the last job are taken from there
    runner = Runner(services)
    for batch_of_runs in runner.list_batches(job.id):
        runner.run_batch(job.id, batch_of_runs)
    runner.close(job.id)
    return services.jobs.show(job.id)


def read(services, job, role):
    with services.stores.sessions() as session:
        runs = session.scalars(select(Run.id).where(Run.job_id == job.id).order_by(Run.position)).all()
    return [read_output(services.stores, run, role) for run in runs]


@pytest.fixture
def small_device(monkeypatch):
    """Let the denoiser of pictures fail as a card fails, above a number of images; return what it was asked for."""
    asked, limit = [], {"images": 99}

    def refuse(module, inputs, kwargs):
        x = next(each for each in (*inputs, *kwargs.values()) if isinstance(each, torch.Tensor) and each.ndim == 4)
        asked.append(len(x))
        if len(x) > limit["images"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    build = loading._settle

    def settle(module, network, *rest):
        settled = build(module, network, *rest)
        if network == "sdxl-unet":
            settled.register_forward_pre_hook(refuse, with_kwargs=True)
        return settled

    monkeypatch.setattr(loading, "_settle", settle)
    return asked, limit


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(services, random_betas, small_device, one_thread):
    asked, limit = small_device
    whole = decode(services)
    assert (whole.status, whole.done) == ("done", STIMULI)
    per_image = max(asked) // 4  # guidance shows an image twice
    asked.clear()
    limit["images"] = per_image
    less = decode(services)
    assert (less.status, less.done, less.failed) == ("done", STIMULI, 0)
    assert max(asked) > per_image >= asked[-1], "it was tried, then halved"
    said = [line.message for line in services.jobs.read_log(less.id).items if line.level == "warning"]
    assert [message.partition(": goes on ")[2] for message in said[-2:]] == [
        "with 2 at once, in place of 4.",
        "with 1 at once, in place of 2.",
    ]
    for run in services.jobs.list_runs(less.id):
        assert run.provenance["options"]["batch"] == 1
        assert run.provenance["options"]["batch_before_shortage"] == 4
    assert read(services, less, "tokens") == read(services, whole, "tokens")
    pairs = zip(read(services, less, "unrefined"), read(services, whole, "unrefined"), strict=True)
    worst = max(float(np.abs(decode_png(a) - decode_png(b)).max()) for a, b in pairs)
    print(f"largest difference after batches of 1 in place of 4: {worst:.6f}")
    assert worst <= TOLERANCE + 1e-6

    limit["images"] = 0
    none = decode(services)
    assert (none.status, none.done, none.failed) == ("failed", 0, STIMULI)
    assert {run.error_class for run in services.jobs.list_runs(none.id)} == {"OutOfMemory"}
