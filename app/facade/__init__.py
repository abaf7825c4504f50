"""Voxelight: brain activity to images, medical images to label maps. Not for clinical use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxelight.app.notebook import decode, segment

__all__ = ["decode", "segment"]


def __getattr__(name: str) -> Any:
    # Looked up on first use, so that `import voxelight` costs no torch.
    if name in __all__:
        return getattr(import_module("voxelight.app.notebook"), name)
    raise AttributeError(f"module 'voxelight' has no attribute {name!r}")
