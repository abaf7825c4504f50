import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss, FocalLoss
from torch.nn import functional as F

from voxelight.medseg.losses import LOSSES, deep_supervision, foreground_dice, released_dice


@pytest.fixture
def pair():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 5, 4, generator=random)
    labels = torch.randint(3, (2, 6, 5, 4), generator=random)
    return logits, F.one_hot(labels, 3).movedim(-1, 1).float()


def test_foreground_dice_is_that_of_monai(pair):
    options = {"softmax": True, "include_background": False, "batch": True, "smooth_nr": 1e-5, "smooth_dr": 1e-5}
    torch.testing.assert_close(foreground_dice(*pair), DiceLoss(**options)(*pair))
    torch.testing.assert_close(LOSSES["dice_ce"](*pair), DiceCELoss(**options)(*pair))


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_answer_costs_next_to_nothing_and_a_wrong_one_much(pair, name):
    _, reference = pair
    assert LOSSES[name](80 * reference - 40, reference) < 1e-4
    assert LOSSES[name](80 * reference.roll(1, dims=1) - 40, reference) > 0.9


def test_further_losses_are_those_of_monai(pair):
    logits, reference = pair
    by_case = DiceCELoss(softmax=True, include_background=False, smooth_nr=1e-5, smooth_dr=1e-5)
    torch.testing.assert_close(LOSSES["dice_ce_case"](*pair), by_case(*pair))
    focal = FocalLoss(use_softmax=True, gamma=2.0)(logits, reference) * logits.shape[1]
    torch.testing.assert_close(LOSSES["dice_focal"](*pair), foreground_dice(*pair) + focal)
    overlapping = (torch.rand(reference.shape, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, overlapping)
    crossed = F.binary_cross_entropy_with_logits(logits, overlapping)
    torch.testing.assert_close(LOSSES["dice_ce_regions"](logits, overlapping), dice + crossed)


def test_a_loss_by_case_does_not_change_with_the_batch_it_is_in(pair):
    logits, reference = pair
    each = [LOSSES["dice_ce_case"](logits[row : row + 1], reference[row : row + 1]) for row in range(2)]
    torch.testing.assert_close(LOSSES["dice_ce_case"](*pair), torch.stack(each).mean())


def test_the_honest_loss_still_pulls_where_the_released_one_has_gone_flat():
    reference = torch.zeros(1, 2, 8, 8, 8)
    reference[:, 1, 2:5, 2:5, 2:5] = 1
    reference[:, 0] = 1 - reference[:, 1]
    # Half of a small structure is missed: background Dice is near one, so both together exceed K - 1 = 1.
    start = 6 * torch.where(torch.arange(8)[:, None, None] < 4, reference, torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1))
    slopes = {}
    for loss in (foreground_dice, released_dice):
        logits = start.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(logits, reference), logits)
        slopes[loss] = float(slope.norm())
    assert slopes[released_dice] == 0
    assert slopes[foreground_dice] > 1e-4


def test_deep_supervision_weighs_levels_and_averages_the_reference(pair):
    logits, reference = pair
    coarse = F.avg_pool3d(logits, 2, ceil_mode=True)
    shares = F.avg_pool3d(reference, 2, ceil_mode=True, count_include_pad=False)
    found = deep_supervision(foreground_dice, [logits, coarse], reference, decay=0.5)
    expected = (foreground_dice(logits, reference) + 0.5 * foreground_dice(coarse, shares)) / 1.5
    torch.testing.assert_close(found, expected)
    np.testing.assert_allclose(shares.sum(dim=1), 1, rtol=1e-6)
    one_level = deep_supervision(foreground_dice, [logits], reference, decay=0.5)
    torch.testing.assert_close(one_level, foreground_dice(logits, reference))
