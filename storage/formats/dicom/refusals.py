"""Series that our reader refuses, and another program may read."""

from voxelight.models.errors import BadInput


class Convertible(BadInput):
    """A series that our reader refuses and dcm2niix may make something of."""


class Uneven(Convertible):
    """A series whose slices lie on no grid, so that only what was resampled is any use."""
