"""One small simulated subject, of which the example of every layout is written."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxelight.models.values import Betas, Stimuli
from voxelight.neuro.simulate import SimulationOptions, simulate_subject
from voxelight.storage.formats.fmri.trials import name_runs
from voxelight.storage.formats.images import write_png
from voxelight.storage.formats.maps import encode_map
from voxelight.storage.formats.streams import replacing

MARK = "SIMULATED"
NOTICE = "Simulated: nobody was scanned. An example of a layout. Not for clinical use.\n"
SHAPE = (5, 6, 7)  # three sides that differ, so that a wrong order of axes shows
SPACING_MM = 1.8
SESSIONS, RUNS = 3, 2
_OPTIONS = SimulationOptions(side=16, crops=2, n_voxels=60, sessions=SESSIONS, noise=0.3)


@dataclass(frozen=True, eq=False)
class Example:
    """What is written.

    Parameters
    ----------
    betas : Betas (trial, voxel), three sessions in each of which every stimulus is shown once
    stimuli : photographs, 16 pixels wide
    mask : array (i, j, k), bool, as many voxels as the betas have
    """

    betas: Betas
    stimuli: Stimuli
    mask: NDArray[np.bool_]

    @property
    def sessions(self) -> list[NDArray[np.intp]]:
        """Trials of each session."""
        column = self.betas.labels["session"]
        return [np.flatnonzero(column == session) for session in dict.fromkeys(column.tolist())]

    @property
    def shown(self) -> NDArray[np.intp]:
        """Array (trial,), the row of the stimulus that was shown."""
        place = {name: row for row, name in enumerate(self.stimuli.ids.tolist())}
        return np.array([place[name] for name in self.betas.stimulus_ids.tolist()])

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """Pictures as bytes (stimulus, row, column, channel)."""
        return np.rint(self.stimuli.images * 255).astype(np.uint8)

    def volume(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return some trials as volumes (i, j, k, trial), 0 outside the mask."""
        volume = np.zeros((*self.mask.shape, len(rows)), dtype=np.float32)
        volume[self.mask] = self.betas.values[rows].T
        return volume


@cache
def make_example(seed: int = 0) -> Example:
    """Simulate the subject: 24 crops of photographs, each shown once in each of three sessions, 60 voxels."""
    betas, stimuli = simulate_subject(seed, _OPTIONS)
    trials = len(stimuli.ids)
    runs = np.tile(np.repeat(np.arange(1, RUNS + 1), -(-trials // RUNS))[:trials], SESSIONS)
    labels = betas.labels | {"run": name_runs(betas.labels["session"], runs)}
    inside = np.zeros(int(np.prod(SHAPE)), dtype=bool)
    inside[np.random.default_rng(seed).permutation(inside.size)[: betas.values.shape[1]]] = True
    return Example(replace(betas, labels=labels), stimuli, inside.reshape(SHAPE))


def write_nifti(path: Path, array: NDArray[Any]) -> None:
    """Write an array (i, j, k) or (i, j, k, trial) as ``.nii.gz`` in its own type, RAS+, 1.8 mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = [-4, -5, -6]
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    with replacing(path) as file:
        file.write(encode_map(image))


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = "\t") -> None:
    """Write a table with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def write_trials(path: Path, example: Example, rows: NDArray[np.intp] | None = None) -> None:
    """Write what was shown in each trial, with session and run."""
    betas = example.betas
    chosen = np.arange(len(betas.values)) if rows is None else rows
    columns = [betas.labels["session"][chosen], betas.labels["run"][chosen]]
    seen = [f"{name}.png" for name in betas.stimulus_ids[chosen].tolist()]
    write_table(path, ("session", "run", "stim_file"), zip(*(each.tolist() for each in columns), seen, strict=True))


def write_pictures(folder: Path, example: Example) -> None:
    """Write the pictures as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in zip(example.stimuli.ids.tolist(), example.pixels, strict=True):
        write_png(folder / f"{name}.png", picture)
