"""A folder of nnU-Net v2: plans, data set, and a checkpoint a fold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxelight.models.checkpoints import read_checkpoint
from voxelight.models.errors import BadInput
from voxelight.storage.imports import Foreign, Wishes, not_understood, read_json

_OURS = {"PlainConvUNet", "ResidualEncoderUNet"}
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_DIFFERENCES = (
    "nnU-Net does not say in which orientation it was trained; images are given to it in RAS+, slices last.",
    "nnU-Net crops to what is not zero before it normalises; the whole image is normalised here.",
    "nnU-Net resamples images by cubic splines; they are resampled linearly here.",
)


def read_nnunet(folder: Path, wishes: Wishes) -> Foreign:
    """Read a trained model folder of nnU-Net v2 (Isensee et al. 2021).

    Raises
    ------
    BadInput
        It is damaged, or asks for what is not understood: 2-D or cascaded networks, several channels, regions.
    """
    plans, dataset = read_json(folder / "plans.json"), read_json(folder / "dataset.json")
    chosen = _find_configuration(plans, wishes.configuration)
    labels = _read_labels(dataset)
    forward = tuple(int(axis) for axis in plans.get("transpose_forward", (0, 1, 2)))
    if sorted(forward) != [0, 1, 2]:
        raise not_understood(f"transpose_forward {forward}", "an order of three axes")
    axes = tuple(2 - axis for axis in forward)  # its arrays are (z, y, x) before it turns them, ours (x, y, z)
    config = {
        "in_channels": 1,
        "classes": len(labels) + 1,
        "patch": _turn(chosen["patch_size"], axes),
        "architecture": _find_architecture(chosen),
        "arguments": chosen["architecture"]["arch_kwargs"],
        "axes": axes,
    }
    folds = _find_folds(folder, wishes.folds)
    states = [read_checkpoint(path, "network_weights") for path in folds]
    recipe = {
        "title": f"nnU-Net {plans.get('dataset_name', '')} {wishes.configuration}".strip(),
        "summary": f"Imported from nnU-Net v2: {', '.join(labels.values())} in one contrast. Not for clinical use.",
        "network": "nnunet",
        "config": config,
        "labels": labels,
        "spacing_mm": _turn(chosen["spacing"], axes),
        "normalisation": _find_normalisation(plans, chosen),
        "patch": config["patch"],
        "overlap": 0.5,
        "mirror_average": True,
        "mirror_axes": [0, 1, 2],
    }
    return Foreign(recipe, states, "nnU-Net v2", str(dataset.get("reference", "")) or str(dataset.get("name", "")),
                   str(dataset.get("licence") or dataset.get("license") or ""), _DIFFERENCES)  # fmt: skip


def _find_configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    configurations = plans.get("configurations")
    if not isinstance(configurations, dict) or name not in configurations:
        there = ", ".join(configurations) if isinstance(configurations, dict) else "none"
        raise BadInput(f"no configuration {name} in plans.json", f"one of {there}", "Name it: --configuration.")
    found: dict[str, Any] = {}
    visited: list[str] = []
    while name:
        if name in visited or name not in configurations:
            raise BadInput(
                f"the configuration {visited[-1]} that inherits from {name}", "one that is there", "Repair it."
            )
        visited.append(name)
        found = {**configurations[name], **found}
        name = str(configurations[name].get("inherits_from", ""))
    if found.get("previous_stage"):
        raise not_understood("a cascade, whose second network reads what the first one drew", "one network")
    needed = ("patch_size", "spacing", "normalization_schemes", "architecture")
    missing = [key for key in needed if key not in found]
    if missing:
        raise not_understood(
            f"plans without {', '.join(missing)}, as before nnU-Net 2.4", "plans of nnU-Net 2.4 or later"
        )
    if len(found["patch_size"]) != 3 or len(found["spacing"]) != 3:
        raise not_understood(f"a network for {len(found['patch_size'])}-D windows", "3-D windows")
    return found


def _find_architecture(chosen: Mapping[str, Any]) -> str:
    name = str(chosen["architecture"].get("network_class_name", "")).rpartition(".")[2]
    if name not in _OURS:
        raise not_understood(f"the network {name[:60]}", f"one of {', '.join(sorted(_OURS))}")
    return name


def _read_labels(dataset: Mapping[str, Any]) -> dict[int, str]:
    channels = dataset.get("channel_names", dataset.get("modality", {}))
    if len(channels) != 1:
        raise not_understood(f"a model of {len(channels)} contrasts ({', '.join(map(str, channels.values()))})", "one")
    labels = {name: value for name, value in dict(dataset.get("labels", {})).items() if name != "ignore"}
    if any(isinstance(value, list | tuple) for value in labels.values()) or dataset.get("regions_class_order"):
        raise not_understood("labels that overlap (regions)", "one label a voxel")
    numbers = {int(value): name for name, value in labels.items()}
    if sorted(numbers) != list(range(len(numbers))) or len(numbers) < 2:
        raise BadInput(f"label numbers {sorted(numbers)} in dataset.json", "0 and those that follow it", "Repair it.")
    return {number: name for number, name in sorted(numbers.items()) if number}


def _find_normalisation(plans: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    [scheme, *_] = chosen["normalization_schemes"]
    if any(chosen.get("use_mask_for_norm", [])):
        raise not_understood("a normalisation inside a mask of what is not zero", "one over the whole image")
    if scheme == "ZScoreNormalization":
        return {"method": "zscore", "percentiles": (0.0, 100.0)}
    if scheme == "CTNormalization":
        facts = plans.get("foreground_intensity_properties_per_channel", {}).get("0", {})
        try:
            clip = (float(facts["percentile_00_5"]), float(facts["percentile_99_5"]))
            return {"method": "fixed", "clip": clip, "mean": float(facts["mean"]), "deviation": float(facts["std"])}
        except (KeyError, TypeError, ValueError):
            raise BadInput("plans without the intensities of the foreground", "those that CTNormalization reads",
                           "Copy plans.json again.") from None  # fmt: skip
    raise not_understood(f"the normalisation {str(scheme)[:60]}", "ZScoreNormalization or CTNormalization")


def _find_folds(folder: Path, wanted: tuple[str, ...]) -> list[Path]:
    there = {path.name.removeprefix("fold_"): path for path in sorted(folder.glob("fold_*")) if path.is_dir()}
    missing = sorted(set(wanted) - set(there))
    if missing or not there:
        raise BadInput(f"no fold {', '.join(missing) or 'at all'}", f"one of {', '.join(there) or 'fold_0 and others'}",
                       "Copy the whole folder, or name others: --fold.")  # fmt: skip
    found = []
    for fold in wanted or [name for name in there if name != "all" or len(there) == 1]:
        files = [there[fold] / name for name in _CHECKPOINTS if (there[fold] / name).is_file()]
        if not files:
            raise BadInput(f"fold_{fold} without a checkpoint", f"{_CHECKPOINTS[0]}", "Copy the whole folder.")
        found.append(files[0])
    return found


def _turn(values: list[float], axes: tuple[int, ...]) -> list[float]:
    """Return what is said of the axes of the network in the order of ours."""
    return [values[axes.index(axis)] for axis in range(3)]
