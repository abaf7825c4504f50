"""Guesses at tokens that the generator of the tiny profile learns from."""

import numpy as np
import pytest
import torch

from voxelight.neuro.tiny.guesses import find_components, guess_tokens


def chance(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def tokens():
    """Tokens of 3,000 pictures that lie in 12 dimensions of falling variance, beside a mean."""
    axes = torch.linalg.qr(torch.randn(48, 12, generator=chance(0))).Q.T
    scores = torch.randn(3000, 12, generator=chance(1)) * torch.linspace(3, 0.5, 12)
    return (scores @ axes + 2).reshape(3000, 4, 12)


def test_components_are_those_of_a_full_decomposition(tokens):
    mean, axes, spread = find_components(tokens, chance(2))
    flat = tokens.flatten(1).double().numpy()
    _, lengths, right = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    np.testing.assert_allclose(mean, flat.mean(0), atol=1e-5)
    np.testing.assert_allclose(spread[:12], lengths[:12] / np.sqrt(3000), rtol=1e-4)
    np.testing.assert_allclose(np.abs(axes[:12].double().numpy() @ right[:12].T), np.eye(12), atol=1e-3)


def test_a_guess_is_the_expected_value_of_what_lies_behind_it(tokens):
    components = find_components(tokens, chance(2))
    guessed = guess_tokens(tokens, components, chance(3))
    assert guessed.shape == tokens.shape
    true, found = ((each.flatten(1) - components.mean) @ components.axes[:12].T for each in (tokens, guessed))
    # The regression of the truth on an expected value has the slope 1, and what is left is not correlated with it.
    np.testing.assert_allclose((true * found).mean(0) / (found**2).mean(0), 1, atol=0.05)
    assert (found.var(0) < true.var(0)).all()
    again = guess_tokens(tokens, components, chance(3))
    assert torch.equal(guessed, again)


def test_tokens_keep_their_type(tokens):
    components = find_components(tokens, chance(2))
    assert guess_tokens(tokens[:5].bfloat16(), components, chance(0)).dtype == torch.bfloat16
