"""Jobs in line: places, priorities, estimates; which scans they take; single items again; copies; the log."""

import io
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import nibabel as nib
import numpy as np
import pytest
from sqlalchemy import event, select

from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetRequest, JobRequest, ScanQuery, ScanRequest
from voxelight.app.schemas_jobs import JobChange, JobClone
from voxelight.app.worker import working
from voxelight.models.errors import BadInput, Conflict, NotFound, Refused
from voxelight.storage.schema import Job, Model, Scan

DECODE = JobRequest(
    kind="reconstruct", recipe="miyawaki-ridge", dataset="brain", queue="cpu", options={"permutations": 0}
)
SEGMENT = JobRequest(kind="segment", recipe="hippocampus-agunet", dataset="volumes", queue="cpu")


@contextmanager
def counting(services):
    """Count what is asked of the database."""
    asked = []

    def note(_connection, _cursor, statement, *_):
        asked.append(statement)

    event.listen(services.stores.engine, "before_cursor_execute", note)
    yield asked
    event.remove(services.stores.engine, "before_cursor_execute", note)


def carry_out(services, job_id):
    """Do the steps of a job here and now."""
    runner = Runner(services)
    for batch in runner.list_batches(job_id):
        runner.run_batch(job_id, batch)
    runner.close(job_id)
    return services.jobs.show(job_id)


def lose(services, name):
    """Lose the file of a scan, as a failing disk would; return how to bring it back."""
    with services.stores.sessions() as session:
        sha256 = session.scalars(select(Scan.blob_sha256).where(Scan.name == name)).one()
    content = services.stores.blobs.read(sha256)
    services.stores.blobs._fs.rm_file(services.stores.blobs._key(sha256))
    return lambda: services.stores.blobs.put_bytes(content)


def hold(services, name, reason="text burned into the image"):
    with services.stores.sessions.begin() as session:
        session.scalars(select(Scan).where(Scan.name == name)).one().held = reason


def fill(services, dataset, subjects, sessions=2):
    """A data set with one small volume in each session of each subject."""
    services.datasets.create(DatasetRequest(name=dataset))
    for subject in range(subjects):
        for session in range(sessions):
            array = np.full((4, 4, 4), subject * sessions + session, np.float32)
            content = io.BytesIO(nib.Nifti1Image(array, np.eye(4)).to_bytes())
            request = ScanRequest(
                name=f"s{subject}_T{session + 1}w.nii", dataset=dataset, subject=f"{subject:02}", session=f"{session}"
            )
            services.scans.ingest(content, request)


def test_the_worker_takes_the_highest_priority_first_and_the_oldest_of_equals(services, brain):
    order = {
        priority: services.jobs.submit(DECODE.model_copy(update={"priority": priority})) for priority in (0, -1, 2)
    }
    second = services.jobs.submit(DECODE)
    ids = [order[2].id, order[0].id, second.id, order[-1].id]
    assert [services.jobs.show(job_id).place for job_id in ids] == [1, 2, 3, 4]
    assert {job.id: job.place for job in services.jobs.list().items} == dict(zip(ids, [1, 2, 3, 4], strict=True))
    with working(services):
        for job_id in ids:
            _wait(services, job_id)
    jobs = [services.jobs.show(job_id) for job_id in ids]
    assert [job.started_at for job in jobs] == sorted(job.started_at for job in jobs)
    assert {job.place for job in jobs} == {None}


def test_a_waiting_job_can_be_put_forward_and_is_done_once(services, brain):
    first, second = services.jobs.submit(DECODE), services.jobs.submit(DECODE)
    changed = services.jobs.change(second.id, JobChange(priority=1))
    assert (changed.priority, changed.place, services.jobs.show(first.id).place) == (1, 1, 2)
    assert services.jobs.change(second.id, JobChange(priority=1)).attempt == changed.attempt
    with working(services):
        jobs = [_wait(services, job.id) for job in (second, first)]
    assert [(job.status, job.done) for job in jobs] == [("done", 8), ("done", 8)]
    assert jobs[0].started_at < jobs[1].started_at
    assert {run.attempts for run in services.jobs.list_runs(second.id)} == {1}
    with pytest.raises(Conflict, match="one that waits"):
        services.jobs.change(second.id, JobChange(priority=0))
    with pytest.raises(Conflict, match="went on meanwhile"):
        services.jobs.change(first.id, JobChange(priority=0), seen="1-queued-0-0")


