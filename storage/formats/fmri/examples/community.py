"""Examples of what the community passes on of NSD: MindEye1, MindEye2 and brain-diffuser."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxelight.neuro.betas import average_repeats
from voxelight.storage.formats.fmri import mindeye2
from voxelight.storage.formats.fmri.examples.example import RUNS, SESSIONS, Example
from voxelight.storage.formats.fmri.examples.nsd import N_PICTURES, N_SHARED, number_pictures

_JPEG_SIDE = 64  # larger than the pictures, so that JPEG loses little


def write_mindeye2(folder: Path, example: Example) -> None:
    """Write tars of behaviour, the table of betas, pictures of 224 pixels and the list of shared ones."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = number_pictures(example)[0]
    behaviour = _make_behaviour(example, numbers)
    shared = behaviour[:, mindeye2.SHARED] == 1
    for session in range(1, SESSIONS + 1):
        rows = np.flatnonzero(~shared & (behaviour[:, mindeye2.SESSION] == session))
        _write_tar(folder / "wds" / "subj01" / "train" / f"{session - 1}.tar", behaviour[rows])
    _write_tar(folder / "wds" / "subj01" / "new_test" / "0.tar", behaviour[shared])
    values = np.empty_like(example.betas.values)
    for rows in example.sessions:
        part = example.betas.values[rows]
        values[rows] = (part - part.mean(0)) / part.std(0)
    with h5py.File(folder / "betas_all_subj01_fp32_renorm.hdf5", "w") as file:
        file.create_dataset("betas", data=values)
    pictures = np.zeros((N_PICTURES, 3, 224, 224), dtype=np.float16)
    side = 224 // example.stimuli.images.shape[1]
    large = example.stimuli.images.repeat(side, axis=1).repeat(side, axis=2)
    with h5py.File(folder / mindeye2.PICTURES, "w") as file:
        stack = file.create_dataset("images", shape=pictures.shape, dtype=np.float16, chunks=(1, 3, 224, 224))
        for number, picture in zip(numbers.tolist(), large, strict=True):
            stack[number] = picture.transpose(2, 0, 1).astype(np.float16)
    np.save(folder / mindeye2.SHARED_FILE, np.isin(np.arange(N_PICTURES), numbers[:N_SHARED]))


def _make_behaviour(example: Example, numbers: NDArray[np.intp]) -> NDArray[np.float64]:
    trials = len(example.shown)
    rows = np.full((trials, mindeye2.COLUMNS), -1.0)
    each = len(example.sessions[0])
    rows[:, mindeye2.PICTURE] = numbers[example.shown]
    rows[:, mindeye2.SUBJECT] = 1
    rows[:, mindeye2.SESSION] = np.arange(trials) // each + 1
    rows[:, mindeye2.RUN] = (np.arange(trials) % each) // (each // RUNS) + 1
    rows[:, mindeye2.TRIAL] = np.arange(trials) % (each // RUNS) + 1
    rows[:, mindeye2.GLOBAL_TRIAL] = np.arange(trials)
    rows[:, mindeye2.SHARED] = example.shown < N_SHARED
    return rows


def _write_tar(path: Path, behaviour: NDArray[np.float64]) -> None:
    samples = {f"sample{int(row[mindeye2.GLOBAL_TRIAL]):09d}": {"behav.npy": _as_npy(row[None])} for row in behaviour}
    write_samples(path, samples)


def write_mindeye1(folder: Path, example: Example) -> None:
    """Write tars of one sample a picture: shared ones are the test part, two others validate."""
    numbers = number_pictures(example)[0]
    parts = {"test": range(N_SHARED), "val": range(N_SHARED, N_SHARED + 2), "train": range(N_SHARED + 2, len(numbers))}
    for part, stimuli in parts.items():
        samples = {f"sample{place:06d}": _make_sample(example, numbers, row) for place, row in enumerate(stimuli)}
        write_samples(folder / "webdataset_avg_split" / part / f"{part}_subj01_0.tar", samples)


def _make_sample(example: Example, numbers: NDArray[np.intp], row: int) -> dict[str, bytes]:
    trials = np.flatnonzero(example.shown == row)
    few = trials[: 2 if row == len(numbers) - 1 else 3]  # the last picture was seen twice: one repeat stands twice
    filled = np.concatenate([few, few])[:3]
    jpeg = io.BytesIO()
    side = (_JPEG_SIDE, _JPEG_SIDE)
    Image.fromarray(example.pixels[row]).resize(side, Image.Resampling.NEAREST).save(jpeg, "JPEG", quality=95)
    return {
        "jpg": jpeg.getvalue(),
        "nsdgeneral.npy": _as_npy(example.betas.values[filled]),
        "coco73k.npy": _as_npy(np.array([numbers[row]])),
        "num_uniques.npy": _as_npy(np.array([len(few)])),
        "trial.npy": _as_npy(filled),
    }


def write_brain_diffuser(folder: Path, example: Example) -> None:
    """Write averages and pictures of the training part and of the shared pictures, which are the test part."""
    folder.mkdir(parents=True, exist_ok=True)
    means = average_repeats(example.betas)
    order = {name: row for row, name in enumerate(means.stimulus_ids.tolist())}
    rows = np.array([order[name] for name in example.stimuli.ids.tolist()])
    for part, chosen in (("train", slice(N_SHARED, None)), ("test", slice(None, N_SHARED))):
        np.save(folder / f"nsd_{part}_fmriavg_nsdgeneral_sub1.npy", means.values[rows[chosen]])
        np.save(folder / f"nsd_{part}_stim_sub1.npy", example.pixels[chosen])


def write_samples(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> None:
    """Write a WebDataset tar: key -> part -> bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for key, parts in samples.items():
            for name, content in parts.items():
                member = tarfile.TarInfo(f"{key}.{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def _as_npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
