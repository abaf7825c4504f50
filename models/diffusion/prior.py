"""The diffusion prior: from the brain's tokens to image tokens (Scotti et al. 2024)."""

import math
from collections.abc import Callable
from functools import partial

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from voxelight.models.diffusion.constants import Constants
from voxelight.models.diffusion.prior_network import PriorNetwork
from voxelight.models.diffusion.schedules import cosine_buffers, ddim_time_pairs
from voxelight.models.errors import BadInput

OnStep = Callable[[int, int], None]


class PriorConfig(BaseModel):
    """Sizes of a prior; the defaults are the released ones of MindEye2.

    Parameters
    ----------
    dim, tokens : width and number of the tokens
    depth, heads, dim_head : of the transformer
    timesteps : T of the cosine schedule
    image_scale : factor on the image tokens while they are diffused: 1 in MindEye2, the root of `dim` in MindEye1
    to_out_eps : eps of the norm that ends every attention
        The released weights were trained where that norm, and no other, saw half precision and so used 1e-3.
    brain_drop, image_drop : share of samples of a training batch that lose the one or the other
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(1664, ge=4, multiple_of=2)
    depth: PositiveInt = 6
    dim_head: int = Field(52, ge=2, multiple_of=2)
    heads: PositiveInt = 32
    tokens: PositiveInt = 256
    timesteps: PositiveInt = 100
    image_scale: PositiveFloat = 1.0
    to_out_eps: PositiveFloat = 1e-3
    brain_drop: float = Field(0.2, ge=0, lt=1)
    image_drop: float = Field(0.2, ge=0, lt=1)

    def check_tokens(self, tokens: int, dim: int) -> None:
        """Refuse a decoder whose tokens are not the prior's.

        Raises
        ------
        ValueError
            Their number or width differs.
        """
        if (self.tokens, self.dim) != (tokens, dim):
            raise ValueError(f"the prior has {self.tokens} tokens of {self.dim}, the decoder {tokens} of {dim}")

    def build(self) -> "DiffusionPrior":
        """Return the prior with fresh weights."""
        return DiffusionPrior(self)


class DiffusionPrior(nn.Module):
    """Gaussian diffusion of image tokens given the brain's, by a network that predicts the clean tokens.

    Whatever the type of the weights, the schedule and the state of the solver are float32.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.net = PriorNetwork(
            config.dim, config.tokens, config.depth, config.heads, config.dim_head, config.to_out_eps
        )
        self.noise_scheduler = Constants(partial(cosine_buffers, config.timesteps))

    def noised(self, image: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        r"""Return :math:`x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon` (Ho et al. 2020, eq. 4).

        Parameters
        ----------
        image : tensor (b, token, dim), already times `image_scale`
        times : tensor (b,), int64, 0 to T - 1
        noise : tensor (b, token, dim)
        """
        keep = self.noise_scheduler.get_buffer("sqrt_alphas_cumprod")[times][:, None, None]
        spread = self.noise_scheduler.get_buffer("sqrt_one_minus_alphas_cumprod")[times][:, None, None]
        return keep * image + spread * noise

    def loss(
        self,
        brain: Tensor,
        image: Tensor,
        times: Tensor,
        noise: Tensor,
        brain_keep: Tensor | None = None,
        image_keep: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the mean squared error of the predicted clean tokens, and the prediction.

        Parameters
        ----------
        brain, image : tensor (b, token, dim), condition and target
        times : tensor (b,), int64, uniform over 0 to T - 1
        noise : tensor (b, token, dim), standard normal
        brain_keep, image_keep : tensor (b,), bool; see `draw_keep`

        Returns
        -------
        scalar and tensor (b, token, dim), both in the scale that `image_scale` gives
        """
        target = image.float() * self.config.image_scale
        predicted = self.net(self.noised(target, times, noise), times, brain, brain_keep, image_keep).float()
        return F.mse_loss(predicted, target), predicted

    def draw_keep(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw which samples keep the brain's and the image's tokens, each by itself: two tensors (b,), bool."""
        brain, image = torch.rand(2, batch, generator=generator, device=generator.device)
        return brain >= self.config.brain_drop, image >= self.config.image_drop

    @torch.no_grad()
    def sample(
        self,
        brain: Tensor,
        noise: Callable[[int], Tensor],
        steps: int = 20,
        guidance: float = 1.0,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Draw image tokens.

        With fewer steps than T, the published DDIM path: ``steps - 1`` calls of the network, eta 1. With T steps, DDPM.

        Parameters
        ----------
        brain : tensor (b, token, dim)
        noise : gives the k-th draw, tensor (b, token, dim): 0 is the start, k follows the k-th call
        steps : 2 to T
        guidance : 1 is the condition alone
        on_step : called with (calls done, calls in all) before each call; what it raises stops the sampling

        Returns
        -------
        tensor (b, token, dim), float32

        Raises
        ------
        BadInput
            The tokens have another shape, or the number of steps is out of range.
        """
        config = self.config
        self._check(brain)
        path = Ddpm(self.noise_scheduler) if steps == config.timesteps else Ddim(self.noise_scheduler, steps)
        x = noise(0).float()
        for done, (time, after) in enumerate(path.pairs):
            if on_step is not None:
                on_step(done, len(path.pairs))
            times = torch.full((len(x),), time, dtype=torch.int64, device=x.device)
            clean = self.net.guided(x, times, brain, guidance).float()
            x = path.mean(x, clean, time, after)
            spread = path.spread(time, after)
            if spread > 0:
                x = x + spread * noise(done + 1).float()
        return x / config.image_scale

    @torch.no_grad()
    def expect(self, brain: Tensor) -> Tensor:
        """Return the image tokens to be expected from the brain's, by one call of the network without an image.

        A share `image_drop` of the training asks for these; they are the mean of what `sample` draws from, and so
        smoother than the tokens of any image.

        Parameters
        ----------
        brain : tensor (b, token, dim)

        Returns
        -------
        tensor (b, token, dim), float32

        Raises
        ------
        BadInput
            The tokens have another shape.
        """
        self._check(brain)
        nothing = torch.zeros(len(brain), dtype=torch.bool, device=brain.device)
        # Without an image the time tells nothing.
        times = torch.full((len(brain),), self.config.timesteps // 2, dtype=torch.int64, device=brain.device)
        clean: Tensor = self.net(torch.zeros_like(brain), times, brain, None, nothing)
        return clean.float() / self.config.image_scale

    def _check(self, brain: Tensor) -> None:
        config = self.config
        if brain.shape[1:] != (config.tokens, config.dim):
            raise BadInput(
                f"brain tokens of shape {tuple(brain.shape)}",
                f"(b, {config.tokens}, {config.dim})",
                "Use the prior of the token space that the decoder was trained for.",
            )


class Ddim:
    r"""The published path with eta = 1 (Song et al. 2021, eq. 12).

    As published, the update reads the schedule one step early, :math:`a = \bar\alpha_{t-1}`, and only the estimate of
    the noise reads it in place:

    .. math:: \epsilon = \frac{x / \sqrt{\bar\alpha_t} - x_0}{\sqrt{1 / \bar\alpha_t - 1}}, \quad
        c_1 = \sqrt{\frac{(1 - a / a')(1 - a')}{1 - a}}, \quad
        x' = \sqrt{a'}\, x_0 + \sqrt{1 - a' - c_1^2}\, \epsilon + c_1 n
    """

    def __init__(self, schedule: Constants, steps: int) -> None:
        self.previous: list[float] = schedule.get_buffer("alphas_cumprod_prev").tolist()
        self.recip: list[float] = schedule.get_buffer("sqrt_recip_alphas_cumprod").tolist()
        self.recipm1: list[float] = schedule.get_buffer("sqrt_recipm1_alphas_cumprod").tolist()
        self.pairs = ddim_time_pairs(steps, len(self.previous))

    def spread(self, time: int, after: int) -> float:
        """Return the factor of the fresh noise."""
        if after <= 0:
            return 0.0
        a, b = self.previous[time], self.previous[after]
        return math.sqrt((1 - a / b) * (1 - b) / (1 - a))

    def mean(self, x: Tensor, clean: Tensor, time: int, after: int) -> Tensor:
        """Return the next x without its noise."""
        if after < 0:
            return clean
        eps = (self.recip[time] * x - clean) / self.recipm1[time]
        kept = max(0.0, 1 - self.previous[after] - self.spread(time, after) ** 2)
        return math.sqrt(self.previous[after]) * clean + math.sqrt(kept) * eps


class Ddpm:
    """Every step of the posterior with its clipped variance (Ho et al. 2020, eqs. 6 and 7)."""

    def __init__(self, schedule: Constants) -> None:
        self.coef1: list[float] = schedule.get_buffer("posterior_mean_coef1").tolist()
        self.coef2: list[float] = schedule.get_buffer("posterior_mean_coef2").tolist()
        self.log_variance: list[float] = schedule.get_buffer("posterior_log_variance_clipped").tolist()
        self.pairs = [(time, time - 1) for time in reversed(range(len(self.coef1)))]

    def spread(self, time: int, after: int) -> float:
        """Return the factor of the fresh noise; the last step has none."""
        return 0.0 if after < 0 else math.exp(self.log_variance[time] / 2)

    def mean(self, x: Tensor, clean: Tensor, time: int, after: int) -> Tensor:
        """Return the next x without its noise."""
        return self.coef1[time] * clean + self.coef2[time] * x
