"""Weights by name: those that ship with the package, and the converted parts of published ones."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from voxelight.models.errors import BadInput, Conflict, NotFound, NotInstalled, Unavailable
from voxelight.models.published import find_published
from voxelight.models.records import Manifest, PartRecord, fetched_folder, find_fetched, find_manifest, hash_file

if TYPE_CHECKING:
    from torch import Tensor, nn

_SHOWN = 4


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights that ships with the package.

    Parameters
    ----------
    file : name in ``models/shipped``, safetensors
    sha256 : hash of the whole file
    licence : SPDX identifier
    source : the data and where its terms are
    card : name of the model card in ``models/shipped``
    """

    file: str
    sha256: str
    licence: str
    source: str
    card: str


def find_weights(name: str) -> WeightsFile:
    """Return what is known of weights, without reading them.

    Raises
    ------
    NotFound
        No weights have this name.
    """
    if name not in WEIGHTS:
        raise NotFound(f"the weights {name!r}", f"one of {', '.join(sorted(WEIGHTS))}", "Correct the name.")
    return WEIGHTS[name]


def weights_sha256(name: str) -> str:
    """Return the hash that the weights must have.

    Raises
    ------
    NotFound
        No weights have this name.
    """
    return find_weights(name).sha256


def load_weights(name: str) -> "dict[str, Tensor]":
    """Read weights after checking their hash.

    Returns
    -------
    parameter name -> tensor, as stored (half precision for those that ship)

    Raises
    ------
    NotFound
        No weights have this name.
    Unavailable
        The file is not where it should be.
    Conflict
        The file is not the one that was released.
    """
    from safetensors.torch import load

    known = find_weights(name)
    try:
        content = files("voxelight.models.shipped").joinpath(known.file).read_bytes()
    except FileNotFoundError:
        raise Unavailable(
            f"no file {known.file}", "the weights beside the package", "Install the package again."
        ) from None
    return load(verify(content, known))


