"""A linear decoder is fitted as a job on a simulated subject, kept, and decodes what it never saw."""

import json
import time
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import scipy.stats
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionImg2ImgPipeline, UNet2DConditionModel
from safetensors.numpy import load
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from voxelight.app.pipelines.evaluated import Wishes, evaluate
from voxelight.app.pipelines.inputs import find_betas, read_betas
from voxelight.app.schemas import DatasetChange, DatasetRequest, JobRequest, ResultQuery, ScanRequest
from voxelight.app.schemas_recordings import RecordingRequest
from voxelight.app.worker import working
from voxelight.models.errors import BadInput, Conflict, NotFound, Refused, Unavailable
from voxelight.models.records import hash_parts
from voxelight.neuro.betas import select_rows
from voxelight.neuro.evaluate.evaluation import summarise
from voxelight.neuro.evaluate.page import write_page
from voxelight.neuro.evaluate.tables import write_json
from voxelight.neuro.simulate import SimulationOptions, crop_photographs
from voxelight.neuro.simulation import (
    DesignOptions,
    StimuliSet,
    SubjectOptions,
    features_by_id,
    make_subject,
    plan_trials,
    simulate,
)
from voxelight.storage.decoders import TrainedDecoders
from voxelight.storage.formats.export import write_betas
from voxelight.storage.formats.images import encode_png
from voxelight.storage.formats.picture_sets import open_pictures
from voxelight.storage.formats.simulated import Make, write_simulated
from voxelight.storage.linear import open_linear
from voxelight.storage.queries import find_row
from voxelight.storage.results import read_output, read_outputs
from voxelight.storage.schema import Dataset

