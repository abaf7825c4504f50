"""An example of NSD's own layout: two subjects, volumes of both kinds and one surface."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io

from voxelight.neuro.evaluate.ceiling import find_ceiling
from voxelight.storage.formats.fmri.examples.example import RUNS, SESSIONS, Example, write_nifti, write_table
from voxelight.storage.formats.fmri.nsd import PICTURES, SCALE
from voxelight.storage.formats.fmri.nsd_design import DESIGN, STIMULI
from voxelight.storage.formats.fmri.surfaces import write_surface

PEOPLE, VERSION = ("subj01", "subj02"), "betas_fithrf"
N_PICTURES, N_SHARED = 73, 8


def number_pictures(example: Example) -> np.ndarray:
    """Return array (subject, stimulus), the number from 0 among all pictures; the first eight are shared."""
    seen = len(example.stimuli.ids)
    free = np.random.default_rng(73).permutation(N_PICTURES)
    own = seen - N_SHARED
    shared = np.sort(free[:N_SHARED])
    rows = [np.concatenate([shared, free[N_SHARED + own * row :][:own]]) for row in range(len(PEOPLE))]
    return np.stack(rows)


def write_nsd(folder: Path, example: Example) -> None:
    """Write ``nsddata``, ``nsddata_betas`` and ``nsddata_stimuli``; the second subject holds the first one's betas."""
    numbers = number_pictures(example)
    _write_design(folder, example, numbers)
    _write_pictures(folder / PICTURES, example, numbers)
    visual = example.mask * (1 + np.arange(example.mask.size).reshape(example.mask.shape) % 7)
    for person in PEOPLE:
        regions = folder / "nsddata" / "ppdata" / person / "func1pt8mm" / "roi"
        write_nifti(regions / "nsdgeneral.nii.gz", example.mask.astype(np.int16))
        write_nifti(regions / "prf-visualrois.nii.gz", visual.astype(np.int16))
        place = folder / "nsddata_betas" / "ppdata" / person / "func1pt8mm" / VERSION
        ncsnr = np.zeros(example.mask.shape, dtype=np.float32)
        ncsnr[example.mask] = find_ceiling(example.betas).ncsnr
        write_nifti(place / "ncsnr.nii.gz", ncsnr)
        for number, rows in enumerate(example.sessions, start=1):
            stored = np.rint(example.volume(rows) * SCALE).astype(np.int16)
            if person == PEOPLE[0]:
                write_nifti(place / f"betas_session{number:02d}.nii.gz", stored)
            else:
                _write_hdf5(place / f"betas_session{number:02d}.hdf5", stored)
    _write_surface(folder / "nsddata_betas" / "ppdata" / PEOPLE[0] / "fsaverage" / VERSION, example)


def _write_hdf5(path: Path, stored: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        reverse = np.ascontiguousarray(stored.T)  # as MATLAB's order shows in HDF5
        file.create_dataset("betas", data=reverse, chunks=(reverse.shape[0], 1, 1, 1))


def _write_surface(folder: Path, example: Example) -> None:
    folder.mkdir(parents=True)
    half = example.betas.values.shape[1] // 2
    for number, rows in enumerate(example.sessions, start=1):
        for side, part in (("lh", slice(None, half)), ("rh", slice(half, None))):
            write_surface(folder / f"{side}.betas_session{number:02d}.mgh", example.betas.values[rows, part])


def _write_design(folder: Path, example: Example, numbers: np.ndarray) -> None:
    (folder / DESIGN).parent.mkdir(parents=True, exist_ok=True)
    trials = len(example.sessions[0])
    pattern = np.zeros((SESSIONS, RUNS, trials), dtype=np.uint8)
    pattern[:, :, : trials // RUNS] = 1
    matrices = {
        "masterordering": example.shown[None] + 1,
        "subjectim": numbers + 1,
        "sharedix": numbers[:1, :N_SHARED] + 1,
        "stimpattern": pattern,
    }
    scipy.io.savemat(folder / DESIGN, {name: np.asarray(each, dtype=np.float64) for name, each in matrices.items()})
    shared = np.isin(np.arange(N_PICTURES), numbers[0, :N_SHARED])
    rows = [(number, 1000 + number, "train2017", number, bool(flag)) for number, flag in enumerate(shared)]
    write_table(folder / STIMULI, ("", "cocoId", "cocoSplit", "nsdId", "shared1000"), rows, ",")


def _write_pictures(path: Path, example: Example, numbers: np.ndarray) -> None:
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        shape = (N_PICTURES, *example.pixels.shape[1:])
        brick = file.create_dataset("imgBrick", shape=shape, dtype=np.uint8, chunks=(1, *shape[1:]))
        for row in numbers:
            for number, picture in zip(row.tolist(), example.pixels, strict=True):
                brick[number] = picture
