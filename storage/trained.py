"""Segmentation models of this installation: trained here or imported, each a folder that is there whole or not at all.

``<weights>/segmentation/<name>/`` holds ``model.json`` (recipe, licence, source, hashes), ``card.md`` and one
``weights-<n>.safetensors`` a fold.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from voxelight.medseg.recipes import list_recipes
from voxelight.medseg.recipes.recipe import SegmentationRecipe
from voxelight.models.errors import BadInput, Conflict, Unavailable
from voxelight.models.records import hash_file
from voxelight.storage.model_folders import FACTS, ModelFolders, refuse_unfit, replacing_folder

if TYPE_CHECKING:
    from voxelight.models.checkpoints import Tensors

    States = list[Tensors]

_CARD, _PART = "card.md", ".part"
_UNCERTAINTY = "## Uncertainty"
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


class TrainedModels(ModelFolders[TrainedModel]):
    """The models below one folder.

    Parameters
    ----------
    weights : folder of all weights of an installation
    """

    def __init__(self, weights: Path) -> None:
        super().__init__(weights / "segmentation", _read, "trained or imported model", "Train or import it first.")

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
        with replacing_folder(place) as temporary:
            for number, content in enumerate(contents):
                (temporary / _file(number)).write_bytes(content)
            (temporary / _CARD).write_text(model.card, encoding="utf-8")
            (temporary / FACTS).write_text(json.dumps(_describe(model), indent=2), encoding="utf-8")
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
        self._change(name, replace(model, recipe=recipe, provenance=model.provenance | {"calibration": dict(facts)}))

    def set_uncertainty(self, name: str, kind: str, facts: Mapping[str, Any], said: str) -> None:
        """Keep in the recipe of a model what its uncertainty is, how that was chosen, and say it in its card.

        Parameters
        ----------
        name : of the model
        kind : of `SegmentationRecipe.uncertainty`
        facts : for its provenance
        said : a sentence for its card, in place of an earlier one

        Raises
        ------
        NotFound, BadInput
            As `find`.
        """
        model = self.find(name)
        recipe = model.recipe.model_copy(update={"uncertainty": kind})
        card = f"{model.card.partition(_UNCERTAINTY)[0].rstrip()}\n\n{_UNCERTAINTY}\n\n{said}\n"
        changed = replace(model, recipe=recipe, card=card, provenance=model.provenance | {"uncertainty": dict(facts)})
        self._change(name, changed)

    def _change(self, name: str, changed: TrainedModel) -> None:
        place = self._folder / name
        (place / f"{_CARD}{_PART}").write_text(changed.card, encoding="utf-8")
        (place / f"{_CARD}{_PART}").replace(place / _CARD)
        temporary = place / f"{FACTS}{_PART}"
        temporary.write_text(json.dumps(_describe(changed), indent=2), encoding="utf-8")
        temporary.replace(place / FACTS)

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
        refuse_unfit(name)
        if name in {recipe.name for recipe in list_recipes()}:
            raise Conflict(f"the name {name!r}, which a packaged recipe has", "another", "Choose another name.")
        if self.has(name) and not replace:
            raise Conflict(f"a model {name!r} that is here already", "a new name", "Choose another, or remove it.")


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
        told = json.loads((place / FACTS).read_text("utf-8"))
        recipe = SegmentationRecipe.model_validate(told["recipe"] | {"name": place.name})
        card = (place / _CARD).read_text("utf-8") if (place / _CARD).is_file() else ""
        return TrainedModel(
            recipe, tuple(told["sha256s"]), told["licence"], told["source"], told["origin"], card, told["provenance"]
        )
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise BadInput(
            f"{place / FACTS}, which can't be read ({type(error).__name__})",
            "the description that was written with the model",
            "Train or import the model again, or remove its folder.",
        ) from error
