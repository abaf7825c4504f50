"""A subject is erased with everything derived, and a search of every row, file and byte afterwards proves it."""

import gzip
import io
import json
import uuid

import nibabel as nib
import numpy as np
import pytest
from sqlalchemy import MetaData, select, update

from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest, ResultQuery, ScanRequest
from voxelight.app.schemas_deletion import DeletionRequest, DeletionTarget
from voxelight.app.schemas_reviews import ReviewRequest
from voxelight.app.schemas_search import SearchRequest
from voxelight.app.schemas_uploads import UploadRequest
from voxelight.app.schemas_vectors import NearRequest
from voxelight.app.schemas_viewer import CorrectionRequest
from voxelight.models.errors import BadInput, NotFound
from voxelight.storage.derived import ERASED, MadeModel, find_models
from voxelight.storage.identity import IdentityKey
from voxelight.storage.identity_links import read_link
from voxelight.storage.joblog import add_event
from voxelight.storage.results import Outcome, OutputFile, record_run
from voxelight.storage.schema import IdentityLink, Job, Receipt, Run, SavedSearch
from voxelight.storage.trained import TrainedModels

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
GONE = "heron-17"
WORDS = ("zebrafinch", "Doe^Jane", "K-4711")  # in names of files, comments and notes; in headers
SMALL = {"config": {"filters": [4, 8]}, "labels": {"1": "ball"}, "training": {"batch": 1, "settling": 1}, "steps": 1}
ERASE = DeletionTarget(what="subject", dataset="mri", subject=GONE)


def ball(seed: int) -> tuple[bytes, np.ndarray]:
    """A volume with a pattern of its own, as it is stored, and the labels of its ball."""
    at = np.square(np.stack(np.meshgrid(*[np.arange(16) - 8] * 3, indexing="ij"))).sum(axis=0)
    values = (at < 20) * 200 + np.random.default_rng(seed).normal(300, 20, at.shape)
    image = nib.Nifti1Image(values.astype(np.float32), np.eye(4))
    image.header["descrip"] = b"zebrafinch, born 1970"
    return image.to_bytes(), (at < 20).astype(np.uint8)


def take_in(services, label, word, seed):
    image, labels = ball(seed)
    for name, content in ((f"{word}.nii", image), (f"{word}_dseg.nii", nib.Nifti1Image(labels, np.eye(4)).to_bytes())):
        services.scans.ingest(io.BytesIO(content), ScanRequest(name=name, dataset="mri", subject=label))
    return image


def work(services, job):
    runner = Runner(services)
    for batch in runner.list_batches(job.id):
        runner.run_batch(job.id, batch)
    assert runner.close(job.id) == "done", services.jobs.list_runs(job.id)


def segment(services, label, word):
    """A job of one subject or of both, with files as a worker writes them, a review and a correction."""
    scans = [scan.id for scan in services.scans.list("mri").items if scan.name in ("zebrafinch.nii", "sparrow.nii")]
    which = {"query": {"name": "*.nii", "subject": label}} if label else {"scans": scans}
    request = JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="mri", **which)
    job = services.jobs.submit(request, f"{word} of {GONE}/01")
    Runner(services).list_batches(job.id)
    for run in services.jobs.list_runs(job.id):
        labels = np.roll(ball(0)[1], len(word) + len(run.item), 0)  # nobody has the same
        packed = gzip.compress(nib.Nifti1Image(labels, np.eye(4)).to_bytes())
        files = (OutputFile("label_map", f"{word}_dseg.nii.gz", "application/gzip", packed),)
        record_run(services.stores, run.id, Outcome(files, {"of": word}, label_names={1: word}))
        services.vectors.embed_run(run.id)
        if run.item.startswith(GONE):
            services.reviews.save(run.id, "Ada", ReviewRequest(verdict="accept", comment="the zebrafinch again"))
            with services.corrections.receive(run.id) as incoming:
                incoming.write(nib.Nifti1Image(np.roll(labels, 1, 0), np.eye(4)).to_bytes())
                note = CorrectionRequest(author="Ada", note="zebrafinch drawn anew")
                services.corrections.keep(incoming, run.id, note)
    with services.stores.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job.id).values(status="done", error=f"{GONE}/01: no room"))
        add_event(session, job.id, f"Left out, held: {GONE}/01/zebrafinch.nii")
    return job


