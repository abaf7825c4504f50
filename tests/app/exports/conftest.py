"""Results to take home: label maps of a NIfTI image and of a DICOM series, and decoded pictures."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.models.values import LabelMap
from voxelight.storage.formats.images import encode_png
from voxelight.storage.formats.nifti import write_label_map
from voxelight.storage.formats.volumes import read_image
from voxelight.storage.results import Outcome, OutputFile, Score, record_run
from voxelight.storage.schema import Artifact, Correction, Run, Scan
from voxelight.storage.stores import name_blob

NAMES = {1: "anterior", 2: "posterior"}


@pytest.fixture
def database_url(tmp_path):
    return f"sqlite:///{tmp_path / 'voxelight.sqlite'}"


@pytest.fixture
def segment(services, tmp_path):
    """Segment a data set."""
    return partial(_segment, services, tmp_path)


def _segment(services, tmp_path, dataset):
    """Write down label maps as a worker does: a box of each label in the middle, on the grid of its scan."""
    job = services.jobs.submit(JobRequest(kind="segment", recipe="hippocampus-agunet", dataset=dataset, queue="cpu"))
    runner = Runner(services)
    runner.list_batches(job.id)
    for run in services.jobs.list_runs(job.id):
        with services.stores.sessions() as session:
            scan = session.get(Scan, session.get(Run, run.id).scan_id)
        with services.stores.blobs.local_file(scan.blob_sha256, scan.name) as path:
            volume, grid = read_image(path)
        array = np.zeros(volume.geometry.shape, np.uint8)
        i, j, k = (side // 2 for side in array.shape)
        array[i - 2 : i, j - 2 : j + 2, k - 1 : k + 1] = 1
        array[i : i + 2, j - 2 : j + 2, k - 1 : k + 1] = 2
        label_map = LabelMap(array, volume.geometry, NAMES)
        file = tmp_path / "dseg.nii.gz"
        write_label_map(file, label_map, grid)
        stem = scan.name.split(".")[0]
        volumes = label_map.volumes_ml()
        files = (
            OutputFile("label_map", f"{stem}_dseg.nii.gz", "application/gzip", file.read_bytes()),
            OutputFile("overlay", f"{stem}_overlay.png", "image/png", encode_png(np.full((40, 60, 3), 90, np.uint8))),
            OutputFile("sidecar", f"{stem}_dseg.json", "application/json", b"{}"),
        )
        scores = tuple(Score("volume", value, label=name, unit="ml") for name, value in volumes.items())
        provenance = {"recipe": job.recipe, "weights_sha256": "0" * 64, "seed": 0}
        outcome = Outcome(files, provenance, scores, label_names=NAMES, volumes_ml=volumes)
        record_run(services.stores, run.id, outcome)
    runner.close(job.id)
    return services.jobs.show(job.id)


def decode(services, dataset):
    quick = {"permutations": 19}
    job = services.jobs.submit(
        JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset=dataset, queue="cpu", options=quick)
    )
    runner = Runner(services)
    for batch in runner.list_batches(job.id):
        runner.run_batch(job.id, batch)
    runner.close(job.id)
    return services.jobs.show(job.id)


@pytest.fixture
def segmented(segment, volumes):
    return segment(volumes)


@pytest.fixture
def decoded(services, brain):
    return decode(services, brain)


@pytest.fixture
def from_dicom(services, segment, shared_data: Path):
    """A job on a small real series."""
    services.datasets.create(
        DatasetRequest(name="mr", licence="MIT", source="Udacity AI for Healthcare, hippocampus crops.")
    )
    folder = min(path.parent for path in (shared_data / "udacity_brain_mr_dicom").rglob("*.dcm"))
    scans, problems = services.scans.ingest_series([folder], ScanRequest(name="x", dataset="mr", subject="p-1"))
    assert scans
    assert not problems
    return segment("mr")


@pytest.fixture
def correct(services):
    """Keep a corrected label map as the viewer does."""
    return partial(_correct, services)


def _correct(services, result, author="R. Eader"):
    [base] = [file for file in result.artifacts if file.role == "label_map"]
    ref = services.stores.blobs.put_bytes(services.results.read(base))
    with services.stores.sessions.begin() as session:
        name_blob(session, ref, "application/gzip")
        name = base.name.replace("_dseg", "_correction-01_dseg")
        file = Artifact(job_id=result.job, run_id=result.id, role="correction", name=name, blob_sha256=ref.sha256)
        session.add(file)
        session.flush()
        session.add(Correction(run_id=result.id, artifact_id=file.id, base_id=base.id, author=author, note="edge"))
