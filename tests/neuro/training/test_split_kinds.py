"""Splits by what pictures look like: shipped, marked or made, and what belongs to no part is not trained on."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.pairwise import cosine_similarity

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas
from voxelight.neuro.split_kinds import KINDS, make_parts
from voxelight.neuro.splits import Leak
from voxelight.neuro.training.held_out import hold_out
from voxelight.neuro.training.recorded import SeenTrials, prepare_subject

COLOURS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]])
SIZES = (15, 12, 9, 8, 6)


@pytest.fixture(scope="module")
def seen():
    """Two trials each of fifty pictures in five colours, which differ by a little light."""
    random = np.random.default_rng(0)
    colours = np.repeat(np.arange(5), SIZES)
    pictures = {f"key-{n:02d}": np.broadcast_to((COLOURS[colour] * random.uniform(0.85, 1))[:, None, None], (3, 16, 16))
                for n, colour in enumerate(colours)}  # fmt: skip
    keys = tuple(random.permutation(np.repeat(list(pictures), 2)).tolist())
    betas = Betas(random.normal(size=(100, 6)).astype(np.float32), np.array(keys), "s1", "v", {}, simulated=True)
    return SeenTrials(betas, keys), pictures, dict(zip(pictures, colours.tolist(), strict=True))


def choose(seen, way, labels=None, known=frozenset(), share=0.1, seed=0):
    trials, pictures, _ = seen
    trials = replace(trials, betas=replace(trials.betas, labels=labels or {}))
    return hold_out([trials], way, share, seed, known, lambda keys: np.stack([pictures[key] for key in keys]))


def test_clusters_are_held_out_whole_and_together_hold_all(seen):
    _, _, colours = seen
    parts = [choose(seen, way)[1] for way in KINDS if way.startswith("cluster")]
    assert [len(part) for part in parts] == list(SIZES), "the largest first"
    assert sorted(key for part in parts for key in part) == sorted(colours)
    found = {key: number for number, part in enumerate(parts) for key in part}
    assert adjusted_rand_score([colours[key] for key in sorted(colours)], [found[key] for key in sorted(found)]) == 1
    assert choose(seen, "cluster_k5_2")[1] == parts[2], "the same seed, the same clusters"


def test_a_gap_leaves_the_likest_pictures_out_of_the_training(seen):
    vectors = np.random.default_rng(1).normal(size=(60, 8))
    rows, near, told = make_parts("tau", vectors, 0.2, 3)
    assert len(rows) == 12
    assert 0 < len(near) == len(set(near) - set(rows))
    likeness = cosine_similarity(vectors - vectors.mean(0))
    train = np.setdiff1d(np.arange(60), np.concatenate([rows, near]))
    tau = np.median(np.delete(likeness[rows], rows, axis=1).max(1))
    assert likeness[np.ix_(rows, train)].max() <= tau < likeness[np.ix_(rows, near)].max(0).min()
    assert f"{tau:.3f}" in told
    (trials,), held_out, _ = choose(seen, "tau")
    assert trials.left_out
    assert not trials.left_out & held_out
    prepared = prepare_subject(trials, held_out, "training-rows")
    trained = {trials.keys[row] for row in prepared.training.rows.tolist()}
    assert trained == set(trials.keys) - held_out - trials.left_out
    assert set(prepared.test) == held_out
    mean = trials.betas.values[prepared.training.rows].mean(0)
    np.testing.assert_allclose(prepared.statistics.mean.ravel(), mean, rtol=1e-5, atol=1e-6)


def test_what_is_out_of_the_way_is_held_out(seen):
    vectors = np.random.default_rng(2).normal(scale=0.1, size=(40, 6)) + np.eye(6)[np.arange(40) % 3]
    vectors[[4, 20, 31]] = [[0, 0, 0, 1, -1, 0], [0, 0, 0, 0, 1, -1], [0, 0, 0, -1, 0, 1]]
    rows, near, _ = make_parts("ood", vectors, 0.05, 0)
    assert rows.tolist() == [4, 20, 31]
    assert not len(near)
    marks = np.array(["1" if key < "key-07" else "0" for key in seen[0].keys])
    _, held_out, told = choose(seen, "ood", {"ood": marks})
    assert sorted(held_out) == [f"key-{n:02d}" for n in range(7)]
    assert "marked" in told


def test_a_split_that_ships_with_the_data_is_taken_as_it_is(seen):
    trials = seen[0]
    part = {key: ("test", "none", "train")[min(int(key[-2:]) // 10, 2)] for key in trials.keys}
    labels = {"split_tau": np.array([part[key] for key in trials.keys])}
    (left,), held_out, told = choose(seen, "tau", labels)
    assert sorted(held_out) == [f"key-{n:02d}" for n in range(10)]
    assert sorted(left.left_out) == [f"key-{n:02d}" for n in range(10, 20)]
    assert "ships with the data" in told
    with pytest.raises(Leak, match="starts from"):
        choose(seen, "tau", labels, known=frozenset({"key-03"}))
    first = trials.keys.index("key-00")
    mixed = {"split_tau": np.array(["train" if row == first else part[key] for row, key in enumerate(trials.keys)])}
    with pytest.raises(Leak, match="one part"):
        choose(seen, "tau", mixed)


def test_random_splits_are_told_apart_by_their_number(seen):
    asked = (("random_0", 1), ("random_0", 2), ("random_1", 1))
    first, again, other = (choose(seen, way, seed=seed)[1] for way, seed in asked)
    assert first == again != other
    with pytest.raises(BadInput, match="to train on"):
        choose(seen, "ood", {"ood": np.full(100, "1")})
    with pytest.raises(BadInput, match="cluster_k5_0"):
        make_parts("cluster_k7_0", np.eye(20), 0.1, 0)
