"""Evaluation of a decoding job: every sample is scored, and what is not known of the decoder is said."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from voxelight.app.pipelines.evaluated import Wishes, compare, evaluate
from voxelight.app.runner import Runner
from voxelight.app.schemas import DatasetChange, JobRequest
from voxelight.models.errors import BadInput, Conflict, Refused
from voxelight.neuro.evaluate.page import write_page
from voxelight.neuro.evaluate.pixels import bring, score_structure
from voxelight.neuro.evaluate.similarity import correlate, two_way

WISHES = Wishes(sessions="none: random weights", permutations=49, networks=())
FAST = {"preset": "fast", "prior_steps": 2, "dtype": "float32", "stop": "unrefined", "samples": 2}


@pytest.fixture
def job(services, decodable):
    torch.set_num_threads(1)
    request = JobRequest(kind="decode", recipe="random-small", dataset=decodable, seed=5, queue="cpu", options=FAST)
    submitted = services.jobs.submit(request)
    with pytest.raises(Conflict, match="done"):
        evaluate(services.stores, submitted.id, WISHES)
    runner = Runner(services)
    for batch in runner.list_batches(submitted.id):
        runner.run_batch(submitted.id, batch)
    runner.close(submitted.id)
    return services.jobs.show(submitted.id)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_decoding_job_is_evaluated(services, job):
    evaluation = evaluate(services.stores, job.id, WISHES)
    assert evaluation.conditions.seeds == 2
    assert evaluation.conditions.random_weights
    assert evaluation.conditions.simulated
    decoded = evaluation.find_row("decoded").scores
    assert {name: scores.shape for name, scores in decoded.items()} == {
        "retrieval_top1": (2, 6), "retrieval_top5": (2, 6), "two_way": (2, 6), "pixel_correlation": (2, 6),
        "ssim": (2, 6),
    }  # fmt: skip
    # The grid shows what was scored.
    grid = evaluation.grids[0]
    shown, made = (next(c.pictures for c in grid.columns if c.title == title) for title in ("stimulus", "from betas"))
    assert grid.ids.tolist() == evaluation.stimulus_ids.tolist()
    for seed in range(2):
        correlations = correlate(bring(made[:, seed]), bring(shown[:, 0]))
        np.testing.assert_allclose(decoded["two_way"][seed], two_way(correlations, np.arange(6)))
    np.testing.assert_allclose(decoded["ssim"], score_structure(made.swapaxes(0, 1), shown[:, 0])["ssim"])
    assert {guard.status for guard in evaluation.guards[:-1]} == {"not checked"}
    assert "not asked for" in evaluation.find_row("generator_ceiling").absent
    assert evaluation.find_row("shuffled_betas").scores["two_way"].shape == (2 * 20, 6)
    assert evaluation.nulls["two_way"].shape == (49,)
    page = write_page(evaluation)
    for text in ("RANDOM WEIGHTS", "SIMULATED", "not checked", "where seeds differ", "NO NETWORK"):
        assert text in page
    whole = evaluate(services.stores, job.id, replace(WISHES, ceiling=True, device="cpu"))
    ceiling = whole.find_row("generator_ceiling").scores
    assert ceiling["two_way"].shape == (2, 6)
    assert next(c for c in whole.grids[0].columns if c.title == "from true tokens").pictures.shape == (6, 2, 64, 64, 3)
    assert np.ptp(ceiling["ssim"], axis=0).min() > 0  # every seed draws another picture
    tested = compare(evaluation, evaluation)
    assert {test.p for test in tested.tests} == {1}
    with pytest.raises(BadInput, match="--sessions"):
        evaluate(services.stores, job.id, Wishes(networks=()))
    services.datasets.change(job.dataset, DatasetChange(consent="none"))
    with pytest.raises(Refused, match="consent"):
        evaluate(services.stores, job.id, WISHES)
