"""Whether trials and stimuli belong together, told from repeats."""

from dataclasses import replace

import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.neuro.alignment import check_alignment
from voxelight.neuro.compare_betas import compare_betas


@pytest.fixture
def betas(make_subject):
    return make_subject(n_stimuli=30, repeats=3, n_voxels=50, noise=4)[0]


def test_repeats_of_real_alignment_agree(betas):
    found = check_alignment(betas)
    assert found.aligned
    assert found.p <= 0.01
    assert found.reliability > found.null_mean + 4 * found.null_std
    assert found.pairs == 60
    assert found.line().startswith("Repeats agree")


def test_reliability_is_the_correlation_of_repeats(make_subject):
    betas, _ = make_subject(n_stimuli=40, repeats=2, n_voxels=60, noise=1)
    order = np.argsort(betas.stimulus_ids, kind="stable")
    first, second = betas.values[order[::2]], betas.values[order[1::2]]
    each = [np.corrcoef(a, b)[0, 1] for a, b in zip(first.T, second.T, strict=True)]
    assert check_alignment(betas).reliability == pytest.approx(np.mean(each), abs=1e-5)


@pytest.mark.parametrize("shift", [1, -1])
def test_stimuli_off_by_one_trial_are_called_misaligned(betas, shift):
    found = check_alignment(replace(betas, stimulus_ids=np.roll(betas.stimulus_ids, shift)))
    assert found.aligned is False
    assert found.shift == -shift
    assert "misaligned" in found.line()
    assert "off by one" in found.line()


def test_permuted_stimuli_are_called_misaligned(betas):
    found = check_alignment(replace(betas, stimulus_ids=np.random.default_rng(1).permutation(betas.stimulus_ids)))
    assert found.aligned is False
    assert found.shift is None


def test_offsets_of_sessions_alone_don_t_pass_for_alignment(betas):
    draw = np.random.default_rng(2)
    noise = draw.normal(size=betas.values.shape)
    for session in np.unique(betas.labels["session"]):
        noise[betas.labels["session"] == session] += 20 * draw.normal(size=betas.values.shape[1])
    assert check_alignment(replace(betas, values=noise.astype(np.float32))).aligned is False


def test_without_repeats_nothing_is_said(make_subject):
    found = check_alignment(make_subject(repeats=1)[0])
    assert found.aligned is None
    assert "can't be said" in found.line()


def test_many_trials_are_looked_at_in_part(make_subject):
    betas, _ = make_subject(n_stimuli=900, repeats=2, n_voxels=30, noise=4)
    found = check_alignment(betas, permutations=99)
    assert found.aligned
    assert found.pairs == 750


def test_a_published_set_is_compared_trial_by_trial(betas):
    draw = np.random.default_rng(0)
    noisy = (betas.values + 0.5 * draw.normal(size=betas.values.shape)).astype(np.float32)
    rows = draw.permutation(len(noisy))[:80]
    labels = {name: column[rows] for name, column in betas.labels.items()}
    published = replace(betas, values=300 * noisy[rows], stimulus_ids=betas.stimulus_ids[rows], labels=labels)
    report = compare_betas(betas, published, permutations=99)
    assert report.trials == 80
    assert report.left_out == (10, 0)
    truth = [np.corrcoef(a, b)[0, 1] for a, b in zip(betas.values[rows].T, noisy[rows].T, strict=True)]
    assert report.voxel_correlation[1] == pytest.approx(np.median(truth), abs=1e-6)
    assert report.voxel_null < 0.2 < report.voxel_correlation[0]
    assert report.slope == pytest.approx(300, rel=0.05)
    assert report.geometry > 0.8
    assert report.geometry_p <= 0.01
    assert set(report.by_session) == {"ses-0", "ses-1", "ses-2"}
    assert any("units differ" in line for line in report.lines())
    assert report.as_dict()["trials"] == 80


def test_sets_of_other_voxels_are_compared_by_geometry(betas, make_subject):
    published = replace(betas, values=betas.values[:, :35])
    report = compare_betas(betas, published, permutations=99)
    assert report.voxel_correlation is None
    assert report.geometry > 0.7
    other = make_subject(n_stimuli=30, repeats=3, n_voxels=50, noise=4, seed=9)[0]
    assert compare_betas(betas, other, permutations=99).geometry_p > 0.01
    with pytest.raises(BadInput, match="0 trials in both"):
        compare_betas(betas, replace(betas, stimulus_ids=np.char.add("x", betas.stimulus_ids)))
