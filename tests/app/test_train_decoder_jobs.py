"""A decoder is trained as a job on simulated subjects: followed, killed, taken up, kept, and decoded with."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.io
import torch
from safetensors.numpy import load

from voxelight.app.pipelines import pausing
from voxelight.app.pipelines.evaluated import Wishes, evaluate
from voxelight.app.schemas import DatasetRequest, JobRequest, ResultQuery, ScanRequest
from voxelight.app.worker import working
from voxelight.models.errors import BadInput, Conflict, NotFound, Refused, Unavailable
from voxelight.neuro.evaluate.guards import hash_pictures
from voxelight.neuro.evaluate.page import write_page
from voxelight.neuro.simulate import SimulationOptions, crop_photographs
from voxelight.neuro.simulation import DesignOptions, StimuliSet, SubjectOptions, make_subject, plan_trials, simulate
from voxelight.storage.checkpoints import CheckpointFolder
from voxelight.storage.decoders import TrainedDecoders
from voxelight.storage.formats.export import write_betas
from voxelight.storage.formats.images import read_stimuli
from voxelight.storage.results import read_output

DESIGN = DesignOptions(pictures=20, shared=8, repeats=2, trials=20, runs=2)
SUBJECTS = {1: 90, 2: 80}
CONFIG = {"hidden": 24, "prior": {"dim": 64, "depth": 1, "dim_head": 32, "heads": 1, "tokens": 16, "timesteps": 10}}
TRAINING = {"batch": 8, "epochs": 4, "learning_rate": 1e-3, "precision": "fp32", "losses": {"low_level": 0}}
SMALL = {"profile": "random-small", "config": CONFIG | {"low_level": False}, "training": TRAINING}
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Files of two simulated (mismatched) subjects who saw crops of photographs; eight pictures are shared."""
    stimuli, _ = crop_photographs(SimulationOptions(side=32, crops=3), np.random.default_rng(0))
    pictures = StimuliSet(stimuli)
    found = {}
    for number, voxels in SUBJECTS.items():
        subject = make_subject(number, pictures, SubjectOptions(voxels=voxels))
        betas = simulate(subject, pictures, plan_trials(len(stimuli.ids), number, 0, DESIGN))
        seen = stimuli.select(np.array(list(dict.fromkeys(betas.stimulus_ids.tolist()))))
        found[betas.subject] = write_betas(tmp_path_factory.mktemp("betas"), betas.subject, betas, seen).paths
    return found


@pytest.fixture
def dataset(services, recorded):
    torch.set_num_threads(1)
    services.datasets.create(
        DatasetRequest(name="sim", consent="simulated", purpose="a test", simulated=True, licence="CC0-1.0",
                       source="simulated (mismatched) from photographs of scikit-image")
    )  # fmt: skip
    for label, paths in recorded.items():
        for path in paths:
            services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="sim", subject=label))
    return "sim"


def wait(services, job_id, until=lambda job: job.status in ("done", "failed", "cancelled"), seconds=200):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = services.jobs.show(job_id)
        if until(job):
            return job
        time.sleep(0.05)
    raise AssertionError(f"still {job}")


def request(recipe="mindeye2-one-subject", subjects=("simulated-mismatched-01",), epochs=4, **more):
    options = SMALL | {"training": TRAINING | {"epochs": epochs}, "subjects": list(subjects)} | more
    return JobRequest(kind="train-decoder", recipe=f"train-{recipe}", dataset="sim", options=options)