LABEL = "simulated-mismatched-01"
DESIGN = DesignOptions(pictures=22, shared=12, repeats=2, trials=22, runs=2)
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
OVER = ("done", "failed", "cancelled")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Files of a simulated (mismatched) subject who saw crops of photographs; eight pictures are shared."""
    stimuli, _ = crop_photographs(SimulationOptions(side=32, crops=3), np.random.default_rng(0))
    pictures = StimuliSet(stimuli)
    subject = make_subject(1, pictures, SubjectOptions(voxels=90))
    betas = simulate(subject, pictures, plan_trials(len(stimuli.ids), 1, 0, DESIGN))
    seen = stimuli.select(np.array(list(dict.fromkeys(betas.stimulus_ids.tolist()))))
    return write_betas(tmp_path_factory.mktemp("betas"), betas.subject, betas, seen).paths


@pytest.fixture
def dataset(services, recorded):
    torch.set_num_threads(1)
    services.datasets.create(DatasetRequest(name="sim", consent="simulated", purpose="a test", simulated=True,
                                            licence="CC0-1.0", source="simulated (mismatched)"))  # fmt: skip
    for path in recorded:
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="sim", subject=LABEL))
    return "sim"


@pytest.fixture
def few(services, dataset, tmp_path):
    """Another data set of the same subject, the trials of shared pictures, with its voxels in two masks."""
    with services.stores.sessions() as session:
        found = find_row(session, Dataset, services.datasets.show("sim").id)
        inputs, _ = find_betas(session, found, JobRequest(kind="decode", recipe="mine", dataset="sim"), None)
        betas, stimuli = read_betas(session, services.stores, inputs, True)
    some = select_rows(betas, np.flatnonzero(betas.labels["shared"] == "1"))
    services.datasets.create(DatasetRequest(name="few", consent="simulated", purpose="a test", simulated=True,
                                            source="simulated"))  # fmt: skip
    for path in write_betas(tmp_path / "few", LABEL, some, stimuli.select(np.unique(some.stimulus_ids))).paths:
        services.scans.ingest_path(path, ScanRequest(name=path.name, dataset="few", subject=LABEL))
    return "few"


def add_regions(services, recorded, folder, dataset):
    """Store masks of every other voxel; return the id of each."""
    image = nib.load(next(path for path in recorded if "mask" in path.name))
    places = np.flatnonzero(np.asanyarray(image.dataobj) > 0)
    found = {}
    for name, chosen in (("even", places[::2]), ("odd", places[1::2])):
        mask = np.zeros(image.shape, np.uint8)
        mask.flat[chosen] = 1
        nib.save(nib.Nifti1Image(mask, image.affine), folder / f"{name}.nii.gz")
        asked = ScanRequest(name=f"{name}.nii.gz", dataset=dataset, subject=LABEL)
        found[name] = str(services.scans.ingest_path(folder / f"{name}.nii.gz", asked).id)
    return found


def run(services, dataset="sim", **asked):
    """Submit a job, have it done, and return it."""
    job = services.jobs.submit(JobRequest(dataset=dataset, **asked))
    with working(services):
        job = wait(services, job.id)
    assert job.status == "done", [each.error_message for each in services.jobs.list_runs(job.id)] + [job.error]
    return job


def wait(services, job_id):
    for _ in range(2000):
        job = services.jobs.show(job_id)
        if job.status in OVER:
            return job
        time.sleep(0.05)
    raise AssertionError(f"still {job}")


def fit(services, recipe="linear-random-small", **options):
    return run(services, kind="train-linear", recipe=f"train-{recipe}", options={"name": "mine"} | options)


def decode(services, dataset="sim", **options):
    return run(services, dataset, kind="decode", recipe="mine", options=options)


@SQLITE
def test_a_stored_data_set_is_fitted_to_and_another_decoding_says_and_shows_what_was_seen(services, dataset):
    job = fit(services)
    kept = TrainedDecoders(services.stores.weights).find("mine")
    assert (job.model, kept.profile, kept.subjects, kept.simulated) == (
        "mine", "linear-random-small", ((LABEL, 90),), True,
    )  # fmt: skip
    by_name = {metric.name: metric for metric in job.metrics}
    assert {"retrieval_image_of_brain", "retrieval_brain_of_image", "two_way_tokens"} == set(by_name)
    told = by_name["two_way_tokens"].detail
    assert (told["n"], told["chance"], told["simulated"]) == (12, 0.5, True)
    assert by_name["two_way_tokens"].value > 0.6, "the ridge finds tokens that hang on the picture"
    card = services.recipes.show("mine").card
    assert all(text in card for text in ("SIMULATED", "RANDOM ENCODER", "`git`, penalty 100.0", "marked as shared"))
    assert any("SIMULATED" in warning for warning in services.recipes.show("mine").warnings)
    _, facts = open_linear(TrainedDecoders(services.stores.weights).find_linear("mine"))
    assert (facts.voxels, set(facts.spaces), facts.simulated) == (90, {"git", "pixels-64"}, True)
    decoded = decode(services, generator="first-guess")
    results = {each.item: each for each in services.results.walk(ResultQuery(job=decoded.id))}
    assert len(results) == decoded.total
    one = next(iter(results.values()))
    roles = {file.role for file in one.artifacts}
    assert {"tokens", "caption", "reconstruction", "stimulus", "retrieved"} <= roles
    assert one.decoded[0].caption
    assert one.provenance["weights_sha256"] == hash_parts({"decoder": kept.sha256})
    assert one.provenance["options"]["normalisation"] == "training-rows-per-session"
    tokens = load(read_output(services.stores, one.id, "tokens"))
    assert tokens["tokens"].shape == (1, 17, 32)
    check_evaluation(services, decoded, kept)


def check_evaluation(services, decoded, kept):
    """Only pictures that the fit has not seen are scored, beside every control row."""
    evaluation = evaluate(services.stores, decoded.id, Wishes(permutations=99, networks=(), ceiling=True))
    assert len(evaluation.stimulus_ids) == len(kept.provenance["held_out_pictures"]) == 12
    decoded_row, ceiling = (
        evaluation.find_row(name).scores["two_way"].mean() for name in ("decoded", "generator_ceiling")
    )
    assert ceiling > 0.99 > 0.3 < decoded_row
    assert not evaluation.find_row("nearest_training").absent
    held = {guard.name: guard.status for guard in evaluation.guards}
    assert (held["ids"], held["pictures"], held["normalisation"]) == ("held", "held", "held")
    assert "RANDOM" in write_page(evaluation)


def make_checkpoint(folder):
    """Write a Stable Diffusion of a few thousand random weights, in diffusers' form."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 32), layers_per_block=1, cross_attention_dim=32, attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4,
                        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, sample_size=64)  # fmt: skip
    words = ["<|startoftext|>", "<|endoftext|>", *(f"{letter}{end}" for letter in "abcdefghijklmnopqrstuvwxyz"
                                                   for end in ("", "</w>"))]  # fmt: skip
    tokenizer = CLIPTokenizer(vocab={word: row for row, word in enumerate(words)}, merges=[], model_max_length=77)
    text = CLIPTextModel(CLIPTextConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                                        num_attention_heads=4, vocab_size=len(words), eos_token_id=1))  # fmt: skip
    scheduler = DDIMScheduler(steps_offset=1, clip_sample=False)
    StableDiffusionImg2ImgPipeline(vae, text, tokenizer, unet, scheduler, None, None,
                                   requires_safety_checker=False).save_pretrained(folder)  # fmt: skip


