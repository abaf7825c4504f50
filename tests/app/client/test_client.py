"""The client before a real socket: every operation that the schema has, with what it gives."""

import io
import re
import uuid
import zipfile
from collections.abc import Iterator

import httpx
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from voxelight.app.client import ChangedMeanwhile, Client
from voxelight.app.schemas import DatasetChange, DatasetRequest, JobRequest, ResultQuery, ScanQuery
from voxelight.app.schemas_access import AccountRequest, KeyRequest, ProjectRequest
from voxelight.app.schemas_deletion import DeletionRequest, DeletionTarget
from voxelight.app.schemas_exports import EvaluationRequest, MapsEvaluationRequest
from voxelight.app.schemas_jobs import JobClone
from voxelight.app.schemas_privacy import Decision
from voxelight.app.schemas_recordings import RecordingRequest
from voxelight.app.schemas_reviews import FollowupQuery, ReviewRequest
from voxelight.app.schemas_search import SearchChange, SearchRequest
from voxelight.app.schemas_uploads import AssignRequest
from voxelight.app.schemas_vectors import NearConditions, NearRequest
from voxelight.app.schemas_viewer import CorrectionRequest, InterpolationRequest
from voxelight.models.errors import BadInput, Conflict, NotFound, Refused

ORDER = JobRequest(
    kind="reconstruct", recipe="miyawaki-ridge", dataset="figures", queue="cpu", options={"permutations": 19}
)
# For a browser, and for it alone.
PAGES = re.compile(r"/v1/((pages|static)/|session)")


@pytest.fixture
def asked() -> set[str]:
    """The operations that were asked for, as `GET /path`."""
    return set()


@pytest.fixture
def client(url, asked) -> Iterator[Client]:
    hooks = {"request": [lambda request: asked.add(f"{request.method} {request.url.path}")]}
    with httpx.Client(base_url=url, event_hooks=hooks, timeout=60) as http:
        yield Client(http=http)


@pytest.fixture
def label_map(services, place, volume, store_label_map) -> tuple[uuid.UUID, np.ndarray]:
    """A result that is a label map, and its labels."""
    labels = np.zeros(nib.load(volume).shape, np.uint8)
    labels[2:5, 3:6, 4:7] = 1
    return store_label_map(services, volume, labels, {1: "lesion"}, place.dataset), labels


def test_every_operation_can_be_asked_for(
    client, url, asked, services, place, betas, volume, noise, label_map, carry_out, tmp_path
):
    drawn, labels = label_map
    look_at_scans(client, place, betas, noise, tmp_path)
    job = work(client, carry_out)
    best = ask_for_results(client, job, carry_out)
    draw_and_review(client, drawn, labels, tmp_path)
    take_home(client, job, best, tmp_path)
    manage(client, best)
    forget(client, job)
    schema = httpx.get(f"{url}/api/openapi.json").json()
    templates = {
        f"{method.upper()} /api{path}": re.compile(f"{method.upper()} /api" + re.sub(r"{\w+}", "[^/]+", path))
        for path, methods in schema["paths"].items()
        if not PAGES.match(path)
        for method in methods
    }
    missing = [name for name, template in templates.items() if not any(map(template.fullmatch, asked))]
    assert missing == []


