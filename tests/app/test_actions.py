"""What is asked of a finished job besides: its evaluation, and where its decoder looks."""

import gzip
import json
import uuid
from io import BytesIO

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from voxelight.app.actions import run_action
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetChange, DatasetRequest, JobRequest, ResultQuery, ScanRequest
from voxelight.app.schemas_exports import EvaluationRequest, RelevanceRequest
from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.storage.formats.images import encode_png
from voxelight.storage.schema import Action

STIMULI, REPEATS, SIDE = 16, 3, 3
QUICK = EvaluationRequest(sessions="one, simulated", permutations=19, networks=())

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def finish(services, job):
    runner = Runner(services)
    for batch in runner.list_batches(job.id):
        runner.run_batch(job.id, batch)
    runner.close(job.id)
    return services.jobs.show(job.id)


def make_placed(folder, mni=True):
    """Betas as images in MNI152, of a box in the occipital lobe whose left half answers to the pictures."""
    rng = np.random.default_rng(0)
    affine = np.array([[4.0, 0, 0, -90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]])
    inside = np.zeros((46, 55, 46), np.uint8)
    inside[18:28, 6:10, 16:20] = 1
    pictures = rng.integers(0, 2, (STIMULI, SIDE * SIDE)).astype(float)
    shown = np.tile(np.arange(STIMULI), REPEATS)
    place = np.argwhere(inside)
    weights = rng.normal(size=(SIDE * SIDE, len(place))) * (place[:, 0] < 23)
    values = pictures[shown] @ weights + 0.5 * rng.normal(size=(len(shown), len(place)))
    series = np.zeros((*inside.shape, len(shown)), np.float32)
    series[inside > 0] = values.T
    paths = []
    for name, array in (("betas.nii.gz", series), ("mask.nii.gz", inside)):
        image = nib.Nifti1Image(array, affine)
        image.set_sform(affine, "mni" if mni else "scanner")
        image.set_qform(affine, "mni" if mni else "scanner")
        paths.append(folder / name)
        nib.save(image, paths[-1])
    rows = "".join(f"s{number}.png\t1\n" for number in shown)
    paths.append(folder / "events.tsv")
    paths[-1].write_text(f"stim_file\tsession\n{rows}")
    for number, picture in enumerate(pictures):
        paths.append(folder / f"s{number}.png")
        square = picture.reshape(SIDE, SIDE)
        paths[-1].write_bytes(encode_png((square * 255).astype(np.uint8)[..., None]))
    return paths


def submit_placed(services, folder, **kind):
    services.datasets.create(DatasetRequest(name="placed", consent="simulated", purpose="a test", simulated=True))
    for path in make_placed(folder, **kind):
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="placed"))
    request = JobRequest(
        kind="reconstruct", recipe="miyawaki-ridge", dataset="placed", queue="cpu", options={"permutations": 0}
    )
    return services.jobs.submit(request)


@pytest.fixture
def placed(services, tmp_path):
    return finish(services, submit_placed(services, tmp_path))


def read(services, action, role):
    return {file.name: services.results.read(file) for file in action.artifacts if file.role == role}


def test_an_evaluation_is_done_by_the_worker_and_kept_with_its_job(services, placed):
    asked = services.actions.evaluate(placed.id, QUICK)
    assert (asked.status, asked.artifacts) == ("queued", [])
    assert services.actions.evaluate(placed.id, QUICK).id == asked.id
    with pytest.raises(Conflict, match="one at a time"):
        services.actions.evaluate(placed.id, QUICK.model_copy(update={"permutations": 29}))
    assert run_action(services, asked.id) == "done"
    done = services.actions.show(placed.id, "evaluate")
    assert [file.name for file in done.artifacts] == ["evaluation.html", "evaluation.json", "evaluation.csv"]
    report = json.loads(read(services, done, "evaluation_data")["evaluation.json"])
    assert b"<!doctype html>" in read(services, done, "evaluation")["evaluation.html"][:20]
    # Each picture's score stands beside its run, with those of the controls, and is the report's own.
    places = {name: place for place, name in enumerate(report["stimuli"])}
    for result in services.results.query(ResultQuery(job=placed.id)).items:
        [metric] = [one for one in result.metrics if one.name == "ssim"]
        assert metric.value == pytest.approx(report["by_picture"]["decoded"]["ssim"][0][places[metric.label]])
        assert set(metric.detail["controls"]) >= {"shuffled_betas", "nearest_training"}
        assert metric.detail["from"] == "evaluate"
        [own] = [one for one in result.metrics if one.name == "two_way"]  # the job's own stays, with its controls
        assert "from" not in own.detail
        assert own.detail["controls"]["null"] == pytest.approx(np.mean(report["null"]["two_way"]))
    kept = {artifact.role for artifact in services.jobs.show(placed.id).artifacts}
    assert {"contact_sheet", "scores", "evaluation"} <= kept


def test_what_can_not_be_evaluated_says_why(services, placed):
    asked = services.actions.evaluate(placed.id, EvaluationRequest(networks=()))
    services.datasets.change("placed", DatasetChange(consent="none"))
    assert run_action(services, asked.id) == "failed"
    failed = services.actions.show(placed.id, "evaluate")
    assert "consent" in failed.problem["expected"]
    assert failed.finished_at is not None
    with pytest.raises(NotFound, match="no relevance"):
        services.actions.show(placed.id, "relevance")
    with pytest.raises(NotFound):
        services.actions.evaluate(uuid.uuid4(), QUICK)
    assert run_action(services, uuid.uuid4()) == "cancelled"


