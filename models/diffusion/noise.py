"""Noise by seed: the same numbers for an image on every device, in any batch, whichever stages ran before."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor


def stage_generator(seed: int, stage: str) -> np.random.Generator:
    """Return the generator of one image at one stage.

    The key is SHA-256 of ``"<seed>:<stage>"``, its first 128 bits, so that neighbouring seeds and stages share nothing.

    Parameters
    ----------
    seed : the image's seed, any integer
    stage : what draws, "prior" for one

    Returns
    -------
    counter-based generator (Salmon et al. 2011, Philox 4x64)
    """
    digest = sha256(f"{int(seed)}:{stage}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


class SeededNoise:
    """Standard normal draws, each image from a generator of its own.

    Parameters
    ----------
    seeds : one for each image of the batch
    stage : what draws, "prior" for one; another stage of the same image draws other numbers
    device : where the draws are moved to
    dtype : what the draws, made as float32 on the CPU, are rounded to
    """

    def __init__(
        self,
        seeds: Sequence[int],
        stage: str,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._generators = [stage_generator(seed, stage) for seed in seeds]
        self._device = torch.device(device)
        self._dtype = dtype

    def draw(self, *shape: int) -> Tensor:
        """Return the next draw of every image.

        Parameters
        ----------
        shape : sizes of one image's draw

        Returns
        -------
        (image, *shape)
        """
        drawn = np.empty((len(self._generators), *shape), np.float32)

        def fill(image: int) -> None:
            self._generators[image].standard_normal(out=drawn[image, ...], dtype=np.float32)

        workers = min(len(self._generators), os.cpu_count() or 1)
        if workers < 2 or drawn[0].size < 2**14:  # threads cost more than a small draw
            for image in range(len(self._generators)):
                fill(image)
        else:
            with ThreadPoolExecutor(workers) as threads:
                list(threads.map(fill, range(len(self._generators))))
        return torch.from_numpy(drawn).to(self._device, self._dtype)