@SQLITE
def test_a_checkpoint_draws_and_another_region_scores_and_chooses(services, few, recorded, tmp_path):
    fit(services)
    parts = sorted((services.stores.cache / "targets").rglob("*.npy"))
    assert len(parts) == 2, "tokens and small pictures"
    fit(services, name="again", spaces=["git"], held_out="tau")
    assert sorted((services.stores.cache / "targets").rglob("*.npy")) == parts, "nothing was encoded twice"
    decoders = TrainedDecoders(services.stores.weights)
    kept = decoders.find("again").provenance
    assert kept["held_out"].startswith("tau: 3 of 22 pictures")
    spared = 22 - 3 - len(decoders.read_pictures("again"))
    assert f"{spared} others that are liker" in kept["held_out"]
    assert spared > 0
    make_checkpoint(services.stores.weights / "generators" / "img2img-small")
    masks = {name: add_regions(services, recorded, tmp_path, name) for name in ("sim", "few")}
    fit(services, name="half", mask=masks["sim"]["even"])
    options = {"samples": 2, "mask": masks["few"]["even"]}
    job = run(services, few, kind="decode", recipe="half", options=options)
    assert job.total == 12
    [one, *_] = services.results.walk(ResultQuery(job=job.id))
    assert len(one.decoded) == 2
    roles = [file.role for file in one.artifacts]
    assert (roles.count("reconstruction"), roles.count("blurry")) == (2, 2), "what was drawn, and its first guess"
    drawn = read_outputs(services.stores, one.id, "reconstruction")
    assert drawn[0] != drawn[1], "each from a seed of its own"
    told = one.provenance["options"]
    assert (told["generation"]["checkpoint"], len(told["generator_sha256"])) == ("img2img-small", 64)
    check_regions(services, job)


def check_regions(services, job):
    """The voxels that the decoder has not seen score its pictures, and choose among samples."""
    wishes = Wishes(permutations=99, networks=(), regions=("odd", "even.nii.gz"))
    evaluation = evaluate(services.stores, job.id, wishes)
    lines = {(line.row, line.metric): line for line in summarise(evaluation)}
    odd, even = "brain_correlation_odd", "brain_correlation_even"
    assert lines["seen_picture", odd].value < lines["noise_ceiling", odd].value <= 1
    p = [lines["decoded", name].p for name in (odd, even)]
    q = [lines["decoded", name].q for name in (odd, even)]
    np.testing.assert_allclose(q, scipy.stats.false_discovery_control(p), err_msg="over regions, not over all scores")
    best = evaluation.find_row("best_of_samples").scores
    assert {"two_way", even} <= best.keys()
    assert odd not in best, "what chose is not scored by its choice"
    decoded = evaluation.find_row("decoded").scores[even]
    assert all(value in pair for value, pair in zip(best[even][0], decoded.T, strict=True))
    assert evaluation.find_metric(odd).note.count("0 of them the decoder's") == 1
    assert "45 of them the decoder's" in evaluation.find_metric(even).note
    page, told = write_page(evaluation), json.loads(write_json(evaluation))
    for text in ("Best of 2 samples", "Brain correlation, odd", "noise ceiling", "Noise ceiling of the 45 voxels"):
        assert text in page, text
    assert {"best_of_samples", "seen_picture", "noise_ceiling"} <= {row["name"] for row in told["rows"]}
    with pytest.raises(NotFound, match="even"):
        evaluate(services.stores, job.id, replace(wishes, regions=("V9",)))