def look_at_scans(client, place, betas, noise, folder):
    assert client.check_health().status == "ok"
    assert client.workers.list() == client.workers.list(alive=True) == []
    assert {row.queue: row.workers for row in client.workers.queues()} == {"cpu": 0, "gpu": 0}
    small = client.scans.put(betas, place)
    assert (small.kind, small.name) == ("betas", "betas.mat")
    [large] = client.uploads.send(noise, place).scans
    assert client.scans.show(large.id) == large
    assert client.uploads.find_limit() == 64 << 30
    assert {scan.name for scan in client.scans.list(place.dataset)} == {"betas.mat", "noise.nii", "t1.nii.gz"}
    assert client.scans.save(large.id, folder / "again.nii").read_bytes() == noise.read_bytes()
    shown = client.scans.view(large.id).image
    assert shown.geometry["shape"] == [128, 96, 128]
    image = nib.load(client.scans.save_image(large.id, folder / shown.name))
    np.testing.assert_array_equal(image.get_fdata(), nib.load(noise).get_fdata())
    assert Image.open(io.BytesIO(client.scans.read_thumbnail(large.id))).format == "PNG"
    assert list(client.scans.list_held(place.dataset)) == []
    decision = Decision(author="Ada", reason="nothing to see")
    for decide in (client.scans.release, client.scans.reject):
        with pytest.raises(Conflict, match="not held"):
            decide(large.id, decision)
    names = AssignRequest(names=["sub-07_T1w.nii"], pattern="sub-{subject}_*.nii")
    assert client.uploads.assign(names).rows[0].subject == "07"
    [upload] = client.uploads.list(place.dataset)
    client.uploads.cancel(upload.id)
    with pytest.raises(NotFound):
        client.uploads.show(upload.id)
    batch = client.uploads.begin_batch()
    with pytest.raises(NotFound):
        client.uploads.close_batch(batch)
    with pytest.raises(NotFound):
        client.uploads.show_batch(batch)
    assert {"nsd", "mindeye2"} <= {row.name for row in client.recordings.list_layouts()}
    folder_request = RecordingRequest(path=str(folder))
    for ask in (client.recordings.look, lambda asked: client.recordings.register(place.dataset, asked)):
        with pytest.raises(Refused, match="VOXELIGHT_DATA_ROOTS"):
            ask(folder_request)
    first = client.datasets.show(place.dataset)
    assert client.datasets.change(place.dataset, DatasetChange(licence="CC0"), first.version).licence == "CC0"
    with pytest.raises(ChangedMeanwhile) as told:
        client.datasets.change(place.dataset, DatasetChange(licence="MIT"), first.version)
    assert told.value.status == 412
    assert next(client.datasets.list()).licence == "CC0"


def work(client, carry_out):
    assert "miyawaki-ridge" in {recipe.name for recipe in client.recipes.list()}
    assert "permutations" in client.recipes.show("miyawaki-ridge").options["properties"]
    [choice] = client.recipes.list_scans("miyawaki-ridge", "figures", ScanQuery(name="betas*"))
    job = client.jobs.submit(ORDER.model_copy(update={"scans": [choice.id]}), "one")
    assert client.jobs.submit(ORDER.model_copy(update={"scans": [choice.id]}), "one").id == job.id
    with pytest.raises(Conflict, match="idempotency key"):
        client.jobs.submit(ORDER, "one")
    seen = client.jobs.show_tagged(job.id)
    assert client.jobs.change(job.id, 1, seen.etag).priority == 1
    carry_out(job.id)
    with pytest.raises(Conflict):
        client.jobs.change(job.id, 2)
    with pytest.raises(Conflict):
        client.jobs.retry(job.id)
    assert [state.status for state in client.jobs.follow(job.id)] == ["done"]
    job = client.jobs.wait(job.id, timeout_s=5)
    assert len(list(client.jobs.list_runs(job.id, "done"))) == job.done == job.total == 8
    log = list(client.jobs.read_log(job.id))
    assert list(client.jobs.follow_log(job.id)) == log
    assert list(client.jobs.follow_log(job.id, log[0].cursor)) == log[1:]
    assert list(client.jobs.read_log(job.id, newest=1)) == log[-1:]
    with pytest.raises(BadInput):
        client.jobs.read_curve(job.id)
    other = client.jobs.clone(job.id, JobClone(seed=9))
    assert client.jobs.find_request(other.id).seed == 9
    assert client.jobs.cancel(other.id).status == "cancelled"
    assert client.jobs.retry(other.id).status == "queued"
    client.jobs.cancel(other.id)
    assert [each.id for each in client.jobs.list("figures", ["cancelled"])] == [other.id]
    return job


