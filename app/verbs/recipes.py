"""What a job can do: recipes with the card of their model, their licence and what they take."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import get_args

from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.costs import find_cost
from voxelight.app.pipelines import find_pipeline
from voxelight.app.pipelines.choice import find_conditions
from voxelight.app.pipelines.linear_recipes import find_linear
from voxelight.app.pipelines.profiles import find_decoding_profile
from voxelight.app.schemas import DECODING, NOTICE, QueueName, RecipeAnswer, ScanQuery
from voxelight.app.schemas_jobs import CostAnswer, RecipeCardAnswer, ScanChoice
from voxelight.app.verbs.own_models import list_recipes
from voxelight.app.verbs.progress import find_pace
from voxelight.models.errors import NotFound, Unavailable
from voxelight.models.weights import WEIGHTS, find_part_sha256
from voxelight.neuro.profiles import GenerationOptions
from voxelight.storage.decoders import TrainedDecoders
from voxelight.storage.queries import find_dataset
from voxelight.storage.schema import ImagingSession, Scan, Subject
from voxelight.storage.stores import Stores
from voxelight.storage.trained import TrainedModels

_DECODED = "What is decoded is an estimate of the model; data without consent and purpose are not decoded."


class Recipes:
    """The recipes that a job can name."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def list(self) -> Sequence[RecipeAnswer]:
        """Return every recipe, without its card."""
        return list_recipes(self._stores)

    def show(self, name: str) -> RecipeCardAnswer:
        """Return one recipe with the card of its model, what an item takes, and what to mind.

        Raises
        ------
        NotFound
            There is none of this name.
        """
        recipe = self._find(name)
        pipeline = find_pipeline(recipe.kind)
        with self._stores.sessions() as session:
            costs = _find_costs(session, name)
        return RecipeCardAnswer(
            **recipe.model_dump(exclude={"takes"}),
            card=read_card(self._stores.weights, recipe.model),
            costs=costs,
            warnings=list(self._find_warnings(recipe)),
            options=pipeline.options.model_json_schema(),
            takes=recipe.takes or list(pipeline.takes),
        )

    def find_scans(self, name: str, dataset: str, query: ScanQuery) -> Sequence[ScanChoice]:
        """Return the scans of a data set that a recipe can take and that fit a query, as a job would take them.

        Raises
        ------
        NotFound
            There is no such recipe or data set.
        """
        recipe = self._find(name)
        takes = tuple(recipe.takes) or find_pipeline(recipe.kind).takes
        with self._stores.sessions() as session:
            conditions = find_conditions(find_dataset(session, dataset).id, query, takes)
            columns = (Scan.id, Scan.name, Scan.kind, Subject.label, ImagingSession.label, Scan.held)
            found = select(*columns).join(Scan.imaging_session).join(ImagingSession.subject).where(*conditions)
            rows = session.execute(found.order_by(Scan.created_at, Scan.id))
            return [ScanChoice.model_validate(dict(zip(ScanChoice.model_fields, row, strict=True))) for row in rows]

    def _find(self, name: str) -> RecipeAnswer:
        known = {recipe.name: recipe for recipe in self.list()}
        if name not in known:
            raise NotFound(f"no recipe {name!r}", f"one of {', '.join(known)}", "Correct the name.")
        return known[name]

    def _find_warnings(self, recipe: RecipeAnswer) -> Sequence[str]:
        warnings = [NOTICE]
        if recipe.kind in DECODING:
            warnings.append(_DECODED)
        if recipe.random_weights:
            warnings.append("Random weights: nothing was learnt, so what comes out means nothing.")
        linear = find_linear(self._stores.weights, recipe.name)
        if recipe.kind == "decode" and (linear or find_decoding_profile(self._stores.weights, recipe.name)).simulated:
            warnings.append("Its decoder was fitted to a SIMULATED subject: it reads the betas of that subject alone.")
        if "not-verified" in recipe.licence:
            warnings.append("The licence of a part could not be verified; docs/weights.md says which.")
        if recipe.kind == "decode" and linear is None and not recipe.random_weights:
            warnings += self._find_missing(recipe.name)
        return warnings

    def _find_missing(self, name: str) -> Sequence[str]:
        """Say which weights of a profile were not fetched."""
        profile, options = find_decoding_profile(self._stores.weights, name), GenerationOptions()
        try:
            for part in profile.list_parts(options):
                find_part_sha256(self._stores.weights, profile.weights[part], part)
        except Unavailable as error:
            return [f"Its weights are not here: {error}"]
        return []


def read_card(weights: Path, model: str) -> str:
    """Return the card of a model's weights in Markdown; empty where there is none.

    Parameters
    ----------
    weights : folder of those that were trained, imported or fetched
    model : its name
    """
    card = f"{model}.md"
    if card not in {known.card for known in WEIGHTS.values()}:
        kept = (TrainedModels(weights), TrainedDecoders(weights))
        return next((models.find(model).card for models in kept if models.has(model)), "")
    return (files("voxelight.models.shipped") / card).read_text("utf-8")


def _find_costs(session: Session, recipe: str) -> list[CostAnswer]:
    """Return what an item takes on each queue: as finished items here say, else as was measured elsewhere."""
    costs = []
    for queue in get_args(QueueName):
        measured = find_cost(recipe, queue)
        memory = measured.memory_gib if measured else None
        pace = find_pace(session, recipe, queue)
        if pace is not None:
            source = f"mean of {pace[1]} finished items here" + (
                f"; memory measured on {measured.on}" if measured else ""
            )
            costs.append(CostAnswer(queue=queue, seconds_an_item=pace[0], memory_gib=memory, source=source))
        elif measured is not None:
            costs.append(
                CostAnswer(queue=queue, seconds_an_item=measured.seconds, memory_gib=memory, source=measured.how)
            )
    return costs
