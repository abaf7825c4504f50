"""Losses against cross-entropies of torch and formulas in scipy, and the corners that the released code has."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import kstest
from sklearn.metrics.pairwise import cosine_similarity as sklearn_cosine
from torch.nn import functional as F

from voxelight.models.errors import BadInput
from voxelight.neuro import losses
from voxelight.neuro.losses import Mixing


def unit(rows=9, dim=40, seed=0):
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def mixing():
    """Samples 0 and 1 swapped and mixed, 2 its own partner and mixed, 3 its own partner and not, 4 to 8 turned."""
    perm = torch.tensor([1, 0, 2, 3, 5, 6, 7, 8, 4])
    select = torch.tensor([1, 1, 1, 0, 1, 1, 0, 0, 1], dtype=torch.bool)
    return losses.find_mixing(perm, torch.linspace(0.1, 0.9, 9), select)


def cross_entropy(targets, logits):
    """Mean over rows, by scipy."""
    return -(np.asarray(targets) * log_softmax(np.asarray(logits, dtype=np.float64), axis=1)).sum(axis=1).mean()


@pytest.mark.parametrize("shape", [(9, 5), (9, 1, 37), (9, 4, 3, 3)])
def test_mixed_samples_lie_between_the_two(shape):
    x, how = torch.randn(shape), mixing()
    mixed = losses.mixco(x, how)
    for index, (partner, beta) in enumerate(zip(how.perm, how.betas, strict=True)):
        torch.testing.assert_close(mixed[index], beta * x[index] + (1 - beta) * x[partner])


def test_samples_that_take_no_part_stay_as_they_are():
    x, how = torch.randn(9, 5), mixing()
    assert how.betas[[3, 6, 7]].tolist() == [1, 1, 1]
    assert torch.equal(losses.mixco(x, how)[[3, 6, 7]], x[[3, 6, 7]])


def test_mixing_is_drawn_as_it_says_and_again_from_the_same_seed():
    how = losses.draw_mixing(20_000, np.random.default_rng(0))
    again = losses.draw_mixing(20_000, np.random.default_rng(0))
    assert torch.equal(how.perm, again.perm)
    assert torch.equal(how.betas, again.betas)
    assert sorted(how.perm.tolist()) == list(range(20_000))
    mixed = how.betas[how.betas < 1].double().numpy()
    # A Beta(0.15, 0.15) rounds to 1 in float32 for some percent of draws, which then count as not mixed.
    assert len(mixed) == pytest.approx(10_000, rel=0.15)
    inside = mixed[(mixed > 0.01) & (mixed < 0.99)]
    reference = np.random.default_rng(1).beta(0.15, 0.15, 200_000)
    reference = reference[(reference > 0.01) & (reference < 0.99)]
    assert kstest(inside, reference).pvalue > 0.001


def test_a_partner_of_its_own_is_written_over_as_released():
    targets = losses.mixing_targets(mixing())
    betas = torch.linspace(0.1, 0.9, 9)
    assert targets[0, 0] == betas[0]
    assert targets[0, 1] == 1 - betas[0]
    assert targets[2, 2] == 1 - betas[2]
    assert targets[3].abs().sum() == 0
    others = [0, 1, 4, 5, 6, 7, 8]
    torch.testing.assert_close(targets[others].sum(dim=1), torch.ones(7))


@pytest.mark.parametrize("temperature", [0.006, 0.1])
def test_bimixco_is_the_cross_entropy_of_rows_and_of_columns(temperature):
    P, Q, how = unit(seed=1), unit(seed=2), mixing()
    logits, shares = P @ Q.T / temperature, losses.mixing_targets(how)
    expected = (cross_entropy(shares, logits) + cross_entropy(shares.T, logits.T)) / 2
    assert losses.bimixco_nce(P, Q, how, temperature).item() == pytest.approx(expected, rel=1e-5)


def test_with_nothing_mixed_bimixco_is_the_plain_loss():
    P, Q = unit(seed=1), unit(seed=2)
    nothing = Mixing(torch.arange(9).roll(1), torch.ones(9))
    torch.testing.assert_close(losses.bimixco_nce(P, Q, nothing, 0.05), losses.nce(P, Q, 0.05))


@pytest.mark.parametrize("temperature", [0.006, 0.2])
def test_the_plain_loss_is_that_of_clip(temperature):
    P, Q, own = unit(seed=1), unit(seed=2), torch.arange(9)
    logits = P @ Q.T / temperature
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(losses.nce(P, Q, temperature), expected)


def test_softclip_does_not_transpose_its_targets():
    P, Q = unit(seed=1), F.normalize(unit(seed=2) + unit(1, seed=3), dim=-1)
    alike, logits = softmax((Q @ Q.T / 0.2).numpy(), axis=1), P @ Q.T / 0.2
    assert not np.allclose(alike, alike.T, atol=1e-4)
    expected = (cross_entropy(alike, logits) + cross_entropy(alike, logits.T)) / 2
    transposed = (cross_entropy(alike, logits) + cross_entropy(alike.T, logits.T)) / 2
    found = losses.soft_clip(P, Q, 0.2).item()
    assert found == pytest.approx(expected, rel=1e-5)
    assert found != pytest.approx(transposed, rel=1e-5)


def test_softclip_of_targets_with_nothing_in_common_is_the_plain_loss():
    P, Q = unit(seed=1), torch.eye(9, 40)
    torch.testing.assert_close(losses.soft_clip(P, Q, 0.01), losses.nce(P, Q, 0.01))


def test_soft_contrast_asks_for_what_the_teacher_sees():
    s, t, a = (3 * torch.randn(2, 49, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    flat = [part.reshape(-1, 16).numpy() for part in (s, t, a)]
    S, T, A = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in flat)
    there = cross_entropy(softmax(T @ A.T / 0.2, axis=1), S @ A.T / 0.2)
    back = cross_entropy(softmax(A @ T.T / 0.2, axis=1), A @ S.T / 0.2)
    assert losses.soft_contrast(s, t, a).item() == pytest.approx((there + back) / 2, rel=1e-5)
    assert losses.soft_contrast(t, t, a) < losses.soft_contrast(s, t, a)


@pytest.mark.parametrize("loss", [losses.nce, lambda P, Q: losses.soft_clip(P, Q, 0.1)])
def test_a_step_downhill_helps(loss):
    P, Q = unit(seed=1).requires_grad_(), unit(seed=2)
    before = loss(P, Q)
    (slope,) = torch.autograd.grad(before, P)
    assert loss(P - 1e-3 * slope, Q) < before


def test_cosines_are_those_of_scikit_learn():
    rows, columns = 5 * torch.randn(4, 8), torch.randn(6, 8)
    expected = torch.from_numpy(sklearn_cosine(rows.numpy(), columns.numpy()))
    torch.testing.assert_close(losses.cosine_similarity(rows, columns), expected)


def test_the_best_of_a_row_is_not_the_best_of_a_column():
    similarity = torch.tensor([[0.9, 0.1, 0.95], [0.2, 0.5, 0.0], [0.3, 0.2, 0.99]])
    assert losses.top1(similarity).item() == pytest.approx(2 / 3)
    assert losses.top1(similarity.T).item() == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda P, Q: losses.nce(P, Q),
        lambda P, Q: losses.soft_clip(P, Q, 0.1),
        lambda P, Q: losses.bimixco_nce(P, Q, mixing()),
        lambda P, Q: losses.soft_contrast(P, P, Q),
    ],
)
def test_a_target_too_few_is_refused(call):
    with pytest.raises(BadInput, match=r"\(9, 40\) and \(8, 40\)"):
        call(unit(), unit(8))
