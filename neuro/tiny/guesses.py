"""Guesses at tokens, such as a decoder of brain activity makes: near their mean in what it could not see."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor

_COMPONENTS, _MORE, _PASSES = 128, 16, 4


class Components(NamedTuple):
    """Principal components of flattened tokens.

    mean : tensor (token * dim,); axes : tensor (component, token * dim), of length 1; spread : tensor (component,),
    standard deviations, falling
    """

    mean: Tensor
    axes: Tensor
    spread: Tensor


def find_components(tokens: Tensor, generator: Generator) -> Components:
    """Find the first principal components of the tokens of pictures.

    Parameters
    ----------
    tokens : tensor (picture, token, dim)
    generator : on their device

    References
    ----------
    Halko, Martinsson & Tropp (2011), SIAM Review 53:217, algorithm 4.4.
    """
    flat = tokens.flatten(1).float()
    mean = flat.mean(0)
    flat = flat - mean
    kept = min(_COMPONENTS, *flat.shape)
    start = torch.randn(flat.shape[1], min(kept + _MORE, *flat.shape), generator=generator, device=flat.device)
    base = torch.linalg.qr(flat @ start).Q
    for _ in range(_PASSES):
        base = torch.linalg.qr(flat @ (flat.T @ base)).Q
    _, lengths, axes = torch.linalg.svd(base.T @ flat, full_matrices=False)
    return Components(mean, axes[:kept], lengths[:kept] / len(flat) ** 0.5)


def guess_tokens(tokens: Tensor, components: Components, generator: Generator) -> Tensor:
    r"""Return the expected tokens of pictures whose components were seen in noise, of another strength for each.

    A component :math:`c` of variance :math:`\lambda` that is seen as :math:`c + \sigma \epsilon` is guessed as
    :math:`(c + \sigma \epsilon) \, \lambda / (\lambda + \sigma^2)`. The strength of a picture lies between the spread
    of the last component and that of the first, that of a component around it by a factor of e. A generator that is
    given such guesses learns to draw what may lie behind them; one that knows true tokens alone draws them as blurs.
    Noise on the condition is from Ho et al. (2022), Cascaded diffusion models, section 4.2.

    Parameters
    ----------
    tokens : tensor (b, token, dim)
    components : of `find_components`
    generator : on their device

    Returns
    -------
    tensor of the same shape and type
    """

    def draw(width: int) -> Tensor:
        return torch.randn(len(tokens), width, generator=generator, device=tokens.device)

    mean, axes, spread = components
    share = torch.rand(len(tokens), 1, generator=generator, device=tokens.device)
    ends = spread.clamp(min=1e-6).log()
    noise = (ends[-1] + share * (ends[0] - ends[-1]) + draw(len(spread))).exp()
    seen = (tokens.flatten(1).float() - mean) @ axes.T + noise * draw(len(spread))
    guessed = mean + (seen * spread**2 / (spread**2 + noise**2)) @ axes
    return guessed.to(tokens.dtype).view_as(tokens)
