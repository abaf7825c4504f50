"""What was deleted is nowhere: not in the database and its files, the blobs, the vectors, the caches or the spool."""

import io
import json
import uuid

import nibabel as nib
import numpy as np
import pytest
from sqlalchemy import MetaData, select, update

from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest, ScanRequest
from voxelight.app.schemas_deletion import DeletionRequest, DeletionTarget
from voxelight.app.schemas_vectors import NearRequest
from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.storage.formats.images import encode_png
from voxelight.storage.results import Outcome, OutputFile, record_run
from voxelight.storage.schema import Blob, Embedding, Job, Run

GONE, WORD = "seven", "zebrafinch"  # a label, and a word in everything that is of that subject alone


def volume(seed: int) -> bytes:
    array = np.random.default_rng(seed).normal(300, 80, (12, 14, 10)).astype(np.float32)
    return nib.Nifti1Image(array, np.eye(4)).to_bytes()


@pytest.fixture
def two(services):
    """Two subjects with a volume each, segmented by one job; the files of that job are written as a worker does."""
    services.datasets.create(DatasetRequest(name="mri"))
    words = {GONE: WORD, "other": "sparrow"}
    scans = {
        label: services.scans.ingest(
            io.BytesIO(volume(seed)), ScanRequest(name=f"{word}-t1.nii", dataset="mri", subject=label)
        )
        for seed, (label, word) in enumerate(words.items())
    }
    job = services.jobs.submit(JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="mri"))
    Runner(services).list_batches(job.id)
    runs = {run.item.split("/")[0]: run.id for run in services.jobs.list_runs(job.id)}
    for label, run_id in runs.items():
        word = words[label]
        picture = np.random.default_rng(len(word)).integers(0, 255, (32, 32, 3), np.uint8)
        files = (
            OutputFile("label_map", f"{word}_dseg.nii.gz", "application/gzip", f"labels of {word}".encode()),
            OutputFile("overlay", f"{word}_overlay.png", "image/png", encode_png(picture)),
            OutputFile("sidecar", "same.json", "application/json", b'{"the": "same"}'),
        )
        outcome = Outcome(files, {"of": word}, label_names={1: f"{word} nucleus"}, volumes_ml={f"{word} nucleus": 1.5})
        record_run(services.stores, run_id, outcome)
        services.vectors.embed_run(run_id)
        sheet = services.stores.cache / "sheets" / f"{run_id}-small.png"
        sheet.parent.mkdir(parents=True, exist_ok=True)
        sheet.write_bytes(word.encode())
    with services.stores.sessions.begin() as session:
        session.execute(update(Job).values(status="done"))
    services.vectors.find_near(NearRequest(text=f"{WORD} nucleus"))  # the index files are written
    return services, scans, runs, job


def contents(services):
    """Every file of the installation, and on PostgreSQL every value of every row."""
    home, found = services.settings.home, {}
    files = [path for path in home.rglob("*") if path.is_file()]
    if services.stores.engine.dialect.name == "sqlite":
        files += list(home.parent.glob("voxelight.sqlite*"))
    for path in files:
        found[str(path)] = path.read_bytes()
    tables = MetaData()
    tables.reflect(services.stores.engine)
    with services.stores.engine.connect() as connection:
        for table in tables.tables.values():
            if table.name != "receipt":
                found[table.name] = "\n".join(str(tuple(row)) for row in connection.execute(select(table))).encode()
    return found


def search(services, *needles):
    return {place for place, content in contents(services).items() for needle in needles if needle in content}


def hashes_and_vectors(services, run_id, scan_id):
    with services.stores.sessions() as session:
        own = (Embedding.run_id == run_id) | (Embedding.scan_id == scan_id)
        return [row.vector for row in session.scalars(select(Embedding).where(own))]


def test_nothing_of_a_deleted_subject_is_left_anywhere(two):
    services, scans, runs, job = two
    gone, stays = scans[GONE], scans["other"]
    vectors = hashes_and_vectors(services, runs[GONE], gone.id)
    assert len(vectors) == 5, "words, picture and case of the scan; words and case of its result"
    pictures = services.stores.blobs.read(gone.thumbnail_sha256), services.stores.blobs.read(gone.sha256)
    needles = [WORD.encode(), runs[GONE].bytes, *vectors, *pictures]
    needles += [str(runs[GONE]).encode(), runs[GONE].hex.encode(), gone.id.hex.encode()]
    assert len(search(services, *needles)) > 8, "the search finds what is there"

    target = DeletionTarget(what="subject", dataset="mri", subject=GONE)
    planned = services.deletion.plan(target)
    assert search(services, gone.sha256.encode()), "a plan deletes nothing"
    done = services.deletion.delete(target, DeletionRequest(confirm=GONE, author="Ada", reason="withdrew"))

    assert (done.counts, done.sha256s, done.dry_run) == (planned.counts, planned.sha256s, False)
    assert {"subjects": 1, "scans": 1, "results": 1, "vectors": 5}.items() <= done.counts.items()
    assert done.shared == 1, "the file that both results have stays"
    assert not search(services, *needles)
    with services.stores.sessions() as session:
        assert session.scalars(select(Run.id)).all() == [runs["other"]]
        assert (session.get_one(Job, job.id).total, session.get_one(Job, job.id).done) == (1, 1)
        assert all(services.stores.blobs.exists(sha256) for sha256 in session.scalars(select(Blob.sha256)))
    assert services.stores.blobs.read(stays.sha256) == volume(1)
    near = services.vectors.find_near(NearRequest(text="nucleus"))
    assert {match.subject for match in near.items} == {"other"}

    receipt = services.deletion.show_receipt(done.receipt)
    assert (receipt.what, receipt.name, receipt.author, receipt.reason) == ("subject", f"mri/{GONE}", "Ada", "withdrew")
    assert receipt.sha256s == done.sha256s
    assert set(done.sha256s) >= {gone.sha256, gone.thumbnail_sha256}
    assert services.deletion.list_receipts().items == [receipt]


