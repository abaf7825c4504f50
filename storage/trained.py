"""Segmentation models of this installation: trained here or imported, each a folder that is there whole or not at all.

``<weights>/segmentation/<name>/`` holds ``model.json`` (recipe, licence, source, hashes), ``card.md`` and one
``weights-<n>.safetensors`` a fold.
"""

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from voxelight.medseg.recipes import list_recipes
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.models.errors import BadInput, Conflict, NotFound, Unavailable
from voxelight.models.records import hash_file

if TYPE_CHECKING:
    from voxelight.models.checkpoints import Tensors

    States = list[Tensors]

_FACTS, _CARD, _PART = "model.json", "card.md", ".part"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")
_FORMAT = 1


@dataclass(frozen=True)
class TrainedModel:
    """A model with everything that a segmentation needs but the tensors.

    Parameters
    ----------
    recipe : its name is that of the model
    sha256s : hash of each file of weights; several are the folds of an ensemble
    licence : SPDX identifier, or what is known of the terms
    source : the data, or the file that it was imported from
    origin : ``trained``, or what it was imported from
    card : Markdown
    provenance : how it was made, as JSON
    """

    recipe: SegmentationRecipe
    sha256s: tuple[str, ...]
    licence: str
    source: str
    origin: str = "trained"
    card: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the model and of its recipe."""
        return self.recipe.name

    @property
    def sha256(self) -> str:
        """One hash of all its weights: that of its one file, else of the lines that ``sha256sum`` would print."""
        if len(self.sha256s) == 1:
            return self.sha256s[0]
        lines = "".join(f"{sha256}  {_file(number)}\n" for number, sha256 in enumerate(self.sha256s))
        return hashlib.sha256(lines.encode()).hexdigest()


class TrainedModels:
    """The models below one folder.

    Parameters
    ----------
    weights : folder of all weights of an installation
    """

    def __init__(self, weights: Path) -> None:
        self._folder = weights / "segmentation"

    def list(self) -> list[TrainedModel]:
        """Return every model, by name; what is damaged is left out, and told by `find`."""
        places = sorted(path for path in self._folder.glob("*") if (path / _FACTS).is_file() and _fits(path.name))
        found = []
        for place in places:
            try:
                found.append(_read(place))
            except BadInput:
                continue
        return found

    def has(self, name: str) -> bool:
        """Return whether there is a model of this name."""
        return _fits(name) and (self._folder / name / _FACTS).is_file()

    def find(self, name: str) -> TrainedModel:
        """Return what is known of a model.

        Raises
        ------
        NotFound
            There is none of this name.
        BadInput
            Its description can't be read.
        """
        if not self.has(name):
            known = ", ".join(model.name for model in self.list()) or "none yet"
            raise NotFound(f"no trained or imported model {name!r}", f"one of {known}", "Train or import it first.")
        return _read(self._folder / name)

    def load(self, name: str) -> "States":
        """Read the tensors of a model after checking their hashes, one state a fold.

        Raises
        ------
        NotFound, BadInput
            As `find`.
        Unavailable
            A file is missing.
        Conflict
            A file is not the one that was written.
        """
        from safetensors.torch import load_file

        model = self.find(name)
        states = []
        for number, sha256 in enumerate(model.sha256s):
            path = self._folder / name / _file(number)
            if not path.is_file():
                raise Unavailable(f"no file {path}", "the weights of the model", "Train or import the model again.")
            if (found := hash_file(path)) != sha256:
                raise Conflict(f"{path} with sha256 {found}", f"sha256 {sha256}", "Train or import the model again.")
            states.append(load_file(str(path)))
        return states

    def write(self, model: TrainedModel, contents: Sequence[bytes], replace: bool = False) -> Path:
        """Keep a model.

        Parameters
        ----------
        model : its hashes must be those of the contents
        contents : safetensors, one a fold
        replace : put it in place of an earlier model of its name

        Returns
        -------
        its folder

        Raises
        ------
        BadInput
            The name is no plain word, or there are no weights.
        Conflict
            A packaged recipe has the name, or another model has it and is not to be replaced.
        """
        self.refuse_name(model.name, replace)
        if not contents or len(contents) != len(model.sha256s):
            raise BadInput(f"{len(contents)} files of weights for {len(model.sha256s)} hashes",
                           "one a hash, and one at least", "Hand in the weights of every fold.")  # fmt: skip
        place = self._folder / model.name
        temporary = self._folder / f".{model.name}.{uuid.uuid4().hex[:8]}{_PART}"
        temporary.mkdir(parents=True)
        try:
            for number, content in enumerate(contents):
                (temporary / _file(number)).write_bytes(content)
            (temporary / _CARD).write_text(model.card, encoding="utf-8")
            (temporary / _FACTS).write_text(json.dumps(_describe(model), indent=2), encoding="utf-8")
            shutil.rmtree(place, ignore_errors=True)
            temporary.replace(place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return place

    def set_temperature(self, name: str, temperature: float, facts: Mapping[str, Any]) -> None:
        """Keep the temperature of a model in its recipe, and how it was fitted in its provenance.

        Raises
        ------
        NotFound, BadInput
            As `find`.
        """
        model = self.find(name)
        recipe = model.recipe.model_copy(update={"temperature": temperature})
        changed = replace(model, recipe=recipe, provenance=model.provenance | {"calibration": dict(facts)})
        place = self._folder / name
        temporary = place / f"{_FACTS}{_PART}"
        temporary.write_text(json.dumps(_describe(changed), indent=2), encoding="utf-8")
        temporary.replace(place / _FACTS)

    def remove(self, name: str) -> None:
        """Forget a model and its weights.

        Raises
        ------
        NotFound
            There is none of this name.
        """
        self.find(name)
        shutil.rmtree(self._folder / name)

    def refuse_name(self, name: str, replace: bool = False) -> None:
        """Refuse a name that a model can't have.

        Raises
        ------
        BadInput, Conflict
            As `write`.
        """
        if not _fits(name):
            raise BadInput(f"the model name {name[:60]!r}", "letters, digits, '_', '.' and '-', at most 120",
                           "Choose another name.")  # fmt: skip
        if name in {recipe.name for recipe in list_recipes()}:
            raise Conflict(f"the name {name!r}, which a packaged recipe has", "another", "Choose another name.")
        if self.has(name) and not replace:
            raise Conflict(f"a model {name!r} that is here already", "a new name", "Choose another, or remove it.")


def _fits(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def _file(number: int) -> str:
    return f"weights-{number}.safetensors"


def _describe(model: TrainedModel) -> Mapping[str, Any]:
    return {
        "format": _FORMAT,
        "recipe": model.recipe.model_dump(mode="json"),
        "sha256s": list(model.sha256s),
        "licence": model.licence,
        "source": model.source,
        "origin": model.origin,
        "provenance": model.provenance,
    }


def _read(place: Path) -> TrainedModel:
    try:
        told = json.loads((place / _FACTS).read_text("utf-8"))
        recipe = SegmentationRecipe.model_validate(told["recipe"] | {"name": place.name})
        card = (place / _CARD).read_text("utf-8") if (place / _CARD).is_file() else ""
        return TrainedModel(
            recipe, tuple(told["sha256s"]), told["licence"], told["source"], told["origin"], card, told["provenance"]
        )
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise BadInput(
            f"{place / _FACTS}, which can't be read ({type(error).__name__})",
            "the description that was written with the model",
            "Train or import the model again, or remove its folder.",
        ) from error