def ask_for_results(client, job, carry_out):
    query = ResultQuery(job=job.id, metric=["two_way:0..1"], sort="-two_way")
    found = list(client.results.query(query))
    values = [max(metric.value for metric in each.metrics if metric.name == "two_way") for each in found]
    assert values == sorted(values, reverse=True)
    assert [each.id for each in client.results.pick(["metrics"], query)] == [each.id for each in found]
    assert all(each.item is None for each in client.results.pick(["metrics"], query))
    assert {"two_way", "pixel_correlation"} <= set(client.results.list_metrics())
    best = client.results.show_tagged(found[0].id)
    assert client.results.refresh(best) is best
    assert client.results.show(found[0].id) == found[0] == best.value
    saved = client.searches.create(SearchRequest(title="Figures", query=query))
    assert [each.id for each in client.results.query(search=saved.slug)] == [each.id for each in found]
    changed = client.searches.change(saved.slug, SearchChange(title="All figures"), saved.version)
    with pytest.raises(ChangedMeanwhile):
        client.searches.change(saved.slug, SearchChange(title="Mine"), saved.version)
    assert [client.searches.show(saved.slug)] == list(client.searches.list()) == [changed]
    client.searches.delete(saved.slug, changed.version)
    other = carry_out(client.jobs.clone(job.id).id)
    same = client.results.compare_jobs(job.id, other.id, limit=0)
    assert {metric.difference for metric in same.metrics} == {0}
    with pytest.raises(BadInput, match="the same twice"):
        client.results.compare_models(job.model, job.model, ResultQuery(kind="reconstruct"))
    assert client.results.show_controls(found[0].id).result == found[0].id
    assert job.model in {model.name for model in client.list_models()}
    look_for_likeness(client, found[0])
    return found[0]


def look_for_likeness(client, result):
    assert {space.kind for space in client.vectors.list_spaces()} >= {"picture", "text"}
    near = client.vectors.find_near(NearRequest(result=result.id, limit=3))
    assert near.exact
    assert len(near.items) == 3
    seen = next(file for file in result.artifacts if file.role == "stimulus")
    picture = client.artifacts.read(seen.id)
    [nearest] = client.vectors.find_near_picture(picture, NearConditions(limit=1)).items
    assert nearest.score == pytest.approx(1, abs=1e-3)


def draw_and_review(client, drawn, labels, folder):
    job = client.results.show(drawn).job
    model_map = client.results.view(drawn).versions[0]
    grown = nib.load(client.artifacts.save(model_map.artifact, folder / "labels.nii.gz"))
    corrected = np.asarray(grown.dataobj).copy()
    corrected[0, 0, 0] = 1
    nib.save(nib.Nifti1Image(corrected, grown.affine), folder / "corrected.nii")
    version = client.results.correct(drawn, folder / "corrected.nii", CorrectionRequest(author="Ada"))
    assert version.changes["lesion"].added == 1
    assert [each.author for each in client.results.list_corrections(drawn)] == ["", "Ada"]
    filled = np.zeros_like(labels)
    filled[1, 1, 1] = filled[1, 1, 5] = 1
    nib.save(nib.Nifti1Image(filled, grown.affine), folder / "drawn.nii")
    answer = client.results.interpolate(drawn, folder / "drawn.nii", InterpolationRequest(label=1))
    (folder / "filled.nii.gz").write_bytes(answer)
    assert nib.load(folder / "filled.nii.gz").get_fdata().sum() == 5
    review = client.reviews.save(drawn, "Reader A", ReviewRequest(verdict="accept"))
    with pytest.raises(ChangedMeanwhile):
        client.reviews.save(drawn, "Reader A", ReviewRequest(verdict="reject"), review.version + 1)
    assert client.reviews.show(drawn, "Reader A") == review
    [case] = client.reviews.list_cases(job, "Reader A")
    assert case == client.reviews.show_case(drawn, "Reader A")
    assert case.own == review
    assert client.reviews.find_progress(job, "Reader A").accept == 1
    assert [each.reviewer for each in client.reviews.list_reviewers(job)] == ["Reader A"]
    assert client.reviews.agree(job, "Reader A", "Reader B").items == 0
    assert client.reviews.show_group(job).cases == 1
    assert "<html" in client.reviews.read_group_page(job)
    assert Image.open(io.BytesIO(client.reviews.draw_sheet(drawn, "radiological"))).format == "PNG"
    client.reviews.withdraw(drawn, "Reader A", review.version)
    scored = client.jobs.evaluate_maps(job, MapsEvaluationRequest(references="corrections"))
    assert client.jobs.show_maps_evaluation(job).id == scored.id
    [series] = client.datasets.list_series("figures")
    followed = client.datasets.follow_subject("figures", series.subject, FollowupQuery(label="lesion"))
    assert followed.structures[0].visits[0].corrected_by == "Ada"
    with pytest.raises(NotFound, match="sealed"):
        client.results.relink(drawn, "Ada", "to file it", "0" * 64)


