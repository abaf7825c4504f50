"""Noise by seed."""

import subprocess
import sys

import pytest
import torch
from scipy import stats

from voxelight.models.diffusion.noise import SeededNoise

SIZES = {"small": (4, 8, 8), "in threads": (160, 128)}


@pytest.mark.parametrize("size", SIZES)
def test_an_image_draws_the_same_numbers_in_any_batch(size: str):
    shape = SIZES[size]
    together = SeededNoise([3, 1, 4, 1], "prior")
    alone = SeededNoise([4], "prior")
    for _ in range(3):
        batch = together.draw(*shape)
        assert batch.shape == (4, *shape)
        assert torch.equal(batch[2], alone.draw(*shape)[0])
        assert torch.equal(batch[1], batch[3])


def test_a_stage_draws_the_same_whatever_ran_before():
    first = SeededNoise([7], "unclip").draw(4, 8, 8)
    SeededNoise([7], "prior").draw(256, 8)
    torch.manual_seed(0)
    torch.randn(10)
    assert torch.equal(SeededNoise([7], "unclip").draw(4, 8, 8), first)


def test_seeds_stages_and_draws_are_independent():
    noise = SeededNoise([0, 1, -1, 2**40], "prior")
    draws = [*noise.draw(4096), *noise.draw(4096), *SeededNoise([0, 1], "unclip").draw(4096)]
    correlation = torch.corrcoef(torch.stack(draws)) - torch.eye(len(draws))
    assert correlation.abs().max() < 5 / 64  # five standard errors


def test_draws_are_standard_normal():
    assert stats.kstest(SeededNoise([5], "prior").draw(100_000)[0].numpy(), "norm").pvalue > 0.01


def test_a_lower_precision_holds_the_same_numbers_rounded():
    exact = SeededNoise([5, 6], "prior").draw(64)
    rounded = SeededNoise([5, 6], "prior", dtype=torch.bfloat16).draw(64)
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded, exact.bfloat16())


def test_one_number_an_image_can_be_drawn():
    assert SeededNoise([1, 2, 3], "offset").draw().shape == (3,)


def test_another_process_draws_the_same():
    program = (
        "from voxelight.models.diffusion.noise import SeededNoise;"
        "print(SeededNoise([42], 'prior').draw(16).numpy().tobytes().hex())"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert there == SeededNoise([42], "prior").draw(16).numpy().tobytes().hex()
