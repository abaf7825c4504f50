"""A small simulated session of BOLD as fMRIPrep leaves it beside its BIDS data set, with the pictures seen."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voxelight.models.errors import Conflict
from voxelight.neuro.glm.design import Run
from voxelight.neuro.glm.simulate import BoldOptions, SimulatedBold, simulate_bold
from voxelight.storage.formats.fmri.examples.example import MARK, NOTICE
from voxelight.storage.formats.images import write_png
from voxelight.storage.formats.maps import encode_map
from voxelight.storage.formats.streams import replacing

SIDE = 6  # pixels of a picture
SHAPE = (8, 7, 4)
AFFINE = np.array([[-2.0, 0, 0, 8], [0, 2.0, 0, -7], [0, 0, 2.0, -4], [0, 0, 0, 1]])
OPTIONS = BoldOptions(voxels=160, runs=4, trials=30, stimuli=30, noise=1.2, answering=0.6, shared=0.4, rank=3)
TASK, SUBJECT, SESSION = "pictures", "01", "01"
_MOTION = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]


def write_bold_example(
    folder: Path, seed: int = 0, options: BoldOptions = OPTIONS
) -> tuple[SimulatedBold, NDArray[np.bool_]]:
    """Write a session: BIDS with events and pictures, derivatives with BOLD, mask and confounds; all is simulated.

    Voxels that answer add up the pixels of a picture, black or white, each with weights of its own.

    Parameters
    ----------
    folder : new or empty
    seed : of the simulation
    options : BoldOptions, of fewer voxels than the grid has

    Returns
    -------
    SimulatedBold; array (i, j, k), bool, the mask in the axes of the files

    Raises
    ------
    Conflict
        The folder holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder}, which holds something", "a new or empty folder", "Name another folder.")
    random = np.random.default_rng(seed)
    pictures = (random.random((options.stimuli, SIDE, SIDE, 1)) > 0.5).astype(np.float32)
    weights = random.standard_normal((SIDE * SIDE, options.voxels)) * 2 / SIDE
    made = simulate_bold(seed, options, 1 + (pictures.reshape(options.stimuli, -1) - 0.5) @ weights * options.beta)
    mask = np.zeros(SHAPE, dtype=bool)
    mask.flat[random.permutation(mask.size)[: options.voxels]] = True
    for name, picture in zip(sorted({*_list_stimuli(made)}), pictures, strict=True):
        (folder / "stimuli").mkdir(parents=True, exist_ok=True)
        write_png(folder / "stimuli" / f"{name}.png", picture)
    _write(folder / MARK, NOTICE.encode())
    _write_json(folder / "dataset_description.json", {"Name": "Simulated BOLD", "BIDSVersion": "1.10.0"})
    for number, run in enumerate(made.runs, start=1):
        stem = f"sub-{SUBJECT}_ses-{SESSION}_task-{TASK}_run-{number}"
        _write_run(folder, stem, run, mask, random)
    return made, mask


def _list_stimuli(made: SimulatedBold) -> Sequence[str]:
    return [name for run in made.runs for name in run.events.stimulus_ids.tolist()]


def _write_run(folder: Path, stem: str, run: Run, mask: NDArray[np.bool_], random: np.random.Generator) -> None:
    raw = folder / f"sub-{SUBJECT}" / f"ses-{SESSION}" / "func"
    derived = folder / "derivatives" / "fmriprep" / f"sub-{SUBJECT}" / f"ses-{SESSION}" / "func"
    events = run.events
    _write_table(
        raw / f"{stem}_events.tsv",
        {
            "onset": [f"{onset:.3f}" for onset in events.onsets],
            "duration": [f"{duration:.3f}" for duration in events.durations],
            "stim_file": [f"{name}.png" for name in events.stimulus_ids],
        },
    )
    bold = np.zeros((*SHAPE, run.timing.volumes), dtype=np.float32)
    # Betas and maps go by the order of the RAS+ volume; the file is stored from left to right mirrored.
    bold[::-1][mask[::-1]] = run.bold.T
    space = f"{stem}_space-T1w"
    _write_image(derived / f"{space}_desc-preproc_bold.nii.gz", bold, run.timing.repetition_s)
    _write_image(derived / f"{space}_desc-brain_mask.nii.gz", mask.astype(np.uint8))
    told = {"RepetitionTime": run.timing.repetition_s, "StartTime": run.timing.start_s, "SliceTimingCorrected": True}
    _write_json(derived / f"{space}_desc-preproc_bold.json", told | {"TaskName": TASK})
    noise = random.standard_normal((len(_MOTION), run.timing.volumes)) * 0.01
    confounds = {name: [f"{value:.6f}" for value in row] for name, row in zip(_MOTION, noise, strict=True)}
    _write_table(derived / f"{stem}_desc-confounds_timeseries.tsv", confounds)


def _write_table(path: Path, columns: Mapping[str, Sequence[str]]) -> None:
    rows = zip(*columns.values(), strict=True)
    _write(path, "".join("\t".join(row) + "\n" for row in [tuple(columns), *rows]).encode())


def _write_image(path: Path, array: NDArray[Any], repetition_s: float | None = None) -> None:
    image = nib.Nifti1Image(array, AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    if repetition_s is not None:
        image.header["pixdim"][4] = repetition_s
    for code in ("set_sform", "set_qform"):
        getattr(image, code)(AFFINE, "scanner")
    _write(path, encode_map(image))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write(path, f"{json.dumps(content, indent=2)}\n".encode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)