def take_home(client, job, best, folder):
    assert client.exports.plan(ResultQuery(job=job.id)).results == job.done
    archive = client.exports.save("archive.zip", folder / "all.zip", runs=[best.id], formats=["tables"])
    assert zipfile.ZipFile(archive).testzip() is None
    table = pd.read_csv(client.exports.save("metrics.csv", folder / "all.csv", ResultQuery(job=job.id)))
    assert len(table) >= job.done
    file = best.artifacts[0]
    assert client.artifacts.describe(file.id) == (file.size, file.media_type, file.sha256)
    whole = client.artifacts.read(file.id)
    assert client.artifacts.read(file.id, 3, 9) == whole[3:9]
    assert client.artifacts.read(file.id, 3) == whole[3:]
    action = client.jobs.evaluate(job.id, EvaluationRequest(permutations=19, networks=()))
    assert client.jobs.show_evaluation(job.id).id == action.id
    with pytest.raises(BadInput):
        client.jobs.map_relevance(job.id)
    with pytest.raises(NotFound):
        client.jobs.show_relevance(job.id)


def manage(client, best):
    assert client.access.me().admin, "nobody is asked for a key here"
    assert client.access.add_account(AccountRequest(name="ada")).name == "ada"
    assert client.access.add_project(ProjectRequest(name="tumours")).datasets == 0
    assert client.access.move_dataset("figures", "tumours").name == "figures"
    assert [project.datasets for project in client.access.list_projects() if project.name == "tumours"] == [1]
    assert client.access.set_member("tumours", "ada", "operator").role == "operator"
    assert [member.account for member in client.access.list_members("tumours")] == ["ada"]
    key = client.access.add_key(KeyRequest(account="ada", scopes=["read"]))
    assert [each.prefix for each in client.access.list_keys("ada")] == [key.prefix]
    assert client.access.revoke_key(key.prefix).revoked_at
    client.access.remove_member("tumours", "ada")
    assert client.access.disable_account("ada").disabled_at
    assert client.access.enable_account("ada").disabled_at is None
    assert {account.name for account in client.access.list_accounts()} == {"ada"}
    artifact = best.artifacts[0]
    link = client.links.make_for_artifact(artifact.id)
    assert str(artifact.id) in link.url
    told = list(client.audit.list())
    assert told
    assert client.audit.verify().events >= len(told)
    assert len(list(client.audit.export())) >= len(told)
    with pytest.raises(NotFound):
        client.scans.deface(uuid.uuid4(), Decision(author="Ada", reason="asked for"))
    with pytest.raises(NotFound):
        client.scans.preview_face(uuid.uuid4())


def forget(client, job):
    targets = [
        DeletionTarget(what="subject", dataset="figures", subject="01"),
        DeletionTarget(what="scan", id=next(client.scans.list("figures", kind="betas")).id),
        DeletionTarget(what="result", id=next(client.results.query(ResultQuery(job=job.id))).id),
        DeletionTarget(what="dataset", dataset="figures"),
    ]
    assert all(client.deletion.plan(target).value.dry_run for target in targets)
    other = DeletionTarget(what="job", id=next(client.jobs.list(status=["cancelled"])).id)
    planned = client.deletion.plan(other)
    with pytest.raises(BadInput):
        client.deletion.delete(other, DeletionRequest(confirm="another"))
    gone = client.deletion.delete(other, DeletionRequest(confirm=planned.value.confirm, author="Ada"), planned)
    assert gone.counts == planned.value.counts
    assert next(client.deletion.list_receipts()) == client.deletion.show_receipt(gone.receipt)
    with pytest.raises(NotFound):
        client.jobs.show(other.id)


def test_a_refusal_is_the_exception_that_it_is_everywhere(client, place):
    with pytest.raises(BadInput) as told:
        client.scans.put(b"no image", place, "t1.nii")
    assert told.value.status == 422
    assert all((told.value.found, told.value.expected, told.value.remedy))
    with pytest.raises(Conflict):
        client.datasets.create(DatasetRequest(name=place.dataset))
    client.datasets.create(DatasetRequest(name="clinic", keeps_headers=True, consent="none"))
    with pytest.raises(Refused):
        client.jobs.submit(ORDER.model_copy(update={"dataset": "clinic"}))


def test_lists_are_gone_through_page_by_page(client, place, monkeypatch, asked):
    monkeypatch.setattr("voxelight.app.client.connection.PAGE_ITEMS", 2)
    for number in range(4):
        client.datasets.create(DatasetRequest(name=f"set-{number}"))
    names = [dataset.name for dataset in client.datasets.list()]
    assert names == ["set-3", "set-2", "set-1", "set-0", "figures"]