def test_a_whole_data_set_goes_with_all_that_is_in_it(two):
    services, _, _, _ = two
    services.deletion.delete(DeletionTarget(what="dataset", dataset="mri"), DeletionRequest(confirm="mri"))
    tables = {name: content for name, content in contents(services).items() if content and "/" not in name}
    left = {"dataset", "subject", "scan", "job", "run", "artifact", "blob", "embedding", "metric", "job_event"}
    assert not left & set(tables)
    blobs = services.settings.home / "blobs"
    assert not [path for path in blobs.rglob("*") if path.is_file() and path.suffix != ".lock"]
    with pytest.raises(NotFound):
        services.datasets.show("mri")
    assert services.vectors.list_spaces()[0].count == 0
    assert services.sweep(older_than_s=-1) == []


def test_a_result_takes_what_was_made_of_its_job_as_a_whole(services, brain):
    request = JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset=brain, options={"permutations": 19})
    job = services.jobs.submit(request)
    runner = Runner(services)
    for batch in runner.list_batches(job.id):
        runner.run_batch(job.id, batch)
    runner.close(job.id)
    before = services.jobs.show(job.id)
    assert {"contact_sheet", "scores"} <= {file.role for file in before.artifacts}
    first, *rest = services.jobs.list_runs(job.id)
    (services.stores.cache).mkdir(exist_ok=True)
    stage = services.stores.cache / f"{'0' * 64}.safetensors"
    stage.write_bytes(b"what a stage gave")
    done = services.deletion.delete(DeletionTarget(what="result", id=first.id), DeletionRequest(confirm=str(first.id)))
    after = services.jobs.show(job.id)
    assert not after.artifacts
    assert not after.metrics
    assert after.total == before.total - 1 == len(rest)
    assert not stage.exists()
    assert done.counts["results"] == 1
    [scan] = services.scans.list().items
    gone = services.deletion.delete(DeletionTarget(what="scan", id=scan.id), DeletionRequest(confirm=str(scan.id)))
    assert gone.counts["jobs"] == 1, "a job without its betas is nothing"
    assert services.datasets.show(brain).subjects == 0


def test_a_job_that_read_a_deleted_stimulus_goes_whole(services, brain):
    job = services.jobs.submit(JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset=brain))
    picture = services.scans.ingest(
        io.BytesIO(encode_png(np.zeros((8, 8, 3), np.uint8))), ScanRequest(name="seen.png", dataset=brain, subject="02")
    )
    with services.stores.sessions.begin() as session:
        row = session.get_one(Job, job.id)
        row.status = "done"
        row.params = row.params | {"inputs": row.params["inputs"] | {"pictures": [str(picture.id)]}}
    planned = services.deletion.plan(DeletionTarget(what="scan", id=picture.id))
    assert (planned.counts["jobs"], planned.counts["scans"]) == (1, 1)


def test_what_a_job_works_on_stays(two):
    services, scans, _, job = two
    with services.stores.sessions.begin() as session:
        session.execute(update(Job).values(status="running"))
    target = DeletionTarget(what="scan", id=scans[GONE].id)
    with pytest.raises(Conflict, match=f"jobs cancel {job.id}"):
        services.deletion.delete(target, DeletionRequest(confirm=str(scans[GONE].id)))
    assert services.scans.show(scans[GONE].id)
    assert services.deletion.list_receipts().items == []


@pytest.mark.parametrize("typed", ["", "MRI", "mri "])
def test_the_name_has_to_be_typed_once_more(two, typed):
    services, _, _, _ = two
    with pytest.raises(BadInput, match="confirm=mri"):
        services.deletion.delete(DeletionTarget(what="dataset", dataset="mri"), DeletionRequest(confirm=typed))
    assert services.datasets.show("mri").scans == 2


def test_what_is_not_there_can_not_be_deleted(services):
    services.datasets.create(DatasetRequest(name="d"))
    targets = [DeletionTarget(what=what, id=uuid.uuid4()) for what in ("scan", "job", "result")]
    targets += [DeletionTarget(what="dataset", dataset="e"), DeletionTarget(what="subject", dataset="d", subject="9")]
    for target in targets:
        with pytest.raises(NotFound):
            services.deletion.plan(target)


def test_a_file_that_another_scan_has_too_stays(services):
    services.datasets.create(DatasetRequest(name="d"))
    content = json.dumps([1]).encode()
    table = b"stimulus\na\nb\n" + content + b"\n"
    first, second = (
        services.scans.ingest(io.BytesIO(table), ScanRequest(name="e.tsv", dataset="d", subject=label))
        for label in "ab"
    )
    assert first.sha256 == second.sha256
    done = services.deletion.delete(DeletionTarget(what="scan", id=first.id), DeletionRequest(confirm=str(first.id)))
    assert (done.sha256s, done.shared) == ([], 1)
    assert services.stores.blobs.read(second.sha256) == table
    done = services.deletion.delete(DeletionTarget(what="scan", id=second.id), DeletionRequest(confirm=str(second.id)))
    assert done.sha256s == [second.sha256]
    assert not services.stores.blobs.exists(second.sha256)
