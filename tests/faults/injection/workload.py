"""What is worked on while faults are injected: small jobs of the product's own kinds, and what they gave, as hashes."""

import hashlib
import io
import re
import uuid
from pathlib import Path

import nibabel as nib
import numpy as np
import scipy.io
from sqlalchemy import select

from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.app.services import Services
from voxelight.storage.schema import Artifact, Job, Metric, Reconstruction, Run, Segmentation

SEGMENT, RECONSTRUCT, TRAIN = "segment", "reconstruct", "train-segmenter"
KINDS = (SEGMENT, RECONSTRUCT, TRAIN)
_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def fill(services: Services, folder: Path, volumes: int = 6) -> None:
    """Store what the jobs read: crops of noise, simulated betas, and three simulated persons with label maps."""
    folder.mkdir(parents=True, exist_ok=True)
    services.datasets.create(DatasetRequest(name="crops", simulated=True))
    for number in range(volumes):
        array = np.random.default_rng(number).normal(300, 80, (32, 40, 32)).astype(np.float32)
        _ingest(services, folder / f"crop{number:02}.nii.gz", array, "crops")
    services.datasets.create(DatasetRequest(name="betas", consent="simulated", purpose="a test", simulated=True))
    services.scans.ingest(io.BytesIO(make_betas()), ScanRequest(name="betas.mat", dataset="betas"))
    services.datasets.create(DatasetRequest(name="balls", simulated=True, licence="CC0-1.0", source="a test"))
    random, at = np.random.default_rng(0), np.stack(np.meshgrid(*[np.arange(18)] * 3, indexing="ij"))
    for number in range(3):
        centre = random.uniform(7, 11, 3)[:, None, None, None]
        labels = ((np.square(at - centre).sum(axis=0) < 30) * np.where(at[1] > centre[1], 1, 2)).astype(np.uint8)
        image = (labels * 2 + 0.3 * random.standard_normal(labels.shape)).astype(np.float32)
        _ingest(services, folder / "ball.nii.gz", image, "balls", f"p{number}")
        _ingest(services, folder / "ball_dseg.nii.gz", labels, "balls", f"p{number}")


def make_betas(stimuli: int = 8, repeats: int = 3) -> bytes:
    """Simulated betas with the pictures, as one .mat."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 2, (stimuli, 16)).astype(float)
    shown = np.tile(np.arange(stimuli), repeats)
    betas = pictures[shown] @ rng.normal(size=(16, 40)) + rng.normal(size=(len(shown), 40))
    content = io.BytesIO()
    scipy.io.savemat(content, {"fmriTrn": betas, "stimTrn": pictures[shown], "labelTrn": np.ones((len(shown), 1))})
    return content.getvalue()


def request(kind: str, name: str = "balls-model", steps: int = 40) -> JobRequest:
    """Return a job of a kind; a training needs the name of the model to be, always of one length."""
    if kind == SEGMENT:
        return JobRequest(kind=kind, recipe="hippocampus-agunet", dataset="crops", queue="cpu")
    if kind == RECONSTRUCT:
        return JobRequest(
            kind=kind, recipe="miyawaki-ridge", dataset="betas", queue="cpu", options={"permutations": 19}
        )
    options = {
        "config": {"filters": [4, 8]},
        "labels": {"1": "front", "2": "back"},
        "training": {"batch": 2, "settling": 2},
        "steps": steps,
        "checkpoint_steps": 5,
        "folds": "all",
        "name": name,
    }
    return JobRequest(kind=kind, recipe="train-planned", dataset="balls", queue="cpu", options=options)


def fingerprint(services: Services, job_id: uuid.UUID) -> dict[str, dict[str, str]]:
    """Return for every item, and for the job as a whole, what it gave: file or score -> hash or value.

    Names that differ from one submission to the next by design (the job's id, the name of a trained model) are
    replaced in files that hold nothing else of their own.
    """
    with services.stores.sessions() as session:
        job = session.get_one(Job, job_id)
        model = job.model.name.encode() if job.kind == TRAIN else None
        keys = dict(session.execute(select(Run.id, Run.item_key).where(Run.job_id == job_id)).all())
        found: dict[str, dict[str, str]] = {key: {} for key in keys.values()} | {"": {}}
        for file in session.scalars(select(Artifact).where(Artifact.job_id == job_id)):
            content = services.stores.blobs.read(file.blob_sha256)
            name = f"{file.role} {file.name}"
            if model is not None:
                name, content = name.replace(model.decode(), "MODEL"), content.replace(model, b"MODEL")
            content = _UUID.sub(b"ID", content)
            place = found[keys.get(file.run_id, "")]
            assert name not in place, f"{name} is there twice"
            place[name] = hashlib.sha256(content).hexdigest()
        for score in session.scalars(select(Metric).where(Metric.job_id == job_id)):
            place = found[keys.get(score.run_id, "")]
            name = f"score {score.name} {score.label}"
            assert name not in place, f"{name} is there twice"
            place[name] = repr((score.value, score.low, score.high))
        for table in (Segmentation, Reconstruction):
            for row in session.scalars(select(table).where(table.run_id.in_(keys))):
                place = found[keys[row.run_id]]
                name = f"{table.__tablename__} {getattr(row, 'stimulus_id', '')} {getattr(row, 'rank', '')}"
                assert name not in place, f"{name} is there twice"
                place[name] = repr(getattr(row, "volumes_ml", None))
        return found


def _ingest(services: Services, path: Path, array: np.ndarray, dataset: str, subject: str = "01") -> None:
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    services.scans.ingest_path(path, ScanRequest(name=path.name, dataset=dataset, subject=subject))