def test_places_are_counted_on_each_queue_by_itself(services, volumes):
    on_gpu = SEGMENT.model_copy(update={"queue": "gpu"})
    jobs = [services.jobs.submit(request) for request in (SEGMENT, on_gpu, SEGMENT, on_gpu)]
    assert [job.place for job in jobs] == [1, 1, 2, 2]
    services.jobs.cancel(jobs[0].id)
    assert [services.jobs.show(job.id).place for job in jobs] == [None, 1, 1, 2]
    assert services.jobs.retry(jobs[0].id).place == 2, "what is repeated goes behind what waits"


def test_each_of_very_many_that_wait_knows_its_place(services, volumes):
    first = services.jobs.submit(SEGMENT)
    with services.stores.sessions.begin() as session:
        row = session.get(Job, first.id)
        same = {name: getattr(row, name) for name in ("kind", "recipe", "dataset_id", "model_id", "queue", "params")}
        earlier = [Job(**same, queued_at=row.queued_at - timedelta(hours=1, seconds=-place)) for place in range(1500)]
        session.add_all(earlier)
    last = services.jobs.submit(SEGMENT)
    places, cursor = {}, None
    while cursor is not None or not places:
        page = services.jobs.list(limit=500, cursor=cursor)
        places |= {job.id: job.place for job in page.items}
        cursor = page.next_cursor
    in_line = [*(job.id for job in earlier), first.id, last.id]
    assert [places[job_id] for job_id in in_line] == list(range(1, 1503))
    services.jobs.cancel(earlier[0].id)
    assert services.jobs.show(earlier[0].id).place is None
    assert services.jobs.show(last.id).place == 1501


def test_an_estimate_goes_by_what_items_of_the_recipe_took(services, brain):
    first = services.jobs.submit(DECODE)
    [measured] = services.recipes.show("miyawaki-ridge").costs
    assert "processor time of one core" in measured.source
    assert first.seconds_left == pytest.approx(first.total * measured.seconds_an_item), "until one was done here"
    assert services.jobs.list_runs(first.id)[0].seconds_left == pytest.approx(measured.seconds_an_item)
    done = carry_out(services, first.id)
    assert done.seconds_left is None
    took = [run.seconds for run in services.jobs.list_runs(first.id)]
    assert all(seconds > 0 for seconds in took)
    mean = sum(took) / len(took)
    second = services.jobs.submit(DECODE)
    assert second.seconds_left == pytest.approx(8 * mean)
    left = [run.seconds_left for run in services.jobs.list_runs(second.id)]
    assert left == pytest.approx([mean * place for place in range(1, 9)])
    [last] = services.jobs.page_runs(second.id, limit=1, cursor="item-7").items
    assert last.seconds_left == pytest.approx(8 * mean)
    assert services.jobs.submit(DECODE.model_copy(update={"queue": "gpu"})).seconds_left is None
    runner = Runner(services)
    [batch] = runner.list_batches(second.id)
    batch, rest = batch[:4], batch[4:]
    runner.run_batch(second.id, batch)
    own = [run.seconds for run in services.jobs.list_runs(second.id, status="done")]
    expected = len(rest) * sum(own) / len(own)
    assert services.jobs.show(second.id).seconds_left == pytest.approx(expected), "its own items count first"
    [cost] = services.recipes.show("miyawaki-ridge").costs
    assert cost.queue == "cpu"
    assert "12 finished items here; memory measured on" in cost.source


