"""From the tokens of one image encoder to those that the caption model was trained on (Scotti et al. 2024)."""

from typing import cast

from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor, nn

from voxelight.models.errors import BadInput


class ConverterConfig(BaseModel):
    """Sizes of both sets of tokens; those of bigG and of GIT's ViT-L/14 by default.

    Parameters
    ----------
    tokens_in, dim_in : tokens of an image and their width, as the decoder predicts them
    tokens_out, dim_out : the same, as the caption model reads them
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens_in: PositiveInt = 256
    dim_in: PositiveInt = 1664
    tokens_out: PositiveInt = 257
    dim_out: PositiveInt = 1024

    def build(self) -> "TokenConverter":
        """Return the converter with fresh weights."""
        return TokenConverter(self)


class TokenConverter(nn.Module):
    r"""Two linear maps without an activation, first over the tokens of an image, then over their channels.

    .. math:: y = (W_1 x + b_1 1^T) W_2^T + 1 b_2^T

    Scotti et al., "MindEye2", 2024. The keys are those of the published file: ``linear1`` and ``linear2``.
    """

    def __init__(self, config: ConverterConfig) -> None:
        super().__init__()
        self.config = config
        self.linear1 = nn.Linear(config.tokens_in, config.tokens_out)
        self.linear2 = nn.Linear(config.dim_in, config.dim_out)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens as the caption model reads them.

        Parameters
        ----------
        tokens : tensor (b, tokens_in, dim_in)

        Returns
        -------
        tensor (b, tokens_out, dim_out)

        Raises
        ------
        BadInput
            The tokens have another shape.
        """
        c = self.config
        if tokens.ndim != 3 or tokens.shape[1:] != (c.tokens_in, c.dim_in):
            raise BadInput(
                f"tokens of shape {tuple(tokens.shape)}",
                f"(b, {c.tokens_in}, {c.dim_in})",
                "Give the tokens of the encoder that this converter was trained for.",
            )
        return cast(Tensor, self.linear2(self.linear1(tokens.mT).mT))
