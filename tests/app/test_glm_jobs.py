"""From raw BOLD through the service: stored, estimated as a job, registered as betas, and decoded; all simulated."""

import io
import json
import threading

import nibabel as nib
import numpy as np
import pytest

from voxelight.app.bootstrap import open_services
from voxelight.app.pipelines.glm_intake import store_runs
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest, ResultQuery, ScanRequest
from voxelight.app.schemas_access import ProjectRequest
from voxelight.app.settings import Settings
from voxelight.app.worker import working
from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.neuro.glm.simulate import BoldOptions
from voxelight.storage.formats.fmri.bold import index_bold
from voxelight.storage.formats.fmri.examples.bold import OPTIONS, write_bold_example
from voxelight.storage.formats.fmri.layouts import open_recording
from voxelight.storage.schema import Scan

sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
GROUNDS = {"consent": "simulated", "purpose": "tests", "simulated": True, "licence": "CC0"}
SMALL = OPTIONS.model_copy(update={"voxels": 140, "runs": 3, "trials": 18, "stimuli": 18})


@pytest.fixture(scope="module")
def bids(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bold") / "bids"
    made, _ = write_bold_example(folder, 0, SMALL)
    return folder, made


def store(services, folder):
    services.datasets.create(DatasetRequest(name="bold", **GROUNDS))
    store_runs(services, index_bold(folder), "bold", folder / "stimuli")
    return services


@pytest.fixture
def stored(services, bids):
    return store(services, bids[0])


def ask(services, recipe="glm-single-trial", **options):
    return services.jobs.submit(JobRequest(kind="glm", recipe=recipe, dataset="bold", queue="cpu", options=options))


def do(services, job):
    runner = Runner(services)
    for batch in runner.list_batches(job.id):
        runner.run_batch(job.id, batch)
    runner.close(job.id)
    return services.jobs.show(job.id)


def read(services, job, role, name=""):
    found = [artifact for artifact in job.artifacts if artifact.role == role and name in artifact.name]
    return services.results.read(found[0])


@sqlite
def test_raw_bold_becomes_betas_and_these_are_decoded_through_service_and_worker(stored, bids):
    made = bids[1]
    stored.access.add_project(ProjectRequest(name="lab"))
    stored.access.move_dataset("bold", "lab")
    job = ask(stored, model={"components": 3, "fractions": [0.2, 0.5, 1.0]})
    assert job.total == SMALL.runs
    with working(stored, ("cpu",), "glm-tests"):
        job = _wait(stored, job.id)
        assert job.status == "done", job.error
        betas = stored.datasets.show("bold-betas")
        assert (betas.consent, betas.purpose, betas.licence, betas.simulated) == ("simulated", "tests", "CC0", True)
        assert str(job.id) in betas.source
        assert betas.project == "lab"
        kinds = sorted(scan.kind for scan in stored.scans.list("bold-betas").items)
        assert kinds == ["events", *["picture"] * SMALL.stimuli, "series", "volume"]
        request = JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset="bold-betas", queue="cpu",
                             options={"permutations": 99})  # fmt: skip
        decoded = _wait(stored, stored.jobs.submit(request).id)
    assert decoded.status == "done", decoded.error
    scores = {metric.name: metric for metric in decoded.metrics}
    r = next(metric for name, metric in scores.items() if "pixel" in name or "correlation" in name)
    assert r.detail["p"] < 0.05
    assert r.value > r.detail["null_mean"]
    assert decoded.simulated
    page = read(stored, job, "report").decode()
    assert "SIMULATED" in page
    assert "Design of run-1" in page
    assert page.count("<img") >= 9
    assert len(made.betas) == SMALL.runs * SMALL.trials


def _wait(services, job_id):
    done = threading.Event()
    for _ in range(1200):
        job = services.jobs.show(job_id)
        if job.status in ("done", "failed", "cancelled"):
            return job
        done.wait(0.05)
    raise AssertionError(f"still {job.status}")


@pytest.fixture(scope="module")
def estimated(bids, tmp_path_factory):
    """An installation whose job is done, and the job."""
    opened = open_services(Settings(home=tmp_path_factory.mktemp("home"), poll_s=0.05))
    yield opened, do(store(opened, bids[0]), ask(opened))
    opened.close()


def test_stored_betas_stand_where_their_voxels_are_and_are_those_of_the_simulation(estimated, bids, tmp_path):
    stored, finished = estimated
    made = bids[1]
    scans = {scan.name: scan for scan in stored.scans.list("bold-betas").items}
    for name in ("sub-01_betas.nii.gz", "sub-01_mask.nii.gz", "sub-01_events.tsv"):
        with stored.stores.blobs.local_file(_hash(stored, scans[name]), name) as path:
            (tmp_path / name).write_bytes(path.read_bytes())
    for artifact in finished.artifacts:
        if artifact.role.startswith("map_") and artifact.name.endswith(".nii.gz"):
            (tmp_path / artifact.name).write_bytes(stored.results.read(artifact))
    recording = open_recording(tmp_path, "nifti")
    betas = recording.read()
    shown = np.concatenate([run.events.stimulus_ids for run in made.runs])
    assert betas.stimulus_ids.tolist() == shown.tolist()
    assert set(betas.labels) >= {"session", "run"}
    r = [np.corrcoef(betas.values[:, voxel], made.betas[:, voxel])[0, 1] for voxel in np.flatnonzero(made.answers)]
    assert np.median(r) > 0.5
    reliability = recording.read_map("reliability")
    assert np.median(reliability[made.answers]) > np.median(reliability[~made.answers]) + 0.2
    assert nib.load(tmp_path / "sub-01_hrf-peak.nii.gz").shape == (8, 7, 4)


