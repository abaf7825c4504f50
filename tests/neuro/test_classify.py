"""Categories by ridge, whole runs held out."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from voxelight.models.decoders.ridge import RidgeConfig
from voxelight.models.errors import BadInput
from voxelight.models.values import Betas
from voxelight.neuro.classify import classify
from voxelight.storage.formats.fmri.layouts import open_recording


@pytest.fixture
def blocks():
    draw = np.random.default_rng(0)
    category = np.tile(np.arange(4), 6)
    run = np.repeat(np.arange(6), 4)
    values = draw.normal(size=(4, 30))[category] + 2.0 * draw.normal(size=(24, 30)) + draw.normal(size=(6, 30))[run]
    names = np.array(["bottle", "cat", "chair", "face"])[category]
    labels = {"category": names, "run": np.array([f"run-{number}" for number in run])}
    return Betas(values.astype(np.float32), names, "01", "vt", labels)


def test_scikit_learn_finds_the_same(blocks):
    config = RidgeConfig(alphas=(30.0,))
    found = classify(blocks, config=config, permutations=0)
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=30.0))
    truth = cross_val_predict(
        model, blocks.values.astype(float), blocks.stimulus_ids, groups=blocks.labels["run"], cv=LeaveOneGroupOut()
    )
    assert found.value == pytest.approx((truth == blocks.stimulus_ids).mean())
    for row, name in enumerate(found.categories):
        shown = truth[blocks.stimulus_ids == name]
        assert found.confusion[row].tolist() == [int((shown == other).sum()) for other in found.categories]


def test_chance_control_and_interval(blocks):
    found = classify(blocks, permutations=99)
    assert found.chance == 0.25
    assert abs(found.null_mean - 0.25) < 0.06
    assert found.low <= found.value <= found.high
    assert found.low > found.null_mean
    assert found.p <= 0.02
    noise = replace(blocks, values=np.random.default_rng(5).normal(size=blocks.values.shape).astype(np.float32))
    assert classify(noise, permutations=99).p > 0.05


def test_too_few_runs_or_categories_are_refused(blocks):
    with pytest.raises(BadInput, match="three units or more"):
        classify(replace(blocks, labels=blocks.labels | {"run": np.where(blocks.labels["run"] == "run-0", "a", "b")}))
    with pytest.raises(BadInput, match="without the unit 'category'"):
        classify(replace(blocks, labels={"run": blocks.labels["run"]}))


def test_haxby_by_held_out_run(shared_data):
    betas = open_recording(shared_data / "pymvpa_haxby").read()
    assert betas.values.shape == (96, 530)
    found = classify(betas, permutations=49)
    assert (found.n_units, found.n_categories, found.chance) == (12, 8, 0.125)
    assert 0.63 <= found.value <= 0.8  # what quick baselines reached
    assert abs(found.null_mean - 0.125) < 0.03
    assert found.low > found.null_mean + 5 * found.null_std
    assert found.p == 0.02