@pytest.fixture
def planted(services, slices, one_thread, tmp_path):
    """Two subjects, and of the one that goes something on every way in and of every kind that is made."""
    services.datasets.create(DatasetRequest(name="mri"))
    image = take_in(services, GONE, "zebrafinch", 0)
    take_in(services, "other", "sparrow", 1)
    for number, content in enumerate(slices):
        (tmp_path / f"{number}.dcm").write_bytes(content)
    series, _ = services.scans.ingest_series([tmp_path], ScanRequest(name="x", dataset="mri", subject=GONE))
    both = segment(services, "", "both")
    alone = segment(services, GONE, "zebrafinch")
    trained = services.jobs.submit(
        JobRequest(kind="train-segmenter", recipe="train-planned", dataset="mri",
                   options=SMALL | {"name": "balls", "folds": "none"})
    )  # fmt: skip
    work(services, trained)
    upload = UploadRequest(name="zebrafinch-2.nii", dataset="mri", subject=GONE, size=2 * len(image))
    waiting = services.uploads.create(upload)
    with services.uploads.append(waiting.id, 0) as piece:
        piece.write(image)
    services.searches.create(SearchRequest(title="Zebras", query=ResultQuery(dataset="mri", subject=GONE)))
    services.searches.create(SearchRequest(title="Others", query=ResultQuery(dataset="mri", subject="other")))
    for path in (f"trainings/{trained.id}/checkpoints/state.bin", "targets/tokens/part.npy", f"{'0' * 64}.safetensors"):
        place = services.stores.cache / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(image)
    services.vectors.find_near(NearRequest(text="zebrafinch"))
    return services, image, series[0], (both, alone, trained)


def look(services, *needles: bytes) -> set[str]:
    """Where anything is: in all files of the installation, and in all rows but receipts. Not how the product looks."""
    home, found = services.settings.home, set()
    files = [path for path in home.rglob("*") if path.is_file()] + list(home.parent.glob("voxelight.sqlite*"))
    for path in files:
        content = path.read_bytes()
        found |= {str(path) for needle in needles if needle in content}
    tables = MetaData()
    tables.reflect(services.stores.engine)
    with services.stores.engine.connect() as connection:
        for table in tables.tables.values():
            if table.name != "receipt":
                text = "\n".join(str(tuple(row)) for row in connection.execute(select(table))).encode()
                found |= {table.name for needle in needles if needle in text}
    return found


def test_a_subject_is_erased_with_everything_derived_and_that_is_proved(planted):
    services, image, series, (both, alone, trained) = planted
    raw = np.asarray(nib.Nifti1Image.from_bytes(image).dataobj).tobytes()
    needles = [word.encode() for word in (*WORDS, f"{GONE}/", series.name)] + [raw[4000:4064], raw[9000:9032]]
    with services.stores.sessions() as session:
        [link] = session.scalars(select(IdentityLink))
        needles.append(link.sealed)
        identity = read_link(session, IdentityKey(services.settings.home / "identity.key"), link.dataset_id,
                             series.facts["series_uid"])  # fmt: skip
    assert identity.patient["PatientName"] == "Doe^Jane", "who it was is known until then"
    before = look(services, *needles)
    before |= look(services, GONE.encode())
    assert {"scan", "review", "correction", "job_event", "upload", "run", "saved_search"} <= before
    planned = services.deletion.plan(ERASE)
    assert planned.models == ["segmentation balls"]
    assert planned.counts["jobs"] == 2, "the job of that subject alone, and the training that read it"

    with pytest.raises(BadInput, match="models=delete or models=keep"):
        services.deletion.delete(ERASE, DeletionRequest(confirm=GONE))
    assert services.jobs.show(trained.id)
    done = services.deletion.delete(
        ERASE, DeletionRequest(confirm=GONE, author="Ada", reason="withdrew", models="delete", prove=True)
    )

    assert look(services, *needles) == set()
    assert {each.place: each.found for each in done.proof if each.found} == {}
    assert sum(each.things for each in done.proof) > 60
    assert done.proof[0].place == "rows of all tables"
    assert not TrainedModels(services.stores.weights).has("balls")
    assert [row.slug for row in services.searches.list().items] == ["others"]
    left = services.jobs.show(both.id)
    assert (left.total, left.status) == (1, "done"), "what the other subject has in the same job stays"
    assert {run.item.split("/")[0] for run in services.jobs.list_runs(both.id)} == {"other"}
    [stays] = services.jobs.find_request(both.id).scans
    assert services.scans.show(stays).subject == "other"
    for gone in (alone, trained):
        with pytest.raises(NotFound):
            services.jobs.show(gone.id)
    with services.stores.sessions() as session:
        [receipt] = session.scalars(select(Receipt))
        assert receipt.proof == [each.model_dump() for each in done.proof]
        assert receipt.counts["models deleted"] == 1
        assert receipt.counts["searched for"] > 20
        assert session.scalars(select(IdentityLink)).all() == []
        assert {run.subject.label for run in session.scalars(select(Run))} == {"other"}
        assert session.scalars(select(SavedSearch)).one().title == "Others"


