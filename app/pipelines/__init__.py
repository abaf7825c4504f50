"""What a job can do: each kind names its pipeline. Planning needs no torch; opening a pipeline does."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from voxelight.app.schemas import JobRequest, RecipeAnswer
from voxelight.models.errors import BadInput
from voxelight.storage.results import JobOutcome, Outcome
from voxelight.storage.schema import Dataset, Job, Run
from voxelight.storage.stores import Stores

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True)
class Item:
    """One row of a job to be: its key, and whose scan it is about."""

    key: str
    scan_id: uuid.UUID
    subject_id: uuid.UUID


@dataclass(frozen=True)
class ModelFacts:
    """What does the work, as the database names it."""

    name: str
    version: str
    task: str
    config: dict[str, Any]
    weights_sha256: str
    licence: str


@dataclass(frozen=True)
class Plan:
    """A checked request: the items in order, the model, what the worker must know, and in words what was left out."""

    items: tuple[Item, ...]
    model: ModelFacts
    params: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class OpenPipeline(Protocol):
    """A pipeline with its inputs in memory.

    Parameters
    ----------
    at_once : items that it does better together than one after the other
    """

    at_once: int

    def run_items(self, runs: Sequence[Run], go_on: Callable[[], None]) -> Iterator[tuple[Run, Outcome]]:
        """Do items together and yield each with what it gave; `go_on` raises where they are to be left alone."""
        ...

    def finish(self, runs: list[Run]) -> JobOutcome:
        """Make what belongs to the job as a whole, from the runs that are done."""
        ...


Mix = Callable[[Sequence[tuple[OpenPipeline, Run]], Callable[[], None]], Iterator[tuple[Run, Outcome]]]


@dataclass(frozen=True)
class Pipeline:
    """One kind of job.

    Parameters
    ----------
    list_recipes : the recipes that a job of this kind can name, given the folder of weights of the installation
    plan : checks a request against what is stored; raises what a person should read
    open : loads weights and inputs for a job, on a device
    step_size : items in one durable step, a multiple of what a pipeline may do at once
    options : what a job can set beside its recipe
    takes : kinds of scans that it reads
    mix : does items of several jobs in one batch, each with its own inputs, and yields what each gives alone
    pauses : whether an item that is left goes on from a checkpoint on the same machine
    """

    list_recipes: Callable[[Path], list[RecipeAnswer]]
    plan: Callable[[Session, Stores, Dataset, JobRequest], Plan]
    open: Callable[[Stores, Job, str], OpenPipeline]
    step_size: int
    options: type[BaseModel]
    takes: tuple[str, ...]
    mix: Mix | None = None
    pauses: bool = False


def check_options(model: type[Options], options: dict[str, Any]) -> Options:
    """Read the options of a job.

    Raises
    ------
    BadInput
        One is unknown or has no use.
    """
    try:
        return model(**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadInput(
            f"option {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}",
            f"options among {', '.join(model.model_fields) or 'none'}",
            "Correct or leave out the option.",
        ) from None


PIPELINES = {
    "segment": "voxelight.app.pipelines.segment:PIPELINE",
    "reconstruct": "voxelight.app.pipelines.reconstruct:PIPELINE",
    "decode": "voxelight.app.pipelines.decode:PIPELINE",
    "train-segmenter": "voxelight.app.pipelines.train_segmenter:PIPELINE",
    "train-decoder": "voxelight.app.pipelines.train_decoder:PIPELINE",
    "train-linear": "voxelight.app.pipelines.train_linear:PIPELINE",
    "glm": "voxelight.app.pipelines.glm:PIPELINE",
}


def find_pipeline(kind: str) -> Pipeline:
    """Return the pipeline of a kind of job."""
    module, name = PIPELINES[kind].split(":")
    pipeline: Pipeline = getattr(import_module(module), name)
    return pipeline
