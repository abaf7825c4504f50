"""Which models may be named: those that a job of another project trained are not there for whoever can't see the job.

What was trained or imported from the shell belongs to no project, and shows to all.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.pipelines import PIPELINES, find_pipeline
from voxelight.app.schemas import JobRequest, RecipeAnswer
from voxelight.models.errors import NotFound, VoxelightError
from voxelight.storage.access import find_principal
from voxelight.storage.decoders import TrainedDecoders
from voxelight.storage.schema import Job
from voxelight.storage.stores import Stores
from voxelight.storage.trained import TrainedModels


def list_recipes(stores: Stores) -> list[RecipeAnswer]:
    """Return every recipe that a job can name."""
    found = [recipe for kind in PIPELINES for recipe in find_pipeline(kind).list_recipes(stores.weights)]
    with stores.sessions() as session:
        hidden = find_hidden(session, stores)
    return [recipe for recipe in found if not hidden & {recipe.name, recipe.model}] if hidden else found


def find_hidden(session: Session, stores: Stores) -> frozenset[str]:
    """Return the names of the models that do not show."""
    principal = find_principal(session)
    if principal is None or principal.admin:
        return frozenset()
    known = [(model.name, model.provenance) for model in TrainedModels(stores.weights).list()]
    known += [(model.name, model.provenance) for model in TrainedDecoders(stores.weights).list()]
    made = {name: uuid.UUID(str(provenance["job"])) for name, provenance in known if provenance.get("job")}
    shown = set(session.scalars(select(Job.id).where(Job.id.in_(made.values())))) if made else set()
    return frozenset(name for name, job in made.items() if job not in shown)


@contextmanager
def hiding(session: Session, stores: Stores, request: JobRequest) -> Iterator[None]:
    """Plan a job within the block as if the models that do not show were not there.

    Raises
    ------
    NotFound
        The request names one of them, or an error within the block would tell of one.
    """
    hidden = find_hidden(session, stores)
    named = sorted(hidden & {request.recipe, *_find_texts(request.options)})
    if named:
        raise _missing(named[0])
    try:
        yield
    except VoxelightError as error:
        if any(name in str(error) for name in hidden):
            raise _missing(request.recipe) from None
        raise


def _missing(name: str) -> NotFound:
    return NotFound(f"no model or recipe {name!r}", "one of this list: GET /api/v1/recipes", "Correct the name.")


def _find_texts(options: Any) -> Iterator[str]:
    if isinstance(options, str):
        yield options
    elif isinstance(options, dict):
        for value in options.values():
            yield from _find_texts(value)
    elif isinstance(options, list):
        for value in options:
            yield from _find_texts(value)
