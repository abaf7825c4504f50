"""A MONAI bundle: metadata, an inference configuration, and weights."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxelight.models.checkpoints import read_checkpoint
from voxelight.models.errors import BadInput
from voxelight.storage.imports import Foreign, Wishes, not_understood, read_json

if TYPE_CHECKING:
    from voxelight.models.checkpoints import Tensors

_WEIGHTS = ("model.safetensors", "model.pt")
_SILENT = {
    *("LoadImaged", "EnsureChannelFirstd", "EnsureTyped", "ToTensord"),
    *("Activationsd", "AsDiscreted", "Invertd", "SaveImaged"),
}
_DEEPEST = 20


def read_monai(folder: Path, wishes: Wishes) -> Foreign:
    """Read a bundle of MONAI (Cardoso et al. 2022).

    Raises
    ------
    BadInput
        It is damaged, or asks for what is not understood: expressions in Python, other transforms, other networks.
    """
    metadata, told = read_json(folder / "configs" / "metadata.json"), read_json(folder / "configs" / "inference.json")
    network = _resolve(_require(told, "network_def", "network"), told)
    inferer = _resolve(_require(told, "inferer"), told)
    labels = _read_labels(metadata)
    if inferer.get("_target_", "").rpartition(".")[2] != "SlidingWindowInferer":
        raise not_understood(f"the inferer {str(inferer.get('_target_'))[:60]}", "SlidingWindowInferer")
    patch = inferer.get("roi_size")
    if not isinstance(patch, list) or len(patch) != 3:
        raise not_understood(f"windows of {patch}", "3-D windows of one size")
    config: dict[str, Any] = {
        "in_channels": 1,
        "classes": len(labels) + 1,
        "patch": patch,
        "architecture": str(network.get("_target_", "")).rpartition(".")[2],
        "arguments": {key: value for key, value in network.items() if not key.startswith("_")},
    }
    if config["arguments"].get("in_channels", 1) != 1:
        raise not_understood(f"a model of {config['arguments']['in_channels']} contrasts", "one")
    spacing, normalisation = _read_transforms(_resolve(_require(told, "preprocessing"), told))
    _check_outputs(_resolve(told.get("postprocessing", {}), told))
    recipe = {
        "title": str(metadata.get("name") or wishes.name),
        "summary": f"Imported from a MONAI bundle: {', '.join(labels.values())} in one contrast. Not for clinical use.",
        "network": "monai",
        "config": config,
        "labels": labels,
        "spacing_mm": spacing,
        "normalisation": normalisation,
        "patch": patch,
        "overlap": float(inferer.get("overlap", 0.25)),
        "mirror_average": False,
    }
    blend = () if inferer.get("mode") == "gaussian" else ("MONAI blends windows evenly; by a Gaussian here.",)
    source = str(metadata.get("data_source") or metadata.get("task") or "")
    return Foreign(recipe, [_read_weights(folder)], "a MONAI bundle", source, str(metadata.get("license") or ""), blend)


def _read_weights(folder: Path) -> "Tensors":
    there = [folder / "models" / name for name in _WEIGHTS if (folder / "models" / name).is_file()]
    if not there:
        raise BadInput("a bundle without weights", f"models/{' or models/'.join(_WEIGHTS)}", "Copy the whole bundle.")
    return read_checkpoint(there[0], "model")


def _require(told: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        if isinstance(told.get(name), dict):
            return told[name]
    raise BadInput(f"inference.json without {names[0]}", "the one that every bundle has", "Copy the bundle again.")


def _resolve(value: Any, told: Mapping[str, Any], depth: int = 0) -> Any:
    """Put what ``@name`` refers to in its place; expressions in Python are not carried out, but marked."""
    if depth > _DEEPEST:
        raise not_understood("references that lead to each other", "references that end")
    if isinstance(value, dict):
        return {key: _resolve(each, told, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_resolve(each, told, depth + 1) for each in value]
    if isinstance(value, str) and (found := re.fullmatch(r"@([\w#:]+)", value)):
        target: Any = told
        for part in re.split(r"[#:]+", found[1]):
            try:
                target = target[int(part)] if isinstance(target, list) else target[part]
            except (KeyError, IndexError, ValueError, TypeError):
                return value  # a network or a device at run time, which is ours to give
        return _resolve(target, told, depth + 1)
    return value


def _read_labels(metadata: Mapping[str, Any]) -> dict[int, str]:
    outputs = metadata.get("network_data_format", {}).get("outputs", {}).get("pred", {})
    channels = outputs.get("channel_def", {})
    try:
        names = {int(number): str(name) for number, name in channels.items()}
    except ValueError:
        names = {}
    if sorted(names) != list(range(len(names))) or len(names) < 2 or "background" not in names.get(0, "").lower():
        raise not_understood(f"outputs named {channels}", "channel_def with the background as 0 and a label a channel")
    return {number: name for number, name in sorted(names.items()) if number}


def _read_transforms(preprocessing: Mapping[str, Any]) -> tuple[list[float], dict[str, Any]]:
    spacing: list[float] = []
    normalisation: dict[str, Any] = {}
    for step in preprocessing.get("transforms", []):
        name = str(step.get("_target_", "")).rpartition(".")[2]
        if any(isinstance(value, str) and value.startswith("$") for value in step.values()):
            raise not_understood(f"a Python expression in {name}", "plain values")
        if name == "Orientationd":
            if str(step.get("axcodes")) != "RAS":
                raise not_understood(f"images turned to {step.get('axcodes')}", "RAS")
        elif name == "Spacingd":
            spacing = [float(side) for side in step.get("pixdim", [])]
        elif (found := _read_scaling(name, step)) is not None:
            normalisation = found
        elif name not in _SILENT:
            raise not_understood(f"the transform {name[:60]}", "those that place, scale and type an image")
    if len(spacing) != 3 or not normalisation:
        raise not_understood(
            "a bundle that resamples or scales in a way of its own", "Spacingd and one of its scalings"
        )
    return spacing, normalisation


def _read_scaling(name: str, step: Mapping[str, Any]) -> dict[str, Any] | None:
    if name == "ScaleIntensityRanged":
        low, high, floor, top = (float(step.get(key, default)) for key, default in
                                 (("a_min", 0), ("a_max", 1), ("b_min", 0), ("b_max", 1)))  # fmt: skip
        if not step.get("clip") or top <= floor or high <= low:
            raise not_understood("ScaleIntensityRanged without clip", "one that clips")
        gain = (top - floor) / (high - low)
        return {"method": "fixed", "clip": (low, high), "mean": low - floor / gain, "deviation": 1 / gain}
    if name == "NormalizeIntensityd":
        if step.get("nonzero") or step.get("subtrahend") is not None or step.get("divisor") is not None:
            raise not_understood("NormalizeIntensityd with options", "mean 0 and deviation 1 over the whole image")
        return {"method": "zscore", "percentiles": (0.0, 100.0)}
    if name == "ScaleIntensityd":
        if (float(step.get("minv", 0)), float(step.get("maxv", 1))) != (0.0, 1.0):
            raise not_understood("ScaleIntensityd to other values", "0 to 1")
        return {"method": "minmax", "percentiles": (0.0, 100.0)}
    return None


def _check_outputs(postprocessing: Mapping[str, Any]) -> None:
    for step in postprocessing.get("transforms", []):
        name = str(step.get("_target_", "")).rpartition(".")[2]
        if name == "Activationsd" and step.get("sigmoid"):
            raise not_understood("labels that may overlap (sigmoid)", "one label a voxel (softmax)")
        if name not in _SILENT:
            raise not_understood(f"the step {name[:60]} after the network", "argmax, and what writes files")