def verify(content: bytes, known: WeightsFile) -> bytes:
    """Return the content if it is what was released.

    Raises
    ------
    Conflict
        Its hash is another.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != known.sha256:
        raise Conflict(
            f"{known.file} with sha256 {found}",
            f"sha256 {known.sha256}",
            "The file was changed or damaged: install the package again.",
        )
    return content


def load_part(folder: Path, name: str, part: str) -> "dict[str, Tensor]":
    """Open a converted part of published weights.

    Parameters
    ----------
    folder : of all weights, as in the settings
    name : published name
    part : part of a profile, such as ``decoder``

    Returns
    -------
    key of the network's ``state_dict`` -> tensor, mapped from the file: memory is taken when it is used

    Raises
    ------
    NotFound
        No published weights have this name, or these have no such part.
    Unavailable
        They were not fetched, or not converted.
    Conflict
        A file is not the one that was converted.
    """
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    for stored in find_part(folder, name, part).files:
        path = folder / name / stored.file
        size = path.stat().st_size if path.is_file() else 0
        if size != stored.size:
            raise _damaged(path, f"{size} bytes", f"{stored.size} bytes")
        with safe_open(str(path), "pt") as file:
            found |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return found


def find_part_sha256(folder: Path, name: str, part: str) -> str:
    """Return the hash of a converted part as it was written: that of the lines of ``sha256sum`` for its files.

    Raises
    ------
    NotFound
        No published weights have this name, or these have no such part.
    Unavailable
        They were not fetched, or not converted.
    """
    return find_part(folder, name, part).sha256


def verify_parts(folder: Path, manifest: Manifest) -> None:
    """Read every converted file of published weights again.

    Raises
    ------
    Conflict
        One is missing, or has another hash.
    """
    stored = [file for part in manifest.parts.values() for file in part.files]
    for file in [*stored, *([manifest.vocabulary] if manifest.vocabulary else [])]:
        path = folder / manifest.name / file.file
        if not path.is_file():
            raise _damaged(path, "no such file", f"{file.size} bytes")
        found = hash_file(path)
        if found != file.sha256:
            raise _damaged(path, f"sha256 {found}", f"sha256 {file.sha256}")


def read_vocabulary(folder: Path, name: str) -> tuple[str, ...]:
    """Return the words that a captioner's numbers stand for, in their order.

    Raises
    ------
    NotFound
        No published weights have this name, or these have no vocabulary.
    Unavailable
        They were not fetched, or not converted.
    """
    manifest = _require_manifest(folder, name)
    if manifest.vocabulary is None:
        raise NotFound(f"no vocabulary in {name}", "weights of a captioner", "Name another file.")
    return tuple((folder / name / manifest.vocabulary.file).read_text("utf-8").rstrip("\n").split("\n"))


def find_part(folder: Path, name: str, part: str) -> PartRecord:
    """Return what is written down about a converted part.

    Raises
    ------
    NotFound
        No published weights have this name, or these have no such part.
    Unavailable
        They were not fetched, or not converted.
    """
    manifest = _require_manifest(folder, name)
    if part not in manifest.parts:
        raise NotFound(f"the part {part!r} of {name}", f"one of {', '.join(manifest.parts)}", "Name another file.")
    return manifest.parts[part]


def load_into(module: "nn.Module", tensors: "Mapping[str, Tensor]") -> None:
    """Give a network its weights: all of them, and no others.

    Parameters
    ----------
    module : built on the device ``meta``, it takes the tensors themselves, in their precision and mapped as they
        are; otherwise their values are copied
    tensors : key of ``state_dict`` -> tensor

    Raises
    ------
    BadInput
        A key is missing or unexpected, or a shape differs.
    """
    expected = module.state_dict()
    refuse_differences(
        {
            "missing": [key for key in expected if key not in tensors],
            "unexpected": [key for key in tensors if key not in expected],
            "of another shape": [
                f"{key} {tuple(tensors[key].shape)} for {tuple(value.shape)}"
                for key, value in expected.items()
                if key in tensors and tensors[key].shape != value.shape
            ],
        },
        f"the {len(expected)} tensors of {type(module).__name__}",
        "Take the weights that were made for this network and these sizes.",
    )
    module.load_state_dict(dict(tensors), assign=any(value.is_meta for value in expected.values()))
    left = [key for key, value in (*module.named_parameters(), *module.named_buffers()) if value.is_meta]
    if left:
        raise RuntimeError(f"{type(module).__name__} has {', '.join(left[:_SHOWN])} on meta, which no checkpoint holds")


def refuse_differences(problems: Mapping[str, Sequence[str]], expected: str, remedy: str) -> None:
    """Refuse tensors that are not those of a network.

    Parameters
    ----------
    problems : kind of difference -> where it was found

    Raises
    ------
    BadInput
        There is any; the text names the first of each kind and counts the others.
    """
    told = []
    for kind, names in problems.items():
        if names:
            rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            told.append(f"{len(names)} {kind} ({', '.join(names[:_SHOWN])}{rest})")
    if told:
        raise BadInput(f"tensors: {'; '.join(told)}", expected, remedy)


def _require_manifest(folder: Path, name: str) -> Manifest:
    manifest = find_manifest(folder, name)
    if manifest is not None:
        return manifest
    row = find_published(name)
    fetched = find_fetched(folder, name)
    here = fetched is not None and (fetched_folder(folder, name) / fetched.stored.file).is_file()
    steps = ("convert",) if here else ("fetch", "convert")
    raise NotInstalled(
        f"no {'converted' if here else 'fetched'} weights {name} in {folder}",
        f"{row.file} of {row.repository}, licence {row.licence}",
        f"Run {' and then '.join(f'voxelight weights {step} {name}' for step in steps)}.",
    )


def _damaged(path: Path, found: str, expected: str) -> Conflict:
    return Conflict(f"{path} with {found}", expected, f"Remove the folder {path.parent} and convert the weights again.")


WEIGHTS: dict[str, WeightsFile] = {
    "hippocampus-agunet": WeightsFile(
        file="hippocampus-agunet.safetensors",
        sha256="18d2771cd62c7bfb7c1217e4dfb01be5adcfc6c6e9f65933bf4ff4e9bf5b90c8",
        licence="CC-BY-SA-4.0",
        source="Medical Segmentation Decathlon, Task04 Hippocampus (Antonelli et al. 2022, Simpson et al. 2019)",
        card="hippocampus-agunet.md",
    ),
}
