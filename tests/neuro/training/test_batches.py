"""Which trials a step sees, and that no more than these are read."""

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from voxelight.models.errors import BadInput
from voxelight.models.training.ahead import Ahead
from voxelight.neuro.losses import Mixing, mixing_targets
from voxelight.neuro.splits import Leak
from voxelight.neuro.training.batches import plan_epoch
from voxelight.neuro.training.objective import join_mixings
from voxelight.neuro.training.recipe import Defects, Losses
from voxelight.neuro.training.samples import Dealer


def rng(seed=0):
    return np.random.default_rng(seed)


class Watched:
    """A table that tells which rows were read."""

    def __init__(self, values):
        self.values, self.shape, self.read = values, values.shape, []

    def __getitem__(self, rows):
        assert (np.diff(rows) > 0).all(), "each row once, in the order of the file"
        self.read += rows.tolist()
        return self.values[rows]


def test_an_epoch_of_all_trials_shows_each_once(small):
    subject = small.make_subject("s", trials=60, repeats=2)
    plan = plan_epoch([subject], 10, 6, rng())
    assert plan.shape == (1, 10, 6)
    assert sorted(plan.ravel().tolist()) == list(range(60))


def test_a_longer_epoch_shows_all_before_one_comes_again(small):
    subject = small.make_subject("s", trials=60, repeats=3)
    counts = Counter(plan_epoch([subject], 25, 6, rng()).ravel().tolist())
    assert set(counts.values()) == {2, 3}


@pytest.mark.parametrize("skip", [False, True])
def test_no_batch_shows_a_picture_twice(small, skip):
    subject = small.make_subject("s", trials=36, repeats=3)
    for batch in plan_epoch([subject], 40, 4, rng(), skip)[0]:
        assert len({subject.pictures[row] for row in batch}) == 4


def test_throwing_batches_away_loses_trials_that_waiting_keeps(small):
    subject = small.make_subject("s", trials=36, repeats=3)
    counts = {skip: Counter(plan_epoch([subject], 9, 4, rng(), skip).ravel().tolist()) for skip in (True, False)}
    assert len(counts[False]) == 36
    assert len(counts[True]) < 36


def test_two_subjects_who_saw_the_same_pictures_share_none_in_a_batch(small):
    subjects = [small.make_subject(name, trials=40, repeats=2) for name in ("a", "b")]
    plan = plan_epoch(subjects, 10, 4, rng())
    for step in range(10):
        seen = [subject.pictures[row] for subject, rows in zip(subjects, plan[:, step], strict=True) for row in rows]
        assert len(set(seen)) == 8


def test_where_there_is_no_other_picture_subjects_share_it(small):
    subjects = [small.make_subject(name, trials=12, repeats=2) for name in ("a", "b")]
    for rows, subject in zip(plan_epoch(subjects, 5, 5, rng()), subjects, strict=True):
        assert all(len({subject.pictures[row] for row in batch}) == 5 for batch in rows)


def test_only_training_rows_of_the_first_sessions_are_dealt(small):
    subject = small.make_subject("s", trials=60, sessions=3)
    kept = replace(subject, rows=np.arange(0, 60, 2)).first_sessions(2)
    assert kept.session_count() == 2
    assert set(plan_epoch([kept], 20, 4, rng()).ravel().tolist()) == set(range(0, 40, 2))


def test_a_subject_with_few_pictures_is_refused(small):
    with pytest.raises(BadInput, match="6 pictures"):
        plan_epoch([small.make_subject("s", trials=12, repeats=2)], 3, 7, rng())


def test_a_step_reads_the_rows_of_its_batch_and_no_others(small, make_data):
    data = make_data()
    watched = Watched(data.subjects[0].voxels)
    watching = replace(data, subjects=(replace(data.subjects[0], voxels=watched),))
    recipe = small.make_recipe()
    dealer = Dealer(watching, recipe, small.find_config(recipe, [20]))
    dealer.deal(3, mixed=True)
    assert len(watched.read) == recipe.batch


def test_rows_come_back_in_the_order_that_was_asked_for(small):
    subject = small.make_subject("s")
    np.testing.assert_array_equal(subject.read(np.array([7, 2, 7, 50])), subject.voxels[[7, 2, 7, 50]])


def test_a_step_is_the_same_whichever_came_before(small, make_data):
    data, recipe = make_data(2), small.make_recipe(batch=3)
    config = small.find_config(recipe, [20, 21])
    one, other = Dealer(data, recipe, config), Dealer(data, recipe, config)
    for number in range(5):
        one.deal(number, mixed=True)
    first, second = one.deal(5, mixed=True), other.deal(5, mixed=True)
    assert all(map(torch.equal, first.samples.voxels, second.samples.voxels))
    assert torch.equal(first.samples.tokens, second.samples.tokens)
    assert torch.equal(first.mixing.perm, second.mixing.perm)
    assert not torch.equal(one.deal(6, mixed=True).samples.tokens, first.samples.tokens)


