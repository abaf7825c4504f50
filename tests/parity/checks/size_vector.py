"""Vector conditions of fixed sizes."""

import re

from checks.cases import Kind
from checks.files import Fixture
from torch import Tensor

from voxelight.models.diffusion.unet import size_vector

# The file states its sizes in words only: original size, crop, and for SDXL base the target size.
SIZES = {"unclip": (768, 768, 0, 0), "sdxl_base": (768, 768, 0, 0, 1024, 1024)}


def run_sizes(_: Fixture, match: re.Match[str]) -> Tensor:
    return size_vector(*SIZES[match["network"]])


# The published frequencies are float32 exponentials, whose last bit differs between processors (Intel's library chooses
# its code by the processor); the largest size multiplies it. Measured between its paths: 3e-5 to 5e-5.
LAST_BIT = 1024 * 2.0**-24

KIND = Kind(
    outputs={r"out\.(?P<network>unclip|sdxl_base)_vector_suffix": run_sizes}, fixed={"outdim": 256}, rounding=LAST_BIT
)
