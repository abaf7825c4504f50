"""The positions by which transformers' embeddings number their tokens."""

import torch
from torch import nn


def keep_positions(embeddings: nn.Module, count: int) -> None:
    """Give embeddings their positions anew, tensor (1, count), on the CPU.

    They are not stored in a checkpoint, so a network built without memory would lose them.

    Parameters
    ----------
    embeddings : of a network of transformers
    count : tokens of the longest sequence
    """
    embeddings.register_buffer("position_ids", torch.arange(count, device="cpu")[None], persistent=False)
