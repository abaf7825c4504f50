"""The average head that nilearn ships: ICBM 152 nonlinear symmetric 2009a (Fonov et al. 2011), with its tissues."""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from voxelight.models.errors import Unavailable
from voxelight.storage.formats.nifti import read_volume

if TYPE_CHECKING:
    from voxelight.medseg.head import HeadTemplate

_NAME = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_FULL = 255  # stored as bytes


def find_template(tissue: str = "t1") -> Path:
    """Return a file of the template: ``t1``, or the share of grey (``gm``) or white matter (``wm``).

    Raises
    ------
    Unavailable
        The package nilearn or the file in it is missing.
    """
    spec = find_spec("nilearn")  # found, not imported: that takes a second
    path = Path(spec.origin).parent / "datasets" / "data" / _NAME.format(tissue) if spec and spec.origin else None
    if path is None or not path.is_file():
        raise Unavailable("no template in the package nilearn", "nilearn 0.14", "Install Voxelight again.")
    return path


@lru_cache(maxsize=1)
def read_template() -> "HeadTemplate":
    """Read the template with its tissues; kept, since every head is aligned to the same one.

    Raises
    ------
    Unavailable
        It is not here.
    """
    from voxelight.medseg.head import HeadTemplate

    grey, white = (read_volume(find_template(tissue)).array[0] / _FULL for tissue in ("gm", "wm"))
    return HeadTemplate(read_volume(find_template()), grey, white)