@SQLITE
def test_what_can_not_be_fitted_or_decoded_is_refused_at_once(services, dataset):
    def submit(kind, recipe, data="sim", **options):
        return services.jobs.submit(JobRequest(kind=kind, recipe=recipe, dataset=data, options=options))

    with pytest.raises(Unavailable, match="git-base-coco-vision"):
        submit("train-linear", "train-brain-captioning")
    with pytest.raises(Unavailable, match="not part of Voxelight"):
        submit("train-linear", "train-brain-captioning", spaces=["vdvae"])
    with pytest.raises(BadInput, match="captions"):
        submit("train-linear", "train-brain-diffuser", spaces=["clip-text"])
    with pytest.raises(BadInput, match="one of git, pixels-64"):
        submit("train-linear", "train-linear-random-small", spaces=["depth"])
    fit(services, spaces=["pixels-64"])
    with pytest.raises(BadInput, match="without git"):
        submit("decode", "mine")
    with pytest.raises(BadInput, match="prior_steps"):
        submit("decode", "mine", generator="first-guess", prior_steps=3)
    with pytest.raises(BadInput, match="draws nothing"):
        submit("decode", "mine", generator="first-guess", samples=2)
    with pytest.raises(Conflict, match="here already"):
        submit("train-linear", "train-linear-random-small", name="mine")
    services.datasets.create(DatasetRequest(name="measured", consent="given", purpose="a test"))
    with pytest.raises(BadInput, match="not marked as simulated"):
        submit("decode", "mine", data="measured", generator="first-guess")
    fit(services, name="both")
    with pytest.raises(Unavailable, match="img2img-small"):
        submit("decode", "both")
    services.datasets.change("sim", DatasetChange(consent="none"))
    with pytest.raises(Refused, match="purpose"):
        submit("train-linear", "train-linear-random-small")


@SQLITE
def test_a_registered_simulation_tells_how_good_the_best_decoder_would_be(services, tmp_path, matched):
    services.recordings.add(
        DatasetRequest(name="sim", consent="simulated", purpose="a test", simulated=True),
        RecordingRequest(path=str(matched)), trusted=True,
    )  # fmt: skip
    job = fit(services, spaces=["pixels-64"])
    score = {metric.name: metric for metric in job.metrics}["two_way_tokens"]
    told = score.detail
    assert told["null_mean"] < score.value <= told["oracle"] <= 1
    assert told["oracle"] > 0.9, "the simulated signal tells eight pictures apart"
    assert "Bayes-optimal" in told["oracle_by"]
    expected = (score.value - told["null_mean"]) / (told["oracle"] - told["null_mean"])
    assert told["fraction_of_oracle"] == pytest.approx(expected)
    kept = TrainedDecoders(services.stores.weights).find("mine").provenance
    assert list(kept["oracle"].values()) == ["By the generator, matched, coarse colours."]


@pytest.fixture
def matched(tmp_path):
    """A folder of one simulated (matched) subject, linear in coarse colours, with all pictures and their features."""
    folder, random = tmp_path / "matched", np.random.default_rng(0)
    coarse = random.random((30, 2, 2, 3))
    (folder / "pictures").mkdir(parents=True)
    for number, picture in enumerate(np.kron(coarse, np.ones((1, 16, 16, 1)))):
        (folder / "pictures" / f"p{number:02d}.png").write_bytes(encode_png(picture.astype(np.float32)))
    shown = open_pictures(folder / "pictures")
    np.savez(folder / "features.npz", features=coarse.reshape(30, -1), ids=shown.ids)
    design = DesignOptions(pictures=24, shared=8, repeats=3, trials=24, runs=2)
    make = Make(subjects=(1,), design=design, options=SubjectOptions(kind="matched", voxels=60))
    write_simulated(folder, shown, make, features_by_id("coarse colours", coarse.reshape(30, -1), shown.ids))
    return folder
