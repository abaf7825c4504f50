"""Weights of backbones, trained on ImageNet by torchvision's authors: read from its cache, else fetched to it."""

from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from torch import Tensor

from voxelight.models.errors import Conflict, Unavailable


def read_backbone_weights(name: str) -> dict[str, Tensor]:
    """Return the weights of a network of torchvision.

    ImageNet's terms (non-commercial research) may reach weights trained on it.

    Parameters
    ----------
    name : of the network, such as ``resnet50``

    Raises
    ------
    Unavailable
        The file is not in the cache, and can't be fetched.
    Conflict
        What was fetched is another file than was published.
    """
    import torchvision.models as torchvision_models

    row: Any = torchvision_models.get_model_weights(name).DEFAULT
    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(row.url).path).name
    try:
        found: dict[str, Tensor] = row.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError) as error:
        raise Unavailable(
            f"no {place}, and no way to fetch it ({error})",
            f"the ImageNet weights of {name}",
            "Copy the file there from a machine with a network, or train with pretrained = false.",
        ) from error
    except RuntimeError as error:
        raise Conflict(f"another file: {error}", f"the published weights of {name}", "Fetch them again.") from error
    return found