@on_sqlite
def test_the_search_finds_what_is_left(planted):
    services, image, _, _ = planted
    stray = services.settings.home / "spool" / "left-behind.part"
    stray.write_bytes(b"x" * 5000 + image + b"y" * 5000)
    log = services.settings.home / "logs" / "worker.log"
    log.parent.mkdir()
    log.write_text(f"could not read {GONE}/01/zebrafinch.nii\n")
    with services.stores.sessions.begin() as session:
        session.scalars(select(Run)).first().job.dataset.purpose = "to see zebrafinch.nii again"
    done = services.deletion.delete(ERASE, DeletionRequest(confirm=GONE, models="delete", prove=True))
    found = {each.place: each.found for each in done.proof if each.found}
    assert found["rows of all tables"] == ["a row of dataset"]
    assert found["spool"] == ["content of a file in left-behind.part"]
    assert found["logs and all else in the home folder"] == ["a name in worker.log"]
    assert any(place == "files of the database" for place in found)


@on_sqlite
def test_a_model_that_stays_says_what_it_was_trained_on(planted):
    services, _, _, (_, _, trained) = planted
    done = services.deletion.delete(ERASE, DeletionRequest(confirm=GONE, models="keep"))
    model = TrainedModels(services.stores.weights).find("balls")
    [note] = model.provenance[ERASED]
    assert str(done.receipt) in note
    assert note in model.card
    assert services.deletion.show_receipt(done.receipt).counts["models kept, and marked"] == 1
    scan = services.scans.list("mri", "other").items[0]
    again = services.deletion.plan(DeletionTarget(what="scan", id=scan.id))
    assert again.models == ["segmentation balls"], "by its hash, though the job that trained it is gone"
    assert not set(done.sha256s) & set(model.provenance["inputs_sha256"].values())
    assert not look(services, b"zebrafinch")
    assert not (services.stores.cache / "trainings" / str(trained.id)).exists()


def test_models_are_found_by_job_by_content_and_by_what_they_began_from(tmp_path):
    job, sha = uuid.uuid4(), "ab" * 32
    told = {
        "by-job": {"job": str(job)},
        "by-content": {"inputs_sha256": {"a.nii": sha}},
        "later": {"start_from": "by-content"},
        "latest": {"start_from": "later"},
        "other": {"job": str(uuid.uuid4()), "inputs_sha256": {"b.nii": "cd" * 32}, "start_from": None},
    }
    plain = {"profile": "tiny", "config": {}, "subjects": [], "normalisation": "as-stored", "simulated": True}
    for name, provenance in told.items():
        folder = tmp_path / "decoders" / name
        folder.mkdir(parents=True)
        facts = {"format": 1, **plain, "licence": "", "source": "", "sha256": "", "provenance": provenance}
        (folder / "model.json").write_text(json.dumps(facts))
    found = find_models(tmp_path, [job], [sha])
    assert found == [MadeModel("decoder", name) for name in ("by-content", "by-job", "later", "latest")]
