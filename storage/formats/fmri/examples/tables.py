"""Examples of layouts that are tables: NumPy, HDF5, MATLAB, BData and what GLMsingle writes."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from voxelight.storage.formats.fmri.examples.example import SHAPE, Example, write_nifti, write_pictures, write_trials
from voxelight.storage.formats.fmri.glmsingle import STEM


def write_npy(folder: Path, example: Example) -> None:
    """Write ``betas.npy`` with ``trials.tsv`` and pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "betas.npy", example.betas.values, allow_pickle=False)
    write_trials(folder / "trials.tsv", example)
    write_pictures(folder / "pictures", example)


def write_hdf5(folder: Path, example: Example) -> None:
    """Write one HDF5 file that holds betas, labels and pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "betas.h5", "w") as file:
        file.attrs.update({"subject": "01", "simulated": True})
        file.create_dataset("betas", data=example.betas.values, chunks=True)
        file["stimulus"] = example.betas.stimulus_ids.tolist()
        for name in ("session", "run", "group"):
            file[name] = example.betas.labels[name].tolist()
        file["images"], file["image_ids"] = example.pixels, example.stimuli.ids.tolist()


def write_mat(folder: Path, example: Example) -> None:
    """Write a MATLAB file as Miyawaki et al. (2008) are passed on: square grey pictures, read down their columns."""
    folder.mkdir(parents=True, exist_ok=True)
    grey = example.stimuli.images.mean(-1)[example.shown]
    rows = grey.transpose(0, 2, 1).reshape(len(grey), -1)
    parts = {"Trn": np.concatenate(example.sessions[:-1]), "Test": example.sessions[-1]}
    matrices: dict[str, NDArray[np.float64]] = {}
    for part, trials in parts.items():
        matrices |= {f"fmri{part}": example.betas.values[trials].astype(np.float64), f"stim{part}": rows[trials]}
        matrices[f"label{part}"] = example.shown[trials, None].astype(np.float64)
    scipy.io.savemat(folder / "betas.mat", matrices)


def write_bdata(folder: Path, example: Example) -> None:
    """Write a BData file as bdpy does, with pictures beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    values = example.betas.values
    voxels, columns = values.shape[1], values.shape[1] + 3
    names = example.stimuli.ids.tolist()
    design = np.column_stack(
        [
            [int(label[-2:]) for label in example.betas.labels["session"].tolist()],
            [int(label[-2:]) for label in example.betas.labels["run"].tolist()],
            example.shown + 1,
        ]
    )
    keys = ("VoxelData", "ROI_V1", "Session", "Run", "stimulus_name")
    flags = np.full((len(keys), columns), np.nan)
    flags[0, :voxels], flags[1, : voxels // 2] = 1, 1
    for place, row in enumerate((2, 3, 4)):
        flags[row, voxels + place] = 1
    with h5py.File(folder / "sub-01.h5", "w") as file:
        file["dataset"] = np.concatenate([values.astype(np.float64), design], axis=1)
        file["metadata/key"] = [key.encode() for key in keys]
        file["metadata/description"] = [f"1 = {key}".encode() for key in keys]
        file["metadata/value"] = flags
        for number, name in enumerate(names, start=1):
            file[f"vmap/stimulus_name/{float(number)}"] = name.encode()
    write_pictures(folder / "pictures", example)


def write_glmsingle(folder: Path, example: Example) -> None:
    """Write what GLMsingle gives with wanthdf5 in Python (sub-01) and in MATLAB (sub-02), with the trials it lacks."""
    whole = example.volume(np.arange(len(example.betas.values)))
    explained = np.zeros(SHAPE, dtype=np.float32)
    explained[example.mask] = 50
    for subject, suffix in (("sub-01", ".hdf5"), ("sub-02", ".mat")):
        place = folder / subject
        write_nifti(place / "mask.nii.gz", example.mask.astype(np.uint8))
        write_trials(place / "trials.tsv", example)
        turn = np.transpose if suffix == ".mat" else np.asarray  # MATLAB's order shows reversed
        for name, arrays in (
            (STEM, {"betasmd" if suffix == ".hdf5" else "modelmd": whole, "R2": explained}),
            ("DESIGNINFO", {"stimorder": example.shown.astype(np.float64)}),
        ):
            head = 512 if suffix == ".mat" else 0
            with h5py.File(place / f"{name}{suffix}", "w", userblock_size=head) as file:
                for key, array in arrays.items():
                    file.create_dataset(key, data=np.ascontiguousarray(turn(array)))
            if head:
                with (place / f"{name}{suffix}").open("r+b") as raw:
                    raw.write(b"MATLAB 7.3 MAT-file, an example".ljust(116) + b"\0" * 8 + b"\0\2IM")
    write_pictures(folder / "pictures", example)
