"""An ONNX model of Raidionics with its ``pre_processing.ini``."""

import configparser
from pathlib import Path

import numpy as np

from voxelight.models.errors import BadInput
from voxelight.models.segmentation.imported import carry_file, open_onnx
from voxelight.storage.imports import Foreign, Wishes, not_understood

_MOST_BYTES = 2 << 30
_CROPS = {"": False, "none": False, "false": False, "minimum": True, "true": True}
_ALWAYS = ("Raidionics may apply a threshold of its own to each label; the likeliest label is taken here.",)


def read_raidionics(folder: Path, wishes: Wishes) -> Foreign:
    """Read a model of Raidionics (Bouget et al. 2023): of windows, of the whole volume at one size, or of slabs.

    Raises
    ------
    BadInput
        It is damaged, or asks for what is not understood: several inputs, a mask of the brain, overlapping labels.
    """
    told = _read_ini(folder / "pre_processing.ini")
    if (folder / "model.onnx").stat().st_size > _MOST_BYTES:
        raise BadInput("a model.onnx of more than 2 GiB", "a smaller one", "Export it without constants in it.")
    content = (folder / "model.onnx").read_bytes()
    spacing = _numbers(told, "PreProcessing", "output_spacing")
    shape, patch, how = _find_window(told)
    classes = [name.strip() for name in told.get("Training", "classes", fallback="").split(",") if name.strip()]
    if len(classes) < 2 or len(classes) != told.getint("Training", "nb_classes", fallback=len(classes)):
        raise BadInput(
            f"classes {', '.join(classes) or '(none)'}", "nb_classes names, the background first", "Repair it."
        )
    _refuse_others(told)
    channels_last, gives = _probe(content, patch, len(classes))
    config = {"in_channels": 1, "classes": len(classes), "patch": patch, "size": len(content),
              "channels_last": channels_last, "gives": gives}  # fmt: skip
    labels = dict(enumerate(classes[1:], start=1))
    recipe = {
        "title": f"Raidionics {folder.name}",
        "summary": f"Imported from Raidionics: {', '.join(classes[1:])} in one contrast. Not for clinical use.",
        "network": "onnx",
        "config": config,
        "labels": labels,
        "spacing_mm": spacing,
        "shape": shape,
        "crop_head": _find_crop(told),
        "normalisation": _find_normalisation(told),
        "patch": patch,
        "overlap": told.getfloat("Training", "patch_overlap", fallback=0.5),
        "mirror_average": False,
    }
    return Foreign(
        recipe, [{"file": carry_file(content)}], "a Raidionics ONNX model", folder.name, "", (*how, *_ALWAYS)
    )


def _read_ini(path: Path) -> configparser.ConfigParser:
    told = configparser.ConfigParser(interpolation=None)
    try:
        told.read_string(path.read_text("utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name}, which can't be read ({type(error).__name__})", "an ini file", "Copy it again."
                       ) from None  # fmt: skip
    return told


def _find_window(told: configparser.ConfigParser) -> tuple[list[int], list[int], tuple[str, ...]]:
    """Return the voxels that a volume is read at (none: by its spacing), those of a window, and what differs."""
    size = told.get("PreProcessing", "new_axial_size", fallback="").strip()
    slab = told.get("Training", "slab_size", fallback="").strip().lower()
    if size.lower() in {"", "none"}:
        if slab not in {"", "none", "0"}:
            raise not_understood(f"slab_size = {slab} without new_axial_size", "slabs of a stated size")
        patch = [int(side) for side in _numbers(told, "Training", "patch_size")]
        return (
            [],
            patch,
            ("Raidionics takes the largest value where windows overlap; they are blended by a Gaussian here.",),
        )
    shape = [int(side) for side in _numbers(told, "PreProcessing", "new_axial_size", (2, 3))]
    if len(shape) == 3:
        return shape, shape, ("Volumes are brought to the size of the network in one step here, and in two there.",)
    if not slab.isdigit() or int(slab) < 1:
        raise not_understood(f"new_axial_size = {size} and slab_size = {slab or '(none)'}", "a number of slices")
    return (
        [*shape, 0],
        [*shape, int(slab)],
        ("Slabs overlap by half and are blended by a Gaussian here; Raidionics puts them end to end.",),
    )


def _find_crop(told: configparser.ConfigParser) -> bool:
    for name in ("background_cropping", "crop_background"):
        value = told.get("PreProcessing", name, fallback="").strip().lower()
        if value not in _CROPS:
            raise not_understood(f"{name} = {value}", "no cropping, or cropping to what is bright (minimum)")
        if _CROPS[value]:
            return True
    return False


def _numbers(told: configparser.ConfigParser, section: str, name: str, counts: tuple[int, ...] = (3,)) -> list[float]:
    text = told.get(section, name, fallback="")
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) not in counts or min(found) <= 0:
        raise not_understood(f"{name} = {text or '(none)'}", f"{' or '.join(map(str, counts))} positive numbers")
    return found


def _refuse_others(told: configparser.ConfigParser) -> None:
    for section, name, plain in (
        ("PreProcessing", "intensity_clipping_values", {"", "none"}),
        ("PreProcessing", "swap_training_input", {"", "false"}),
    ):
        value = told.get(section, name, fallback="").strip().lower()
        if value not in plain:
            raise not_understood(f"{name} = {value}", "a model that reads the image as it is")


def _find_normalisation(told: configparser.ConfigParser) -> dict[str, object]:
    method = told.get("PreProcessing", "normalization_method", fallback="default").strip().lower()
    text = told.get("PreProcessing", "intensity_clipping_range", fallback="").strip() or "0,100"
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise not_understood(f"intensity_clipping_range = {text}", "two percentiles") from None
    known = {"default": "minmax", "zeromean": "zscore"}
    if method not in known:
        raise not_understood(f"normalization_method = {method}", f"one of {', '.join(known)}")
    return {"method": known[method], "percentiles": (low, high)}


def _probe(content: bytes, patch: list[int], classes: int) -> tuple[bool, str]:
    """Run the network once, and see where it has its channels and whether it gives probabilities."""
    run = open_onnx(content)
    noise = np.random.default_rng(0).normal(size=(1, 1, *patch)).astype(np.float32)
    for channels_last in (True, False):
        try:
            found = run(np.moveaxis(noise, 1, -1) if channels_last else noise)
        except Exception:  # shapes that do not fit: ONNX Runtime has no class of its own for it
            continue
        expected = (1, *patch, classes) if channels_last else (1, classes, *patch)
        if found.shape == expected:
            total = found.sum(axis=-1 if channels_last else 1)
            if found.min() < 0 or found.max() > 1 + 1e-4:
                return channels_last, "logits"
            if np.allclose(total, 1, atol=1e-3):
                return channels_last, "probabilities"
            raise not_understood("values from 0 to 1 that do not sum to 1 (sigmoid)", "one label a voxel (softmax)")
    raise not_understood(
        f"a network that does not map one channel of {patch} voxels to {classes} classes", "one that does"
    )
