"""Examples of layouts that stand on NIfTI and on surfaces."""

# mypy: disable-error-code="no-untyped-call"
# nibabel is typed in part

import json
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from nibabel.cifti2 import cifti2_axes

from voxelight.neuro.evaluate.ceiling import find_ceiling
from voxelight.storage.formats.fmri.examples.example import (
    SHAPE,
    Example,
    write_nifti,
    write_pictures,
    write_table,
    write_trials,
)
from voxelight.storage.formats.fmri.surfaces import write_surface

_TEST = 6  # stimuli of the test part of a split
CATEGORIES = ("bottle", "cat", "chair", "face")
_BLOCK, _REST, _RUNS, _LAG = 6, 4, 4, 2


def write_nifti_events(folder: Path, example: Example) -> None:
    """Write ``sub-01_betas.nii.gz`` with mask, events and pictures."""
    rows = np.arange(len(example.betas.values))
    write_nifti(folder / "sub-01_betas.nii.gz", example.volume(rows))
    write_nifti(folder / "sub-01_mask.nii.gz", example.mask.astype(np.uint8))
    write_trials(folder / "sub-01_events.tsv", example)
    write_pictures(folder / "pictures", example)


def write_laion(folder: Path, example: Example) -> None:
    """Write BIDS derivatives: betas and trials a session, R2mean, a noise ceiling, a mask, a split and pictures."""
    root = folder / "derivatives" / "glmsingle-tedana" / "sub-01"
    stem = "sub-01_task-images_space-T1w"
    filled = {"stat-rsquare_desc-R2mean": np.full(example.betas.values.shape[1], 0.5)}
    filled["desc-Noiseceiling3rep"] = 100 * find_ceiling(example.betas).explainable
    for name, values in filled.items():
        volume = np.zeros(SHAPE, dtype=np.float32)
        volume[example.mask] = values
        write_nifti(root / f"{stem}_{name}_statmap.nii.gz", volume)
    for number, rows in enumerate(example.sessions, start=1):
        visit = f"ses-{number:02d}"
        place, begin = root / visit / "func", f"sub-01_{visit}_task-images"
        volume = example.volume(rows)
        write_nifti(place / f"{begin}_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz", volume)
        runs = [label[-2:] for label in example.betas.labels["run"][rows].tolist()]
        seen = [f"{name}.jpg" for name in example.betas.stimulus_ids[rows].tolist()]
        table = zip([visit] * len(rows), runs, range(len(rows)), seen, strict=True)
        columns = ("session", "run", "beta_index", "label")
        write_table(place / f"{begin}_desc-SingletrialBetas_trials.tsv", columns, table)
    half = example.mask & (np.cumsum(example.mask).reshape(SHAPE) <= 30)
    mask = folder / "derivatives" / "rois" / "sub-01" / "visual" / "sub-01_space-T1w_res-1pt8_label-visual_mask.nii.gz"
    write_nifti(mask, half.astype(np.uint8))
    _write_laion_stimuli(folder, example)


def _write_laion_stimuli(folder: Path, example: Example) -> None:
    names = [f"{name}.jpg" for name in example.stimuli.ids.tolist()]
    (folder / "splits").mkdir(parents=True)
    split = {"train": names[_TEST:], "test": names[:_TEST]}
    (folder / "splits" / "random_0.json").write_text(json.dumps(split), encoding="utf-8")
    write_table(folder / "stimuli" / "task-images_metadata.csv", ("image_name",), [(name,) for name in names], ",")
    with h5py.File(folder / "stimuli" / "task-images_stimuli.h5", "w") as file:
        file.create_dataset("stimuli", data=example.pixels)


def write_surface_events(folder: Path, example: Example) -> None:
    """Write one subject as .mgh, one as GIFTI, one as CIFTI; all hold the same betas."""
    folder.mkdir(parents=True, exist_ok=True)
    values, half = example.betas.values, example.betas.values.shape[1] // 2
    for side, letter, part in (("lh", "L", slice(None, half)), ("rh", "R", slice(half, None))):
        write_surface(folder / f"{side}.sub-01_betas.mgh", values[:, part])
        write_surface(folder / f"sub-02_hemi-{letter}_space-fsaverage5_betas.func.gii", values[:, part])
    cortex = np.ones(half, dtype=bool)
    axis = cifti2_axes.BrainModelAxis.from_mask(cortex, "CortexLeft") + cifti2_axes.BrainModelAxis.from_mask(
        np.ones(values.shape[1] - half, dtype=bool), "CortexRight"
    )
    names = cifti2_axes.ScalarAxis([f"trial {row}" for row in range(len(values))])
    nib.save(nib.Cifti2Image(values, header=(names, axis)), folder / "sub-03_space-fsLR_betas.dscalar.nii")
    for number in (1, 2, 3):
        write_trials(folder / f"sub-{number:02d}_events.tsv", example)
    write_pictures(folder / "pictures", example)


def write_haxby(folder: Path, example: Example) -> None:
    """Write one subject as nilearn has it: BOLD of blocks of four categories in four runs, labels and a mask."""
    draw = np.random.default_rng(2001)
    voxels = int(example.mask.sum())
    patterns = draw.normal(size=(len(CATEGORIES), voxels))
    labels, bold = [], []
    for run in range(_RUNS):
        shown = [-1] * _REST
        for category in draw.permutation(len(CATEGORIES)).tolist():
            shown += [category] * _BLOCK + [-1] * _REST
        late = [-1] * _LAG + shown[:-_LAG]
        series = np.array([patterns[each] if each >= 0 else np.zeros(voxels) for each in late])
        drift = np.linspace(0, 3, len(shown))[:, None]
        bold.append(1000 + 20 * (series + drift + 0.7 * draw.normal(size=series.shape)))
        labels += [(CATEGORIES[each] if each >= 0 else "rest", run) for each in shown]
    volume = np.zeros((*SHAPE, len(labels)), dtype=np.int16)
    volume[example.mask] = np.rint(np.concatenate(bold).T).astype(np.int16)
    place = folder / "subj1"
    write_nifti(place / "bold.nii.gz", volume)
    write_nifti(place / "mask4_vt.nii.gz", example.mask.astype(np.uint8))
    write_table(place / "labels.txt", ("labels", "chunks"), labels, " ")