def test_a_query_takes_what_fits_it_when_it_is_submitted(services):
    fill(services, "mri", 4)

    def items(**query):
        request = SEGMENT.model_copy(update={"dataset": "mri", "query": ScanQuery(**query)})
        return [run.item for run in services.jobs.list_runs(services.jobs.submit(request).id)]

    assert len(items()) == 8
    assert items(name="s?_t1W*", session="0") == [f"{n:02}/0/s{n}_T1w.nii" for n in range(4)]
    assert items(subject="02") == ["02/0/s2_T1w.nii", "02/1/s2_T2w.nii"]
    assert items(name="s1_T2w.nii") == ["01/1/s1_T2w.nii"]
    for nothing in ({"name": "s%"}, {"name": "s0_T1w"}, {"name": "s1?T1w*", "session": "1"}, {"subject": "9"}):
        with pytest.raises(BadInput, match="no scan of data set mri"):
            items(**nothing)
    with pytest.raises(BadInput, match="no scan of data set mri"):
        items(kind="picture")
    with pytest.raises(ValueError, match="not by both"):
        JobRequest(**SEGMENT.model_dump() | {"scans": [uuid.uuid4()], "query": {}})


def test_a_held_scan_is_refused_by_name_and_left_out_otherwise(services, volumes):
    hold(services, "crop1.nii.gz")
    choices = services.recipes.find_scans("hippocampus-agunet", volumes, ScanQuery())
    assert [scan.held for scan in choices] == ["", "text burned into the image", ""]
    with pytest.raises(Refused, match=r"crop1\.nii\.gz, which is held: text burned into the image"):
        services.jobs.submit(SEGMENT.model_copy(update={"scans": [scan.id for scan in choices]}))
    assert services.jobs.list().items == []
    for request in (SEGMENT, SEGMENT.model_copy(update={"query": ScanQuery(name="crop*")})):
        job = services.jobs.submit(request)
        assert {run.scan for run in services.jobs.list_runs(job.id)} == {"crop0.nii.gz", "crop2.nii.gz"}
        assert job.notes == ["Left out, held for a person to look at: crop1.nii.gz (text burned into the image)."]
        assert job.notes[0] in [line.message for line in services.jobs.read_log(job.id).items]
    for name in ("crop0.nii.gz", "crop2.nii.gz"):
        hold(services, name)
    with pytest.raises(BadInput, match="no volume in data set volumes that is not held"):
        services.jobs.submit(SEGMENT)


def test_held_betas_are_not_decoded(services, brain):
    hold(services, "betas.mat", "a name in the header")
    with pytest.raises(BadInput, match="0 files of betas"):
        services.jobs.submit(DECODE)
    [scan] = services.scans.list(brain).items
    with pytest.raises(Refused, match="a name in the header"):
        services.jobs.submit(DECODE.model_copy(update={"scans": [scan.id]}))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # a network takes seconds
def test_one_item_is_repeated_and_the_others_are_left_as_they_ended(services, volumes):
    back = [lose(services, name) for name in ("crop0.nii.gz", "crop2.nii.gz")]
    job = carry_out(services, services.jobs.submit(SEGMENT).id)
    assert (job.status, job.done, job.failed) == ("failed", 1, 2)
    for bring in back:
        bring()
    zero, one, two = services.jobs.list_runs(job.id)
    again = services.jobs.retry(job.id, [zero.id])
    assert (again.status, again.done, again.failed, again.attempt) == ("queued", 1, 1, 2)
    job = carry_out(services, job.id)
    assert (job.status, job.done, job.failed) == ("failed", 2, 1)
    after = services.jobs.list_runs(job.id)
    assert [run.status for run in after] == ["done", "done", "failed"]
    assert (after[1].finished_at, after[2].finished_at) == (one.finished_at, two.finished_at)
    assert after[2].traceback
    with pytest.raises(Conflict, match=r"crop0\.nii\.gz, which is done"):
        services.jobs.retry(job.id, [zero.id, two.id])
    with pytest.raises(BadInput, match="no item"):
        services.jobs.retry(job.id, [uuid.uuid4()])
    services.jobs.retry(job.id)
    assert carry_out(services, job.id).status == "done"