def _hash(services, scan):
    with services.stores.sessions() as session:
        return session.get_one(Scan, scan.id).blob_sha256


def test_each_run_says_how_it_was_estimated(estimated):
    stored, finished = estimated
    assert finished.status == "done", finished.error
    results = list(stored.results.walk(ResultQuery(job=finished.id)))
    assert len(results) == SMALL.runs
    told = results[0].provenance
    assert told["options"]["start_s"] == pytest.approx(0.8)
    assert told["options"]["trials"] == SMALL.trials
    assert len(told["inputs_sha256"]) == 4 + SMALL.runs  # image, events, confounds, sidecar; the mask of every run
    assert {artifact.role for artifact in results[0].artifacts} == {"betas", "trials", "design"}
    assert any("optimistic" in note for note in finished.notes)
    log = [line.message for line in stored.jobs.read_log(finished.id).items]
    assert sum("choosing responses" in line for line in log) == 1
    assert {"reliability", "noise_ceiling"} <= {metric.name for metric in finished.metrics}
    report = json.loads(read(stored, finished, "scores"))
    assert report["simulated"] is True
    assert any(note.startswith("Repeats agree") for note in report["notes"])
    assert report["sections"]["Subject 01"]["Trials"] == str(SMALL.runs * SMALL.trials)


@sqlite
def test_a_cancelled_job_stops_between_blocks_and_goes_on_where_it_was(stored, monkeypatch):
    job = ask(stored, "glm-lss", model={"block_voxels": 50})
    runner = Runner(stored)
    [first, second, *_] = runner.list_batches(job.id)
    runner.run_batch(job.id, first)
    folder = stored.stores.cache / "glm" / str(job.id)
    assert len(list(folder.glob("*.npz"))) == 1
    asked = 0

    def take_back(self, what):
        nonlocal asked
        asked += 1
        if asked == 3:  # amid the second run
            stored.jobs.cancel(job.id)
        return going_on(self, what)

    going_on = Runner._go_on
    monkeypatch.setattr("voxelight.app.runner._LOOK_S", 0.0)
    monkeypatch.setattr(Runner, "_go_on", take_back)
    runner.run_batch(job.id, second)
    assert asked == 3
    left = stored.jobs.show(job.id)
    assert (left.status, left.done) == ("cancelled", 1)
    monkeypatch.setattr(Runner, "_go_on", going_on)

    def refuse(*_args, **_kwargs):
        raise AssertionError("chosen again")

    monkeypatch.setattr("voxelight.neuro.glm.session.choose_for_session", refuse)
    done = do(stored, stored.jobs.retry(job.id))  # by another worker
    assert (done.status, done.done) == ("done", SMALL.runs)
    assert not folder.exists()
    assert len(list(stored.results.walk(ResultQuery(job=job.id)))) == SMALL.runs


@sqlite
def test_a_taken_name_is_refused_and_a_free_one_is_found(stored):
    with pytest.raises(Conflict, match="'bold'"):
        ask(stored, name="bold")
    with pytest.raises(NotFound, match="'nobody'"):
        ask(stored, held_out=["nobody"])
    strict = ask(stored, held_out=["01/01/run-3_task-pictures"])
    assert not any("optimistic" in note for note in strict.notes)
    assert ask(stored, "glm-lss").notes == strict.notes


@sqlite
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("events", b"onset\tduration\tstim_file\n1.0\t3\tx.png\n9000\t3\ty.png\n", "past the end"),
        ("bold.json", json.dumps({"RepetitionTime": 2.5}).encode(), "one repetition time"),
    ],
)
def test_runs_that_contradict_themselves_are_refused_at_submission(services, bids, name, content, said):
    services.datasets.create(DatasetRequest(name="bold", **GROUNDS))
    [run, *_] = index_bold(bids[0])
    parts = {"bold.nii.gz": run.bold, "mask.nii.gz": run.mask, "events": run.events, "bold.json": run.sidecars[-1]}
    files = {ending: path.read_bytes() for ending, path in parts.items()} | {name: content}
    for ending, value in files.items():
        suffix = f"{ending}.tsv" if ending == "events" else ending
        request = ScanRequest(name=f"sub-01_task-x_run-1_{suffix}", dataset="bold")
        services.scans.ingest(io.BytesIO(value), request)
    with pytest.raises(BadInput, match=said):
        ask(services)


@sqlite
def test_without_mask_or_events_there_is_nothing_to_estimate(services, bids):
    services.datasets.create(DatasetRequest(name="bold", **GROUNDS))
    [run, *_] = index_bold(bids[0])
    services.scans.ingest_path(run.bold, ScanRequest(name=run.bold.name, dataset="bold"))
    with pytest.raises(BadInput, match="table of events"):
        ask(services)
    services.scans.ingest_path(run.events, ScanRequest(name=run.events.name, dataset="bold"))
    with pytest.raises(BadInput, match="without a mask"):
        ask(services)


@sqlite
def test_sidecars_lose_what_names_a_place(services):
    services.datasets.create(DatasetRequest(name="bold", **GROUNDS))
    told = {"RepetitionTime": 2, "InstitutionAddress": "Somewhere 1", "AcquisitionTime": "12:13:02"}
    request = ScanRequest(name="sub-01_task-x_bold.json", dataset="bold")
    scan = services.scans.ingest(io.BytesIO(json.dumps(told).encode()), request)
    assert (scan.kind, scan.deid_status) == ("sidecar", "cleaned")
    assert json.loads(services.stores.blobs.read(_hash(services, scan))) == {"RepetitionTime": 2}
    assert BoldOptions().runs
