"""Weights by name: those that ship with the package, and the converted parts of published ones."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
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
    card : name of the model card in ``models/shipped``; its licence file has the same name and ends in ``.LICENSE``
    parts : part of a profile -> what its keys begin with in the file; empty where no profile takes the file
    words : name of the file in ``models/shipped`` with the classes and the vocabulary of a captioner
    """

    file: str
    sha256: str
    licence: str
    source: str
    card: str
    parts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    words: str = ""


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
    """Open a part of weights that ship, or a converted part of published ones.

    Parameters
    ----------
    folder : of all weights, as in the settings; those that ship lie elsewhere
    name : of the weights
    part : part of a profile, such as ``decoder``

    Returns
    -------
    key of the network's ``state_dict`` -> tensor; published ones are mapped from the file: memory is taken when it
        is used

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

    if name in WEIGHTS:
        prefix = _find_prefix(name, part)
        whole = load_weights(name)
        return {key.removeprefix(prefix): value for key, value in whole.items() if key.startswith(prefix)}
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
    """Return the hash of a part: of the file that ships, or of the lines of ``sha256sum`` for its converted files.

    Raises
    ------
    NotFound
        No published weights have this name, or these have no such part.
    Unavailable
        They were not fetched, or not converted.
    """
    if name in WEIGHTS:
        _find_prefix(name, part)
        return weights_sha256(name)
    return find_part(folder, name, part).sha256


def find_licence(name: str) -> str:
    """Return the identifier of the licence of weights, shipped or published.

    Raises
    ------
    NotFound
        No weights have this name.
    """
    return WEIGHTS[name].licence if name in WEIGHTS else find_published(name).licence


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
    if name in WEIGHTS:
        return read_words(name)["vocabulary"]
    manifest = _require_manifest(folder, name)
    if manifest.vocabulary is None:
        raise NotFound(f"no vocabulary in {name}", "weights of a captioner", "Name another file.")
    return tuple((folder / name / manifest.vocabulary.file).read_text("utf-8").rstrip("\n").split("\n"))


def read_words(name: str) -> dict[str, tuple[str, ...]]:
    """Return the ``classes`` and the ``vocabulary`` of shipped weights, each in the order of its numbers.

    Raises
    ------
    NotFound
        No weights that ship have this name, or these have no words.
    """
    known = find_weights(name)
    if not known.words:
        raise NotFound(f"no vocabulary in {name}", "weights of a captioner", "Name another file.")
    content = files("voxelight.models.shipped").joinpath(known.words).read_text("utf-8")
    return {kind: tuple(words) for kind, words in json.loads(content).items()}


def _find_prefix(name: str, part: str) -> str:
    parts = WEIGHTS[name].parts
    if part not in parts:
        raise NotFound(f"the part {part!r} of {name}", f"one of {', '.join(parts) or '(none)'}", "Name another file.")
    return parts[part]


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


# Of the profile `tiny`: name, sha256, part -> what its keys begin with.
_TINY: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "tiny-image-text",
        "ea29659891df13735a548359e38e7e4b3551e37fb18ec26989d9c17c77eb41b2",
        {"image_encoder": "image."},
    ),
    (
        "tiny-autoencoder",
        "ed78ca091fa203a4d0c35d9eaa458bd864a36ba8f105eb18637ca2b631232f7e",
        {"autoencoder": ""},
    ),
    (
        "tiny-unclip",
        "aa1e0bab33516d0bd13135cf6106485696f5b8f199fa085e17db7456012df518",
        {"unclip": ""},
    ),
    (
        "tiny-captions",
        "ff23c1731a08b6049fec084a0c9ed73601e9af72273e45d5b5f4eea79d302832",
        {"converter": "converter.", "captioner": "captioner."},
    ),
    (
        "tiny-decoder",
        "e42b70d4ce2a3d1b1e37b7e5f93e85771ef10111468e6e47440b63febee02881",
        {"decoder": ""},
    ),
    (
        "tiny-sample",
        "7538066c528656cd47bbe961555d65660749443e890c26c99b132f9887434cd3",
        {},
    ),
)

_HEADS = "Medical Segmentation Decathlon, Task04 Hippocampus (Antonelli et al. 2022, Simpson et al. 2019)"
_NUCLEI = "2018 Data Science Bowl, BBBC038 (Caicedo et al. 2019)"
_ALIKE, _FREE = "CC-BY-SA-4.0", "CC0-1.0"
# Name, sha256, licence, source.
_SEGMENTERS: tuple[tuple[str, str, str, str], ...] = (
    ("hippocampus-agunet", "18d2771cd62c7bfb7c1217e4dfb01be5adcfc6c6e9f65933bf4ff4e9bf5b90c8", _ALIKE, _HEADS),
    ("hippocampus-daunet", "e21345e5105499aeca7a4f00e8e0f8c95dbf6549c7554c1060bdd68c121667a2", _ALIKE, _HEADS),
    ("hippocampus-cdal", "9f11d876a685d5a2b66bdd1feb6ead17f74226a7fd040e0b1fc6d61d2a51dad5", _ALIKE, _HEADS),
    ("nuclei-msga", "c42e4809ddf2e82fb95025736724f7c5047b918f1dcb236e5c4aba89c57de57b", _FREE, _NUCLEI),
    ("nuclei-cdal", "dba44819c5a1825c7e7c16156052e3c9972bce7b28622388d1462c6778ff3253", _FREE, _NUCLEI),
)

WEIGHTS: dict[str, WeightsFile] = {
    **{
        name: WeightsFile(file=f"{name}.safetensors", sha256=sha256, licence=licence, source=source, card=f"{name}.md")
        for name, sha256, licence, source in _SEGMENTERS
    },
    **{
        name: WeightsFile(
            file=f"{name}.safetensors",
            sha256=sha256,
            licence="LicenseRef-ImageNet-research",
            source="Tiny ImageNet (Le and Yang 2015), of ImageNet (Deng et al. 2009); simulated subjects",
            card="tiny.md",
            parts=parts,
            words={"tiny-captions": "tiny-words.json", "tiny-sample": "tiny-sample.json"}.get(name, ""),
        )
        for name, sha256, parts in _TINY
    },
}
