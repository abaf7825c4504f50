"""A job is there once, ends once, keeps what failed and repeats only that; on SQLite and PostgreSQL."""

import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, text

from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetChange, DatasetRequest, JobRequest, ResultQuery, ScanRequest
from voxelight.app.worker import claim_name, working
from voxelight.models.errors import BadInput, Conflict, NotFound, Refused
from voxelight.storage.schema import Artifact, Job, Metric, Reconstruction, Run, Scan

DECODE = JobRequest(kind="reconstruct", recipe="miyawaki-ridge", dataset="brain", options={"permutations": 19})
SEGMENT = JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="volumes")
OVER = ("done", "failed", "cancelled")


def wait(services, job_id, until=lambda job: job.status in OVER, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = services.jobs.show(job_id)
        if until(job):
            return job
        time.sleep(0.05)
    raise AssertionError(f"still {job}")


def count(services, table):
    with services.stores.sessions() as session:
        return session.scalar(select(func.count()).select_from(table))


def test_a_job_is_run_stored_and_found_again(services, brain):
    job = services.jobs.submit(DECODE)
    assert (job.status, job.total, job.done) == ("queued", 8, 0)
    with working(services):
        job = wait(services, job.id)
    assert (job.status, job.done, job.failed, job.error) == ("done", 8, 0, "")
    found = list(services.results.walk(ResultQuery(dataset=brain, kind="reconstruct", model="ridge", subject="01")))
    assert len({result.id for result in found}) == 8
    assert all(result.simulated and result.notice.startswith("Model estimate") for result in found)
    assert {stimulus for result in found for stimulus in result.stimuli} == {result.item for result in found}
    for result in found:
        assert Counter(artifact.role for artifact in result.artifacts) == {
            "prediction": 1,
            "reconstruction": 1,
            "stimulus": 1,
        }
        assert result.provenance["inputs_sha256"].keys() == {"betas.mat"}
        assert len(result.weights_sha256) == 64
    assert {artifact.role for artifact in job.artifacts} == {"contact_sheet", "scores"}
    two_way = next(metric for metric in job.metrics if metric.name == "two_way")
    assert two_way.low <= two_way.value <= two_way.high
    assert {"null_mean", "p", "normalisation", "unit"} <= two_way.detail.keys()


def test_results_are_filtered_by_everything_that_is_asked(services, brain):
    job = services.jobs.submit(DECODE)
    with working(services):
        wait(services, job.id)
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    for query, expected in [
        (ResultQuery(), 8),
        (ResultQuery(job=job.id), 8),
        (ResultQuery(since=now - hour, until=now + hour), 8),
        (ResultQuery(since=now + hour), 0),
        (ResultQuery(until=now - hour), 0),
        (ResultQuery(dataset="another"), 0),
        (ResultQuery(subject="02"), 0),
        (ResultQuery(model="agunet"), 0),
        (ResultQuery(kind="segment"), 0),
    ]:
        assert len(list(services.results.walk(query))) == expected, query
    first = services.results.query(ResultQuery(), limit=3)
    second = services.results.query(ResultQuery(), limit=3, cursor=first.next_cursor)
    third = services.results.query(ResultQuery(), limit=3, cursor=second.next_cursor)
    assert third.next_cursor is None
    assert len({result.id for page in (first, second, third) for result in page.items}) == 8


def test_the_same_key_gives_the_same_job_and_no_other(services, brain):
    first = services.jobs.submit(DECODE, "key")
    assert services.jobs.submit(DECODE, "key").id == first.id
    assert count(services, Job) == 1
    with pytest.raises(Conflict, match="another request"):
        services.jobs.submit(DECODE.model_copy(update={"seed": 1}), "key")
    assert services.jobs.submit(DECODE, "another key").id != first.id


@pytest.mark.parametrize("change", [{"consent": "none"}, {"purpose": " "}])
def test_decoding_asks_for_consent_and_purpose(services, brain, change):
    services.datasets.change(brain, DatasetChange(**change))
    with pytest.raises(Refused, match="stated purpose"):
        services.jobs.submit(DECODE)
    assert count(services, Job) == 0


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"recipe": "unknown"}, NotFound, "recipe"),
        ({"dataset": "unknown"}, NotFound, "data set"),
        ({"options": {"speed": 3}}, BadInput, "options among"),
        ({"options": {"permutations": -1}}, BadInput, "permutations"),
        ({"kind": "segment", "recipe": "hippocampus-agunet", "options": {}}, BadInput, "no volume"),
    ],
)
def test_a_bad_request_leaves_no_job(services, brain, change, error, words):
    with pytest.raises(error, match=words):
        services.jobs.submit(DECODE.model_copy(update=change))
    assert count(services, Job) == count(services, Run) == 0


