"""Whether this machine can build the kernels that Triton generates."""

import os
import shutil
from importlib.util import find_spec


def can_compile() -> bool:
    """Return whether Triton is here, and the C compiler that it calls; images made for running may lack one."""
    compilers = ("gcc", "clang", "cc")
    found = "CC" in os.environ or any(map(shutil.which, compilers))
    return found and find_spec("triton") is not None
