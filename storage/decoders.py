"""Decoders that were trained on this installation: weights, statistics of the betas, what they saw, and a card.

``<weights>/decoders/<name>/`` holds ``model.json``, ``card.md``, ``pictures.txt`` (hashes of the pictures that were
trained on), the weights that all subjects share, and for every subject a numbered folder with a manifest, its ridge
and its ``statistics.safetensors``. ``models.weights`` opens the weights of a subject as ``decoders/<name>/<number>``.
A linear decoder has a folder ``linear`` in place of weights (`storage.linear`).
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.models.records import Manifest, PartRecord, write_record
from voxelight.models.weights import load_part
from voxelight.neuro.profiles import list_profiles
from voxelight.neuro.recipes import list_recipes
from voxelight.neuro.training.standardise import VoxelStatistics
from voxelight.storage.artifacts import hash_file
from voxelight.storage.model_folders import FACTS, ModelFolders, refuse_unfit, replacing_folder

if TYPE_CHECKING:
    from voxelight.models.checkpoints import Tensors

_FOLDER, _CARD, _PICTURES, _STATISTICS = "decoders", "card.md", "pictures.txt", "statistics"
_LINEAR = "linear"
_RIDGE = "ridge.linears."
_SHARD_BYTES = 2 << 30
_FORMAT = 1


@dataclass(frozen=True)
class TrainedDecoder:
    """A decoder with everything that decoding needs but the tensors.

    Parameters
    ----------
    name : of the model
    profile : whose tokens it predicts, and whose generators go on from them; of a linear decoder, its recipe
    config : fields of `MindEye2Config` but for the voxels
    subjects : label and number of voxels of each
    normalisation : how its betas are standardised, a name of `neuro.betas.NORMALISATIONS`, or ``as-stored``
    simulated : whether the betas were made by a model
    licence : of the data, as far as it is stated
    source : of the data
    sha256 : of the weights of all subjects; filled in by `TrainedDecoders.write`
    card : Markdown
    provenance : how it was made, as JSON
    """

    name: str
    profile: str
    config: Mapping[str, Any]
    subjects: tuple[tuple[str, int], ...]
    normalisation: str
    simulated: bool
    licence: str
    source: str
    sha256: str = ""
    card: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)

    def name_weights(self, number: int) -> str:
        """Return the name under which `models.weights` opens the weights of a subject."""
        return f"{_FOLDER}/{self.name}/{number}"

    def find_subject(self, label: str | None) -> int:
        """Return the number of a subject; without a label, of the first.

        Raises
        ------
        NotFound
            The decoder has no such subject.
        """
        labels = [known for known, _ in self.subjects]
        if label is not None and label not in labels:
            raise NotFound(f"no subject {label!r} in {self.name}", f"one of {', '.join(labels)}", "Correct the label.")
        return 0 if label is None else labels.index(label)


class TrainedDecoders(ModelFolders[TrainedDecoder]):
    """The decoders below one folder.

    Parameters
    ----------
    weights : folder of all weights of an installation
    """

    def __init__(self, weights: Path) -> None:
        super().__init__(weights / _FOLDER, _read, "trained decoder", "Train it first.")
        self._weights = weights

    def load(self, name: str) -> "Tensors":
        """Read all weights of a decoder, with the ridge of every subject, to go on from them.

        Raises
        ------
        NotFound, BadInput
            As `find`.
        Conflict
            A file is not the one that was written.
        """
        decoder = self.find(name)
        found: Tensors = {}
        for number in range(len(decoder.subjects)):
            tensors = load_part(self._weights, decoder.name_weights(number), "decoder")
            found |= {key.replace(f"{_RIDGE}0.", f"{_RIDGE}{number}."): value for key, value in tensors.items()}
        return found

    def read_statistics(self, name: str, number: int) -> VoxelStatistics | None:
        """Return what the betas of a subject are standardised by; None where they are taken as stored."""
        from safetensors import safe_open

        path = self._folder / name / str(number) / f"{_STATISTICS}.safetensors"
        if not path.is_file():
            return None
        with safe_open(str(path), "np") as file:
            sessions = json.loads(file.metadata()["sessions"])
            mean, scale = (np.asarray(file.get_tensor(key)) for key in ("mean", "scale"))
        return VoxelStatistics(None if sessions is None else tuple(sessions), mean, scale)

    def read_pictures(self, name: str) -> frozenset[str]:
        """Return the hashes of the pictures that a decoder, and what it began from, was trained on."""
        return frozenset((self._folder / name / _PICTURES).read_text("utf-8").split())

    def write(
        self,
        decoder: TrainedDecoder,
        weights: "Tensors",
        statistics: Sequence[VoxelStatistics | None],
        pictures: frozenset[str],
        replace: bool = False,
    ) -> TrainedDecoder:
        """Keep a decoder, its weights in half precision.

        Parameters
        ----------
        decoder : its `sha256` is filled in
        weights : under their published names, on any device
        statistics : of every subject
        pictures : hashes of all pictures that it was trained on
        replace : put it in place of an earlier one of its name

        Returns
        -------
        the decoder as it is kept

        Raises
        ------
        BadInput
            The name is no plain word, subjects and weights do not fit, or a weight is too large for half precision.
        Conflict
            Something else has the name, or an earlier decoder that is not to be replaced.
        """
        if len(statistics) != len(decoder.subjects):
            raise BadInput(f"statistics of {len(statistics)} subjects", f"of {len(decoder.subjects)}", "Give all.")
        return self._write(
            decoder, lambda place: _write_weights(place, decoder, weights), statistics, pictures, replace
        )

    def write_linear(
        self,
        decoder: TrainedDecoder,
        fitted: Path,
        statistics: VoxelStatistics | None,
        pictures: frozenset[str],
        replace: bool = False,
    ) -> TrainedDecoder:
        """Keep a linear decoder of one subject, whose profile names its recipe.

        Parameters
        ----------
        decoder : its `sha256` is filled in
        fitted : folder of `storage.linear.write_linear`, which is moved
        statistics, pictures, replace : as `write`

        Raises
        ------
        BadInput, Conflict
            As `write`.
        """

        def fill(place: Path) -> list[tuple[str, str]]:
            (place / "0").mkdir()
            shutil.move(fitted, place / _LINEAR)
            return [(f"{_LINEAR}/{path.name}", hash_file(path)) for path in sorted((place / _LINEAR).iterdir())]

        return self._write(decoder, fill, [statistics], pictures, replace)

    def find_linear(self, name: str) -> Path:
        """Return the folder of a linear decoder, as `storage.linear.open_linear` takes it."""
        return self._folder / name / _LINEAR

    def _write(
        self,
        decoder: TrainedDecoder,
        fill: Callable[[Path], list[tuple[str, str]]],
        statistics: Sequence[VoxelStatistics | None],
        pictures: frozenset[str],
        replace: bool,
    ) -> TrainedDecoder:
        self.refuse_name(decoder.name, replace)
        with replacing_folder(self._folder / decoder.name) as temporary:
            hashes = fill(temporary)
            for number, each in enumerate(statistics):
                if each is not None:
                    _write_statistics(temporary / str(number), each)
            kept = _with_hash(decoder, hashes)
            (temporary / _PICTURES).write_text("\n".join(sorted(pictures)), encoding="utf-8")
            (temporary / _CARD).write_text(kept.card, encoding="utf-8")
            (temporary / FACTS).write_text(json.dumps(_describe(kept), indent=2), encoding="utf-8")
        return kept

    def remove(self, name: str) -> None:
        """Forget a decoder and its weights.

        Raises
        ------
        NotFound
            There is none of this name.
        """
        self.find(name)
        shutil.rmtree(self._folder / name)

    def propose(self, wish: str | None, base: str) -> str:
        """Return the name of a decoder to come: the one that was wished for, else the first free one of a base.

        Raises
        ------
        BadInput, Conflict
            As `refuse_name`.
        """
        if wish is not None:
            self.refuse_name(wish)
            return wish
        return next(name for number in range(1, 10_000) if not self.has(name := f"{base}-{number}"))

    def refuse_name(self, name: str, replace: bool = False) -> None:
        """Refuse a name that a decoder can't have.

        Raises
        ------
        BadInput, Conflict
            As `write`.
        """
        refuse_unfit(name)
        if name in {*list_profiles(), *list_recipes()}:
            raise Conflict(f"the name {name!r}, which a packaged recipe has", "another", "Choose another name.")
        if (self._weights / "segmentation" / name).exists():
            raise Conflict(f"the name {name!r}, which a segmentation model has", "another", "Choose another name.")
        if self.has(name) and not replace:
            raise Conflict(f"a decoder {name!r} that is here already", "a new name", "Choose another, or remove it.")


def _write_weights(folder: Path, decoder: TrainedDecoder, weights: "Tensors") -> list[tuple[str, str]]:
    """Write what all subjects share once, and the ridge of each beside its manifest; return names and hashes."""
    from voxelight.models.shards import write_halves

    common = {name: value for name, value in weights.items() if not name.startswith(_RIDGE)}
    shared = write_halves(folder, "shared", common, _SHARD_BYTES, {"decoder": decoder.name})
    found = [(file.file, file.sha256) for file in shared]
    outside = tuple(file.model_copy(update={"file": f"../{file.file}"}) for file in shared)
    for number, (label, voxels) in enumerate(decoder.subjects):
        place = folder / str(number)
        place.mkdir()
        own = {f"{_RIDGE}0.{kind}": weights[f"{_RIDGE}{number}.{kind}"] for kind in ("weight", "bias")}
        ridge = write_halves(place, "ridge", own, _SHARD_BYTES, {"subject": label})
        found += [(f"{number}/{file.file}", file.sha256) for file in ridge]
        part = PartRecord(
            network="mindeye2",
            config={**decoder.config, "voxels": [voxels]},
            tensors=len(common) + len(own),
            elements=sum(value.numel() for value in (*common.values(), *own.values())),
            files=(*outside, *ridge),
        )
        manifest = Manifest(name=decoder.name_weights(number), dtype="float16", time=datetime.now(UTC), sources=(),
                            accepted=(), parts={"decoder": part})  # fmt: skip
        write_record(place / "manifest.json", manifest)
    return found


def _write_statistics(folder: Path, statistics: VoxelStatistics) -> None:
    from safetensors.numpy import save_file

    told = {"sessions": json.dumps(statistics.sessions)}
    save_file({"mean": statistics.mean, "scale": statistics.scale}, folder / f"{_STATISTICS}.safetensors", told)


def _with_hash(decoder: TrainedDecoder, hashes: Sequence[tuple[str, str]]) -> TrainedDecoder:
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in hashes)
    return TrainedDecoder(**{**decoder.__dict__, "sha256": hashlib.sha256(lines.encode()).hexdigest()})


def _describe(decoder: TrainedDecoder) -> dict[str, Any]:
    told = {name: value for name, value in decoder.__dict__.items() if name not in ("name", "card")}
    return {"format": _FORMAT, **told, "config": dict(decoder.config)}


def _read(place: Path) -> TrainedDecoder:
    try:
        told = json.loads((place / FACTS).read_text("utf-8"))
        told.pop("format")
        told["subjects"] = tuple((str(label), int(voxels)) for label, voxels in told["subjects"])
        card = (place / _CARD).read_text("utf-8") if (place / _CARD).is_file() else ""
        return TrainedDecoder(name=place.name, card=card, **told)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{place / FACTS}, which can't be read ({type(error).__name__})",
            "the description that was written with the decoder",
            "Train the decoder again, or remove its folder.",
        ) from error