def test_rows_and_their_place_in_the_queue_commit_together(services, brain):
    with services.stores.engine.begin() as connection:
        connection.execute(text("ALTER TABLE queue_entry RENAME TO hidden"))
    with pytest.raises(Exception, match="queue_entry"):
        services.jobs.submit(DECODE)
    assert count(services, Job) == count(services, Run) == 0


def test_what_fails_is_kept_the_rest_goes_on_and_retry_runs_only_that(services, volumes, crops):
    with services.stores.sessions() as session:
        lost = session.scalars(select(Scan).where(Scan.name == "crop1.nii.gz")).one()
    services.stores.blobs._fs.rm_file(services.stores.blobs._key(lost.blob_sha256))
    job = services.jobs.submit(SEGMENT)
    with working(services):
        job = wait(services, job.id)
        assert (job.status, job.done, job.failed) == ("failed", 2, 1)
        [failed] = services.jobs.list_runs(job.id, status="failed")
        assert (failed.scan, failed.error_class) == ("crop1.nii.gz", "NotFound")
        assert "Restore the blob folder" in failed.error_message
        assert "Traceback" in failed.traceback
        done = {run.id: run.finished_at for run in services.jobs.list_runs(job.id, status="done")}
        services.stores.blobs.put_file(crops[1])
        assert services.jobs.retry(job.id).attempt == 2
        job = wait(services, job.id)
    assert (job.status, job.done, job.failed) == ("done", 3, 0)
    runs = services.jobs.list_runs(job.id)
    assert {run.id: run.finished_at for run in runs if run.id in done} == done
    assert all(run.error_class == run.traceback == "" for run in runs)
    assert count(services, Artifact) == 9


def test_a_cancelled_job_never_starts_and_can_be_taken_up(services, volumes):
    job = services.jobs.submit(SEGMENT)
    assert services.jobs.cancel(job.id).status == "cancelled"
    with working(services):
        time.sleep(1)
        assert [run.status for run in services.jobs.list_runs(job.id)] == ["cancelled"] * 3
        services.jobs.retry(job.id)
        job = wait(services, job.id)
    assert (job.status, job.done) == ("done", 3)
    with pytest.raises(Conflict, match="nothing to cancel"):
        services.jobs.cancel(job.id)
    with pytest.raises(Conflict, match="Nothing is to repeat"):
        services.jobs.retry(job.id)


def test_cancel_stops_a_running_job_at_its_next_step(services, crops):
    services.datasets.create(DatasetRequest(name="many"))
    for number in range(20):
        services.scans.ingest_path(crops[0], ScanRequest(name=f"crop{number}.nii.gz", dataset="many"))
    job = services.jobs.submit(SEGMENT.model_copy(update={"dataset": "many"}))
    with working(services):
        wait(services, job.id, until=lambda job: job.done >= 2)
        services.jobs.cancel(job.id)
        at_cancel = services.jobs.show(job.id).done
        after = wait(services, job.id, until=lambda job: not services.jobs.list_runs(job.id, status="running"))
    assert after.status == "cancelled"
    assert at_cancel <= after.done <= at_cancel + 1 < 20
    statuses = Counter(run.status for run in services.jobs.list_runs(job.id))
    assert statuses == {"done": after.done, "cancelled": 20 - after.done}


def test_a_repeated_step_stores_nothing_twice(services, brain):
    job = services.jobs.submit(DECODE)
    with working(services):
        wait(services, job.id)
    before = {table: count(services, table) for table in (Run, Artifact, Metric, Reconstruction)}
    with services.stores.sessions.begin() as session:
        for run in session.scalars(select(Run)):
            run.status = "running"  # as after a kill between the writes and the engine's own note of the step
    runner = Runner(services)
    for batch in runner.list_batches(job.id):
        runner.run_batch(job.id, batch)
    assert runner.close(job.id) == "done"
    assert {table: count(services, table) for table in before} == before


def test_what_belongs_to_a_job_does_not_depend_on_which_item_ended_first(services, brain):
    job = services.jobs.submit(DECODE)
    with working(services):
        wait(services, job.id)

    def read():
        with services.stores.sessions() as session:
            of_job = select(Artifact.role, Artifact.blob_sha256).where(Artifact.run_id.is_(None))
            return dict(session.execute(of_job).all())

    before = read()
    with services.stores.sessions.begin() as session:
        runs = session.scalars(select(Run).order_by(Run.position)).all()
        for run, at in zip(runs, sorted((run.finished_at for run in runs), reverse=True), strict=True):
            run.finished_at = at  # as where clocks jump, or another worker went on with what one had left
    assert Runner(services).close(job.id) == "done"
    assert read() == before


def test_two_living_workers_do_not_share_a_name(services):
    with working(services, name="one"):
        with pytest.raises(Conflict, match="a worker named 'one'"), working(services, name="one"):
            pass
        first = claim_name(services, "shell")
    assert first == claim_name(services, "shell") == "shell-0"