def test_of_a_cancelled_job_one_item_is_taken_up(services, brain):
    job = services.jobs.submit(DECODE)
    services.jobs.cancel(job.id)
    [_, chosen, *_] = services.jobs.list_runs(job.id)
    services.jobs.retry(job.id, [chosen.id])
    job = carry_out(services, job.id)
    assert (job.status, job.done, job.failed) == ("cancelled", 1, 0)
    assert [run.status for run in services.jobs.list_runs(job.id)] == ["cancelled", "done", *["cancelled"] * 6]


def test_a_copy_differs_only_in_what_is_said(services, volumes):
    ids = [scan.id for scan in services.scans.list(volumes).items][:2]
    first = services.jobs.submit(SEGMENT.model_copy(update={"scans": ids, "priority": -1}), "key")
    same = services.jobs.clone(first.id, JobClone())
    assert (same.cloned_from, same.total, same.seed, same.priority) == (first.id, 2, 0, -1)
    asked = services.jobs.find_request(first.id).model_copy(update={"cloned_from": first.id})
    assert services.jobs.find_request(same.id) == asked
    other = services.jobs.clone(first.id, JobClone(seed=7, query=ScanQuery(name="crop*"), queue="gpu"), "copy")
    assert (other.seed, other.total, other.queue, other.status) == (7, 3, "gpu", "queued")
    assert services.jobs.find_request(other.id).scans == []
    assert services.jobs.clone(first.id, JobClone(seed=7, query=ScanQuery(name="crop*"), queue="gpu"), "copy").id == (
        other.id
    )
    with pytest.raises(Conflict, match="another request"):
        services.jobs.clone(first.id, JobClone(seed=8), "copy")
    named = services.jobs.clone(other.id, JobClone(scans=ids[:1]))
    assert (named.total, services.jobs.find_request(named.id).query) == (1, None)
    with pytest.raises(BadInput, match="one of the two"):
        services.jobs.clone(first.id, JobClone(scans=ids, query=ScanQuery()))
    with pytest.raises(NotFound, match="no job"):
        services.jobs.clone(uuid.uuid4(), JobClone())
    with pytest.raises(NotFound, match="no job"):
        services.jobs.submit(SEGMENT.model_copy(update={"cloned_from": uuid.uuid4()}))


def test_a_copy_may_name_a_recipe_of_another_kind(services, brain, volumes):
    first = services.jobs.submit(SEGMENT)
    copy = services.jobs.clone(
        first.id, JobClone(recipe="miyawaki-ridge", dataset=brain, options={"permutations": 0}, query=ScanQuery())
    )
    assert (copy.kind, copy.recipe, copy.dataset, copy.total) == ("reconstruct", "miyawaki-ridge", "brain", 8)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # a network takes seconds
def test_the_log_says_what_happened_in_its_order(services, volumes):
    back = lose(services, "crop1.nii.gz")
    job = services.jobs.submit(SEGMENT)
    carry_out(services, job.id)
    back()
    services.jobs.retry(job.id)
    services.jobs.cancel(job.id)
    lines = services.jobs.read_log(job.id, limit=500).items
    said = [line.message for line in lines]
    assert said[0] == "Submitted with 3 items on queue cpu."
    assert said[1].startswith("Taken up by ")
    assert said[2] == "01/01/crop0.nii.gz started."
    assert said[3].startswith("01/01/crop0.nii.gz done in ")
    assert said[5].startswith("01/01/crop1.nii.gz failed: NotFound: ")
    assert said[-3:] == [
        "Ended: 2 of 3 items done, 1 failed.",
        "Put back on the queue to repeat 1 item.",
        "Cancelled with 2 of 3 items done.",
    ]
    runs = {run.item: run.id for run in services.jobs.list_runs(job.id)}
    assert (lines[5].level, lines[5].run) == ("error", runs["01/01/crop1.nii.gz"])
    assert [line.at for line in lines] == sorted(line.at for line in lines)


