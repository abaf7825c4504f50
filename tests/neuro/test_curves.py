"""Temperatures and learning rates over a training."""

import pytest
import torch

from voxelight.models.errors import BadInput
from voxelight.neuro.curves import count_mixing_epochs, one_cycle, soft_clip_temperatures


def optimizer():
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def follow(schedule, steps):
    """Learning rate and first beta before each of so many steps."""
    seen = []
    for _ in range(steps):
        group = schedule.optimizer.param_groups[0]
        seen.append((group["lr"], group["betas"][0]))
        schedule.optimizer.step()
        if schedule.last_epoch < schedule.total_steps - 1:
            schedule.step()
    return seen


@pytest.mark.parametrize(("epochs", "mixed"), [(150, 49), (240, 79), (1, 0)])
def test_a_third_of_the_epochs_is_mixed(epochs, mixed):
    assert count_mixing_epochs(epochs) == mixed
    assert len(soft_clip_temperatures(epochs)) == epochs - mixed


def test_the_temperature_rises_along_half_a_cosine():
    found = soft_clip_temperatures(150)
    assert found[0].item() == pytest.approx(0.004)
    assert found[50].item() == pytest.approx(0.00575)
    assert found[-1].item() == pytest.approx(0.0075)
    assert (found.diff() > 0).all()
    torch.testing.assert_close(found + found.flip(0), torch.full((101,), 0.0115))


@pytest.mark.parametrize(("epochs", "steps"), [(150, 31), (10, 7)])
def test_rate_and_beta_go_there_and_back(epochs, steps):
    rates, betas = zip(*follow(one_cycle(optimizer(), epochs, steps), epochs * steps), strict=True)
    top = 2 * steps - 1
    assert rates[0] == pytest.approx(1.2e-5)
    assert rates[top] == max(rates) == pytest.approx(3e-4)
    assert rates[-1] == pytest.approx(1.2e-8)
    assert (betas[0], betas[top], betas[-1]) == pytest.approx((0.95, 0.85, 0.95))
    assert betas[top] == min(betas)


def test_a_run_that_goes_on_takes_the_same_steps():
    whole = follow(one_cycle(optimizer(), 6, 5), 30)
    first = one_cycle(optimizer(), 6, 5)
    begun = follow(first, 13)
    second = one_cycle(optimizer(), 6, 5)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert begun + follow(second, 17) == whole


@pytest.mark.parametrize(("epochs", "steps"), [(1, 10), (0, 10), (10, 0)])
def test_a_training_too_short_for_the_cycle_is_refused(epochs, steps):
    with pytest.raises(BadInput, match="at least 2"):
        one_cycle(optimizer(), epochs, steps)


@pytest.mark.parametrize(("epochs", "share"), [(0, 0.3), (10, 1.5), (10, -0.1)])
def test_a_share_that_is_none_is_refused(epochs, share):
    with pytest.raises(BadInput, match="0 to 1"):
        soft_clip_temperatures(epochs, share)