def test_voxels_and_latents_are_mixed_alike(small, make_data):
    data = make_data()
    recipe = small.make_recipe(losses=Losses(mixing_chosen=1.0, mixing_beta=5.0))
    config = small.find_config(recipe, [20])
    mixed, plain = (Dealer(data, recipe, config).deal(2, mixed=how) for how in (True, False))
    assert plain.mixing is None
    perm, betas = mixed.mixing.perm, mixed.mixing.betas
    for index, (partner, beta) in enumerate(zip(perm, betas, strict=True)):
        for found, clean in (
            (mixed.samples.voxels[0], plain.samples.voxels[0]),
            (mixed.samples.latent, plain.samples.latent.float()),
        ):
            torch.testing.assert_close(found[index], beta * clean[index] + (1 - beta) * clean[partner])
    assert torch.equal(mixed.samples.tokens, plain.samples.tokens), "images are not mixed"
    published = Dealer(data, recipe.as_published(), config).deal(2, mixed=True)
    assert published.samples.latent.dtype == torch.float16
    assert len(torch.unique(published.samples.latent, dim=0)) == recipe.batch


def test_partners_are_numbered_through_the_batch():
    each = [
        Mixing(torch.tensor([1, 0]), torch.tensor([0.3, 1.0])),
        Mixing(torch.tensor([1, 0]), torch.tensor([0.6, 0.7])),
    ]
    repaired = mixing_targets(join_mixings(each, Defects()))
    published = mixing_targets(join_mixings(each, Defects(shared_permutation=True)))
    assert repaired[2, 3] == pytest.approx(0.4)
    assert repaired[2, :2].abs().sum() == 0
    assert published[2, 1] == pytest.approx(0.4)
    assert published[2, 3] == 0


def test_a_sample_that_is_its_own_partner_keeps_its_target():
    each = [Mixing(torch.tensor([0, 2, 1]), torch.tensor([0.3, 0.4, 1.0]))]
    repaired = mixing_targets(join_mixings(each, Defects()))
    published = mixing_targets(join_mixings(each, Defects(overwritten_partners=True)))
    torch.testing.assert_close(repaired.sum(dim=1), torch.ones(3))
    assert repaired[0, 0] == 1
    assert published[0, 0] == pytest.approx(0.7)


def test_a_held_out_picture_among_the_training_trials_is_refused(small, make_data):
    data = make_data()
    picture = data.subjects[0].pictures[11]
    recipe = small.make_recipe()
    with pytest.raises(Leak, match="1 held-out pictures"):
        Dealer(replace(data, held_out=frozenset({picture})), recipe, small.find_config(recipe, [20]))
    rows = np.array([row for row, name in enumerate(data.subjects[0].pictures) if name != picture])
    apart = replace(data, subjects=(replace(data.subjects[0], rows=rows),), held_out=frozenset({picture}))
    Dealer(apart, recipe, small.find_config(recipe, [20]))


@pytest.mark.parametrize(
    ("changes", "voxels", "said"),
    [
        ({}, [21], "21"),
        ({"sessions": 4}, [20], "3 sessions"),
        ({"config": "no low level"}, [20], "low_level"),
        ({"config": "no prior"}, [20], "prior"),
        ({"config": "two entries"}, [20], "2 entries"),
    ],
)
def test_data_recipe_and_decoder_must_fit(small, make_data, changes, voxels, said):
    configs = {
        "no low level": {**small.config, "low_level": False},
        "no prior": {**small.config, "prior": None},
        "two entries": {**small.config, "seq_len": 2},
    }
    changes = {name: configs[value] if name == "config" else value for name, value in changes.items()}
    recipe = small.make_recipe(**changes)
    with pytest.raises(BadInput, match=said):
        Dealer(make_data(), recipe, small.find_config(recipe, voxels))


def test_betas_that_are_no_number_are_refused_by_trial(small):
    subject = small.make_subject("s")
    subject.voxels[13, 4] = np.nan
    subject.read(np.array([12, 14]))
    with pytest.raises(BadInput, match="trial 13"):
        subject.read(np.array([14, 13]))


@pytest.mark.parametrize("rows", [[0, 60], [-1, 3], [2, 2], []])
def test_rows_that_are_no_trials_are_refused(small, rows):
    with pytest.raises(BadInput, match="training rows of s"):
        replace(small.make_subject("s"), rows=np.array(rows, dtype=int))


def test_what_steps_need_is_made_ahead_in_order_and_errors_arrive():
    made, allow = [], threading.Event()

    def make(number):
        allow.wait(5)
        made.append(number)
        if number == 4:
            raise BadInput("a fault", "none", "Mend it.")
        return number * 10

    with Ahead(make, 6, depth=2) as ahead:
        allow.set()
        assert [ahead.take(number) for number in range(4)] == [0, 10, 20, 30]
        with pytest.raises(BadInput, match="a fault"):
            ahead.take(4)
    assert made == sorted(made)
