"""Write an example of a layout, so that people and tests can see the format."""

from collections.abc import Callable
from pathlib import Path

from voxelight.models.errors import Conflict, NotFound
from voxelight.storage.formats.fmri.examples import community, images, nsd, tables
from voxelight.storage.formats.fmri.examples.example import MARK, NOTICE, Example, make_example

WRITERS: dict[str, Callable[[Path, Example], None]] = {
    "nsd": nsd.write_nsd,
    "mindeye2": community.write_mindeye2,
    "mindeye1": community.write_mindeye1,
    "brain-diffuser": community.write_brain_diffuser,
    "laion-fmri": images.write_laion,
    "glmsingle": tables.write_glmsingle,
    "haxby": images.write_haxby,
    "surface": images.write_surface_events,
    "nifti": images.write_nifti_events,
    "npy": tables.write_npy,
    "bdata": tables.write_bdata,
    "hdf5": tables.write_hdf5,
    "mat": tables.write_mat,
}


def write_example(layout: str, folder: Path, seed: int = 0) -> Example:
    """Write a small simulated subject in a layout; the folder says that it is simulated.

    Parameters
    ----------
    layout : a key of `WRITERS`; `voxelight simulate` writes the layout ``simulated``
    folder : new or empty
    seed : of the simulation

    Returns
    -------
    Example
        What was written.

    Raises
    ------
    NotFound
        No example is known of the layout.
    Conflict
        The folder holds something.
    """
    if layout not in WRITERS:
        raise NotFound(f"no example of the layout {layout!r}", f"one of {', '.join(WRITERS)}", "Correct the name.")
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder}, which holds something", "a new or empty folder", "Name another folder.")
    example = make_example(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text(NOTICE, encoding="utf-8")
    WRITERS[layout](folder, example)
    return example