def test_what_takes_its_worker_down_again_and_again_fails_at_last(services, placed):
    asked = services.actions.evaluate(placed.id, QUICK)
    with services.stores.sessions.begin() as session:  # as it stands where the worker was killed three times
        session.get(Action, asked.id).problem = {"starts": services.settings.max_attempts}
    assert run_action(services, asked.id) == "failed"
    assert "worker" in services.actions.show(placed.id, "evaluate").problem["found"]
    assert services.actions.evaluate(placed.id, QUICK).status == "queued"


def test_a_job_that_runs_or_segments_is_refused(services, tmp_path, volumes):
    waiting = submit_placed(services, tmp_path)
    with pytest.raises(Conflict, match="done"):
        services.actions.evaluate(waiting.id, QUICK)
    job = services.jobs.submit(JobRequest(kind="segment", recipe="hippocampus-agunet", dataset=volumes))
    with pytest.raises(BadInput, match="reconstruct, decode"):
        services.actions.map_relevance(job.id, RelevanceRequest())


def test_relevance_lies_where_the_voxels_answer(services, placed):
    asked = services.actions.map_relevance(placed.id, RelevanceRequest())
    assert run_action(services, asked.id) == "done"
    done = services.actions.show(placed.id, "relevance")
    [content] = read(services, done, "relevance_map").values()
    image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
    values = image.get_fdata()
    assert int(image.header["sform_code"]) == 4
    answering, others = values[18:23, 6:10, 16:20], values[23:28, 6:10, 16:20]
    assert np.median(answering) > 1.5 * np.median(others)
    assert np.count_nonzero(values) == 160
    facts = json.loads(read(services, done, "relevance_facts")["relevance.json"])
    assert facts["space"] == "MNI152"
    above = values > facts["null_95"]
    assert facts["voxels_above_null_95"] == above.sum()
    assert above[18:23].sum() > 3 * above[23:28].sum()
    pictures = read(services, done, "relevance")
    assert set(pictures) == {"relevance_glass.png", "relevance_surface.png"}
    for picture in pictures.values():
        drawn = np.asarray(Image.open(BytesIO(picture)).convert("RGB"), float)
        assert drawn.shape[1] > 1000
        assert drawn.std() > 5


def test_outside_mni152_neither_glass_brain_nor_surface_is_drawn(services, tmp_path):
    job = finish(services, submit_placed(services, tmp_path, mni=False))
    asked = services.actions.map_relevance(job.id, RelevanceRequest())
    run_action(services, asked.id)
    done = services.actions.show(job.id, "relevance")
    assert set(read(services, done, "relevance")) == {"relevance_native.png"}
    stated = services.actions.map_relevance(job.id, RelevanceRequest(space="MNI152"))
    assert stated.status == "queued"
    run_action(services, stated.id)
    # Asked for anew, what it gives takes the place of what was there.
    renewed = services.actions.show(job.id, "relevance")
    assert set(read(services, renewed, "relevance")) == {"relevance_glass.png", "relevance_surface.png"}
    assert not {file.id for file in renewed.artifacts} & {file.id for file in done.artifacts}


def test_betas_without_a_grid_say_so(services, brain):
    job = finish(services, services.jobs.submit(JobRequest(
        kind="reconstruct", recipe="miyawaki-ridge", dataset=brain, queue="cpu", options={"permutations": 0}
    )))  # fmt: skip
    with pytest.raises(BadInput, match="without a grid"):
        services.actions.map_relevance(job.id, RelevanceRequest())


def test_the_decoder_of_a_profile_is_differentiated(services, tmp_path):
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    inside = np.zeros((12, 12, 12), np.uint8)
    inside.flat[:1200] = 1
    series = np.zeros((12, 12, 12, 6), np.float32)
    series[inside > 0] = rng.normal(size=(1200, 6))
    services.datasets.create(DatasetRequest(name="random", consent="simulated", purpose="a test", simulated=True))
    for name, array in (("betas.nii", series), ("mask.nii", inside)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / name)
    (tmp_path / "events.tsv").write_text("stim_file\n" + "".join(f"s{n // 2}\n" for n in range(6)))
    for name in ("betas.nii", "mask.nii", "events.tsv"):
        services.scans.ingest_path(tmp_path / name, ScanRequest(name=name, dataset="random"))
    options = {"stop": "tokens", "prior_steps": 2, "dtype": "float32"}
    request = JobRequest(kind="decode", recipe="random-small", dataset="random", options=options, queue="cpu")
    job = finish(services, services.jobs.submit(request))
    asked = services.actions.map_relevance(job.id, RelevanceRequest())
    assert run_action(services, asked.id) == "done", services.actions.show(job.id, "relevance").problem
    done = services.actions.show(job.id, "relevance")
    facts = json.loads(read(services, done, "relevance_facts")["relevance.json"])
    assert facts["random_weights"]
    assert facts["stimuli"] == 3
    assert any("RANDOM WEIGHTS" in note for note in facts["notes"])
    assert set(read(services, done, "relevance_map")) == {"relevance_gradient.nii.gz"}