def test_a_log_is_read_in_pieces_from_either_end(services, brain):
    job = services.jobs.submit(DECODE)
    carry_out(services, job.id)
    whole = services.jobs.read_log(job.id, limit=500).items
    pieces, cursor = [], None
    while True:
        page = services.jobs.read_log(job.id, 3, cursor)
        pieces += page.items
        if (cursor := page.next_cursor) is None:
            break
    assert pieces == whole
    assert services.jobs.read_log(job.id, 500, whole[-1].cursor).items == []
    assert services.jobs.read_log(job.id, 500, whole[3].cursor).items == whole[4:]
    assert services.jobs.read_log(job.id, 2, newest=True).items == whole[-2:]
    with pytest.raises(BadInput, match="the cursor"):
        services.jobs.read_log(job.id, 3, "nonsense")


def test_items_come_in_pages(services):
    fill(services, "mri", 4)
    job = services.jobs.submit(SEGMENT.model_copy(update={"dataset": "mri"}))
    pages, cursor = [], None
    while True:
        page = services.jobs.page_runs(job.id, limit=3, cursor=cursor)
        pages.append([run.item for run in page.items])
        if (cursor := page.next_cursor) is None:
            break
    assert [len(page) for page in pages] == [3, 3, 2]
    assert [item for page in pages for item in page] == [run.item for run in services.jobs.list_runs(job.id)]
    for cursor in ("item-x", "7", "item-" + "9" * 40):
        with pytest.raises(BadInput, match="the cursor"):
            services.jobs.page_runs(job.id, cursor=cursor)


def test_the_database_is_asked_as_often_for_many_as_for_few(services):
    fill(services, "few", 2)
    fill(services, "many", 12)
    services.jobs.submit(SEGMENT.model_copy(update={"dataset": "few"}))  # names the model
    asked = {}
    for name in ("few", "many"):
        ids = [scan.id for scan in services.scans.list(name).items]
        for wanted in ({}, {"scans": ids}, {"query": ScanQuery(name="s*")}):
            with counting(services) as statements:
                services.jobs.submit(SEGMENT.model_copy(update={"dataset": name, **wanted}))
            asked.setdefault(str(sorted(wanted)), []).append(len(statements))
    assert all(few == many for few, many in asked.values()), asked
    lists = []
    for limit in (2, 6):
        with counting(services) as statements:
            services.jobs.list(limit=limit)
        lists.append(len(statements))
    assert lists[0] == lists[1]


def test_jobs_are_listed_by_state_and_ended_ones_are_found(services, volumes):
    jobs = [services.jobs.submit(SEGMENT) for _ in range(3)]
    services.jobs.cancel(jobs[1].id)
    assert [job.id for job in services.jobs.list(status=("queued",)).items] == [jobs[2].id, jobs[0].id]
    assert [job.id for job in services.jobs.list(status=("cancelled", "done")).items] == [jobs[1].id]
    assert [job.id for job in services.jobs.find_ended([job.id for job in jobs])] == [jobs[1].id]
    assert list(services.jobs.find_ended([])) == []


def _wait(services, job_id, seconds=120):
    deadline = time.monotonic() + seconds
    while (job := services.jobs.show(job_id)).status in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def test_a_model_that_is_new_to_all_is_added_once_by_jobs_that_are_submitted_at_once(services, volumes):
    barrier = threading.Barrier(6)

    def submit(_):
        barrier.wait()
        return services.jobs.submit(SEGMENT).id

    with ThreadPoolExecutor(6) as pool:
        jobs = list(pool.map(submit, range(6)))
    assert len(set(jobs)) == 6
    with services.stores.sessions() as session:
        assert len(session.scalars(select(Model)).all()) == 1