@SQLITE
def test_many_subjects_are_trained_and_a_new_one_is_fitted_and_decoded(services, dataset, recorded):
    """The whole line: a decoder of one subject is what another is fitted to, and decodes what it never saw."""
    first = services.jobs.submit(request(subjects=["simulated-mismatched-02"], name="many"))
    with working(services):
        assert wait(services, first.id).status == "done"
        job = services.jobs.submit(
            request("mindeye2-finetune", name="one-more", start_from="many", sessions=1, adapter_rank=4)
        )
        assert (job.total, job.model) == (1, "one-more")
        job = wait(services, job.id)
        assert (job.status, job.error) == ("done", "")
        [curve] = services.trainings.read_curves(job.id)
        steps = 4 * (20 // 8)
        assert (curve.steps, [point.step for point in curve.points]) == (steps, list(range(steps)))
        assert {"loss", "prior", "clip", "lr", "tau"} <= curve.points[0].values.keys()
        decode = services.jobs.submit(JobRequest(
            kind="decode", recipe="one-more", dataset=dataset, query={"subject": "simulated-mismatched-01"},
            options={"stop": "unrefined", "preset": "fast", "dtype": "float32", "prior_steps": 5},
        ))  # fmt: skip
        decode = wait(services, decode.id)
        assert (decode.status, [run.error_message for run in services.jobs.list_runs(decode.id)][:1]) == ("done", [""])
    kept = TrainedDecoders(services.stores.weights).find("one-more")
    assert kept.subjects == (("simulated-mismatched-01", SUBJECTS[1]),)
    assert (kept.simulated, kept.licence, kept.normalisation) == (True, "CC0-1.0", "training-rows-per-session")
    assert kept.provenance["start_from"] == "many"
    assert kept.provenance["recipe"]["adapter_rank"] == 4
    assert kept.provenance["recipe"]["seed"] == 42
    for text in ("SIMULATED", "CC0-1.0", "mismatched", "1 of 2", "marked as shared", "retrieval_image_of_brain"):
        assert text in services.recipes.show("one-more").card + json.dumps(kept.provenance), text
    # Every score says under what it holds, beside its null.
    by_name = {metric.name: metric for metric in job.metrics}
    assert {"retrieval_image_of_brain", "retrieval_brain_of_image", "two_way_tokens"} == set(by_name)
    told = by_name["two_way_tokens"].detail
    assert (told["chance"], told["n"], told["simulated"], told["trials"]) == (0.5, 8, True, "averaged")
    assert {"test_set", "sessions", "normalisation", "betas", "reference", "p", "q", "null_mean"} <= told.keys()
    # What is decoded later knows what was trained on.
    held_out = set(kept.provenance["held_out_pictures"])
    assert len(held_out) == 8
    assert held_out.isdisjoint(TrainedDecoders(services.stores.weights).read_pictures("one-more"))
    shown = read_stimuli([path for path in recorded["simulated-mismatched-01"] if path.suffix == ".png"])
    known = sum(key in TrainedDecoders(services.stores.weights).read_pictures("one-more")
                for key in hash_pictures(shown.images))  # fmt: skip
    assert 0 < known <= 12
    [scores] = [artifact for artifact in decode.artifacts if artifact.role == "scores"]
    content = json.loads(services.results.read(scores))
    assert any(f"{known} of 20 decoded pictures were trained on" in note for note in content["notes"])
    assert {score["n"] for score in content["scores"]} == {20 - known}
    result = next(iter(services.results.walk(ResultQuery(job=decode.id))))
    assert result.provenance["options"]["normalisation"] == "training-rows-per-session"
    tokens = load(read_output(services.stores, result.id, "tokens"))
    assert tokens["retrieval"].shape == (16, 64)
    check_evaluation(services, decode, kept, 20 - known)


def check_evaluation(services, decode, kept, unseen):
    """The report knows what was trained on, scores the rest alone, and captions against the named set."""
    ids = [run.item for run in services.jobs.list_runs(decode.id)]
    references = {name: [f"a photo of thing {n % 4}", f"thing {n % 4} seen by somebody"] for n, name in enumerate(ids)}
    wishes = Wishes(permutations=19, networks=(), captions=("class sentences", references), device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "which", lambda _: None)  # without Java, which takes long to start
        evaluation = evaluate(services.stores, decode.id, wishes)
    assert len(evaluation.stimulus_ids) == unseen
    conditions = evaluation.conditions
    assert "not trained on" in conditions.test_set
    assert (conditions.sessions.split(";")[0], conditions.normalisation) == ("1 of 2", kept.normalisation)
    status = {guard.name: guard.status for guard in evaluation.guards}
    assert (status["ids"], status["pictures"], status["fit"]) == ("held", "held", "not checked")
    nearest = evaluation.find_row("nearest_training").scores
    assert nearest["two_way"].shape == (1, unseen)
    by_name = {metric.name: metric for metric in evaluation.metrics}
    assert {"cider", "meteor_nltk_stems", "rouge_l_coco", "bleu_4", "sentence_similarity"} <= by_name.keys()
    assert "class sentences" in by_name["cider"].note
    for name in ("constant_caption", "most_frequent_caption", "nearest_training", "shuffled_betas"):
        assert evaluation.find_row(name).scores["rouge_l_coco"].shape[1] == unseen
    assert evaluation.find_row("constant_caption").scores["bleu_1"].mean() > 0.5, "it has the words of every reference"
    assert evaluation.nulls["cider"].shape == (19,)
    [bottleneck] = [curve for curve in evaluation.curves if curve.title.startswith("Bottleneck")]
    assert bottleneck.x.tolist() == [1, 2, 4, 8], "twelve training trials have eleven dimensions"
    told = " ".join(evaluation.notes)
    assert "spice could not be computed" in told
    assert "meteor_1_5 could not be computed: Found no java" in told
    page = write_page(evaluation)
    assert all(text in page for text in ("SIMULATED", "class sentences", "constant caption", "NO NETWORK"))


@SQLITE
def test_two_subjects_share_a_decoder_and_each_is_decoded_by_its_own_ridge(services, dataset):
    job = services.jobs.submit(request(subjects=[f"simulated-mismatched-0{n}" for n in SUBJECTS], name="both"))
    with working(services):
        job = wait(services, job.id)
        assert (job.status, job.error) == ("done", "")
        assert {metric.label for metric in job.metrics} == {"simulated-mismatched-01", "simulated-mismatched-02"}
        ask = {"stop": "tokens", "dtype": "float32", "prior_steps": 5, "subject": "simulated-mismatched-02"}
        decode = JobRequest(
            kind="decode", recipe="both", dataset=dataset, query={"subject": "simulated-mismatched-02"}, options=ask
        )
        assert wait(services, services.jobs.submit(decode).id).status == "done"
    wrong = decode.model_copy(update={"options": ask | {"subject": "simulated-mismatched-01"}})
    with pytest.raises(BadInput, match="80 voxels"):
        services.jobs.submit(wrong)


@SQLITE
def test_a_killed_worker_leaves_a_training_that_the_next_one_goes_on_with(services, dataset):
    job = services.jobs.submit(request(epochs=7, name="killed", checkpoint_steps=5))
    environment = os.environ | {
        "VOXELIGHT_HOME": str(services.settings.home), "VOXELIGHT_POLL_S": "0.05", "OMP_NUM_THREADS": "1",
        "VOXELIGHT_DATABASE_URL": services.settings.database_url,
    }  # fmt: skip
    command = [sys.executable, "-m", "voxelight.app.cli", "worker", "--queue", "cpu", "--name", "trainer"]
    worker = subprocess.Popen(command, env=environment)
    wait(services, job.id, lambda _: len(services.trainings.read_curves(job.id)[0].points) >= 10)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    folder = services.stores.cache / "trainings" / str(job.id)
    kept = CheckpointFolder(folder / "checkpoints").steps()[0]
    steps = 7 * (40 // 8)
    assert 5 <= kept < steps
    assert not TrainedDecoders(services.stores.weights).has("killed")
    before = services.trainings.read_curves(job.id)[0].points[:kept]
    with working(services, name="trainer"):
        job = wait(services, job.id)
    assert (job.status, job.error) == ("done", "")
    [curve] = services.trainings.read_curves(job.id)
    assert [point.step for point in curve.points] == list(range(steps))
    assert curve.points[:kept] == before
    [run] = services.jobs.list_runs(job.id)
    assert run.attempts == 2
    assert not folder.exists()
    # To the bit what it would have been: the same training in one go.
    again = services.jobs.submit(request(epochs=7, name="whole"))
    with working(services, name="trainer"):
        assert wait(services, again.id).status == "done"
    decoders = TrainedDecoders(services.stores.weights)
    one, other = (decoders.load(name) for name in ("killed", "whole"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@SQLITE
def test_a_cancelled_training_is_left_with_a_checkpoint_and_goes_on(services, dataset, monkeypatch):
    monkeypatch.setattr(pausing, "ASK_EVERY_S", 0.0)
    job = services.jobs.submit(request(epochs=16, name="long"))
    with working(services):
        wait(services, job.id, lambda _: len(services.trainings.read_curves(job.id)[0].points) >= 5)
        services.jobs.cancel(job.id)
        wait(services, job.id, lambda _: services.jobs.list_runs(job.id)[0].status == "cancelled")
        seen = {point.step: point.values for point in services.trainings.read_curves(job.id)[0].points}
        services.jobs.retry(job.id)
        assert wait(services, job.id).status == "done"
    after = {point.step: point.values for point in services.trainings.read_curves(job.id)[0].points}
    assert len(after) == 16 * (40 // 8)
    assert sum(after[step] == values for step, values in seen.items()) >= len(seen) - 1, "it was not begun anew"


@SQLITE
def test_what_can_not_be_trained_is_refused_at_once(services, dataset):
    for recipe, options, error, said in (
        ("mindeye2-finetune", {}, BadInput, "start_from"),
        ("mindeye2-finetune", {"start_from": "nobody"}, NotFound, "nobody"),
        ("mindeye2-one-subject", {"start_from": "final_multisubject_subj01"}, BadInput, "starts fresh"),
        ("mindeye2-one-subject", {"profile": "huge"}, NotFound, "random-small"),
        ("mindeye2-one-subject", {"profile": "mindeye1"}, BadInput, "decoder is a MindEye2"),
        ("mindeye2-one-subject", {"name": "random-small"}, Conflict, "packaged"),
        ("mindeye2-one-subject", {"name": "no/name"}, BadInput, "letters"),
        ("mindeye2-one-subject", {"training": {"epoch": 3}}, BadInput, "epoch"),
        ("mindeye2-one-subject", {"training": {"seed": 3}}, BadInput, "seed"),
        ("mindeye2-one-subject", {"training": {"losses": {"contrast": 0.1}}}, Unavailable, "convnext_xlarge"),
        ("mindeye2-one-subject", {"subjects": ["nobody"]}, BadInput, "nobody"),
        ("mindeye2-one-subject", {"normalisation": "own-session"}, BadInput, "normalisation"),
    ):
        with pytest.raises(error, match=said):
            services.jobs.submit(request(recipe, **options))
    assert services.jobs.list("sim").items == []


@SQLITE
def test_data_without_consent_or_pictures_are_not_trained_on(services):
    content = io.BytesIO()
    scipy.io.savemat(content, {"fmriTrn": np.eye(6, 9), "stimTrn": np.eye(6, 16)})
    services.datasets.create(DatasetRequest(name="sim"))
    services.scans.ingest(io.BytesIO(content.getvalue()), ScanRequest(name="betas.mat", dataset="sim"))
    with pytest.raises(Refused, match="consent"):
        services.jobs.submit(request(subjects=["01"]))
