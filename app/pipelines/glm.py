"""Estimate single-trial betas from runs of BOLD: one run, one item; a data set of betas once all are done."""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from voxelight.app.pipelines import Item, ModelFacts, Pipeline, Plan, check_options
from voxelight.app.pipelines.glm_inputs import TAKES, RunFiles, find_runs, map_run, read_run, read_space
from voxelight.app.pipelines.outputs import PNG, file_stem
from voxelight.app.provenance import describe, find_revision
from voxelight.app.schemas import JobRequest, Label, RecipeAnswer
from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.models.values import Provenance
from voxelight.neuro.glm.choices import Choices
from voxelight.neuro.glm.options import PRESETS, GlmOptions, find_preset
from voxelight.storage.access import seeing_everything
from voxelight.storage.formats.fmri.bold_run import MOTION
from voxelight.storage.formats.fmri.volumes import count_volumes
from voxelight.storage.glm_choices import encode_table, read_choices, write_choices
from voxelight.storage.joblog import add_event
from voxelight.storage.results import JobOutcome, Outcome, OutputFile, Score
from voxelight.storage.schema import Dataset, Job, Run
from voxelight.storage.stores import Stores

if TYPE_CHECKING:
    from voxelight.neuro.glm.design import Run as BoldRun
    from voxelight.storage.formats.fmri.space import Space

TABLE = "application/x-npy"
_VERSION = "1"
_CHOSEN_ON_ALL = (
    "Components and shrinkage are chosen by which trials repeat a stimulus, in all runs: scores on betas of these runs "
    "are optimistic. Hold out the runs that a decoder is tested on, or take glm-lss."
)


class GlmJobOptions(BaseModel):
    """What an estimation job can set beside its preset.

    Parameters
    ----------
    name : of the data set of betas that comes out
    mask : id of the volume that marks the voxels, in place of every ``_mask.nii.gz``
    confounds : names of columns that are taken out, in which * and [xyz] stand for letters
    stimulus : column of the events that says what was shown
    held_out : runs, as items of the job are called, that take no part in what is chosen: their betas carry nothing of
        which stimuli they showed
    model : options of the estimation that differ from the preset
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Label | None = None
    mask: uuid.UUID | None = None
    confounds: tuple[str, ...] = MOTION
    stimulus: str | None = None
    held_out: tuple[str, ...] = ()
    model: dict[str, Any] = Field(default_factory=dict)

    def find_model(self, preset: str) -> GlmOptions:
        """Return the options of the estimation."""
        return check_options(GlmOptions, find_preset(preset).model_dump() | self.model)


def show_recipes(_: Path) -> list[RecipeAnswer]:
    """Return what a person chooses from."""
    return [
        RecipeAnswer(
            name=name, kind="glm", title=title, summary=f"{summary} Needs runs of BOLD with events and a mask.",
            model="glm", weights_sha256="", licence="",
        )
        for name, (title, summary, _) in PRESETS.items()
    ]  # fmt: skip


def plan(session: Session, stores: Stores, dataset: Dataset, request: JobRequest) -> Plan:
    """Find the runs, read all but their voxels, and name the data set to be.

    Raises
    ------
    NotFound
        There is no such preset, or a confound fits no column.
    BadInput
        There is no run with events and mask, or its parts contradict each other.
    Conflict
        A data set has the name.
    """
    options = check_options(GlmJobOptions, request.options)
    model = options.find_model(request.recipe)
    runs, masks, notes = find_runs(session, dataset, request, options.mask)
    for subject, stored in masks.items():
        space = read_space(stores, stored)
        for files in (run for run in runs if run.subject == subject):
            _, noted = read_run(stores, files, space, options.confounds, options.stimulus,
                                lambda bold: np.zeros((count_volumes(bold), 1)))  # fmt: skip
            notes = (*notes, *noted)
    _check_held_out(runs, options.held_out)
    if (model.denoise or model.estimate == "ridge") and not options.held_out:
        notes = (*notes, _CHOSEN_ON_ALL)
    with seeing_everything(session):  # names are one set for all projects
        name = options.name or _free_name(session, f"{dataset.name}-betas")
        taken = session.scalar(select(Dataset.id).where(Dataset.name == name)) is not None
    if taken:
        raise Conflict(f"a data set named {name!r}", "a new name for the betas", "Give the option name.")
    return Plan(
        items=tuple(Item(files.key, files.scan, files.subject_id) for files in runs),
        model=ModelFacts("glm", _VERSION, "single-trial betas", model.model_dump(mode="json"), "", "Apache-2.0"),
        params={
            "runs": [files.model_dump(mode="json") for files in runs],
            "masks": {subject: [list(one) for one in stored] for subject, stored in masks.items()},
            "output": name,
        },
        notes=notes,
    )


def _check_held_out(runs: Sequence[RunFiles], held_out: Sequence[str]) -> None:
    keys = [files.key for files in runs]
    for key in held_out:
        if key not in keys:
            raise NotFound(f"no run {key!r} to hold out", f"one of {', '.join(keys)}", "Correct the name.")
    left = {(files.subject, files.session) for files in runs if files.key not in held_out}
    whole = {(files.subject, files.session) for files in runs} - left
    if whole:
        raise BadInput(
            f"every run of session {'/'.join(min(whole))} held out", "one run or more to choose on", "Hold out fewer."
        )


def _free_name(session: Session, base: str) -> str:
    names = (base if number == 1 else f"{base}-{number}" for number in range(1, 10_000))
    return next(name for name in names if session.scalar(select(Dataset.id).where(Dataset.name == name)) is None)


class OpenGlm:
    """The runs of a job, mapped from the disk, and what was chosen for their sessions."""

    at_once = 1

    def __init__(self, stores: Stores, job: Job, device: str) -> None:
        self._stores, self._job = stores, job
        self._folder = stores.cache / "glm" / str(job.id)
        self._options = GlmJobOptions(**job.params["options"])
        self._model = self._options.find_model(job.recipe)
        self._files = [RunFiles(**told) for told in job.params["runs"]]
        self._spaces: dict[str, Space] = {
            subject: read_space(stores, [(name, sha256) for name, sha256 in stored])
            for subject, stored in job.params["masks"].items()
        }
        self._sessions: dict[tuple[str, str], list[BoldRun]] = {}
        self._choices: dict[tuple[str, str], Choices] = {}

    def run_items(self, runs: Sequence[Run], go_on: Callable[[], None]) -> Iterator[tuple[Run, Outcome]]:
        """Estimate one run after the other; what a session shares is chosen at its first run, and kept."""
        for run in runs:
            go_on()
            yield run, self._estimate(run, go_on)

    def finish(self, runs: list[Run]) -> JobOutcome:
        """Register the betas of all runs as a data set, and write maps and the page of their quality."""
        from voxelight.app.pipelines.glm_outputs import Finished

        if len(runs) < self._job.total:
            return JobOutcome()
        of_item = {run.item_key: run for run in runs}
        choices = {visit: self._choose(visit, None, lambda: None)
                   for visit in dict.fromkeys((files.subject, files.session) for files in self._files)}  # fmt: skip
        ids = {files.key: of_item[files.key].id for files in self._files}
        outcome = Finished(self._stores, self._job, self._files, ids, self._spaces, choices).write()
        shutil.rmtree(self._folder, ignore_errors=True)
        return outcome

    def _estimate(self, run: Run, go_on: Callable[[], None]) -> Outcome:
        from voxelight.neuro.glm.pictures import draw_design
        from voxelight.neuro.glm.session import estimate_run

        files = next(files for files in self._files if files.key == run.item_key)
        visit = (files.subject, files.session)
        choices = self._choose(visit, run, go_on)
        bold, number = self._open(visit), self._number(files)
        betas, frame = estimate_run(bold, number, choices, self._model, lambda _what, _share: go_on())
        kept = frame.run
        trials = {"stimulus": kept.events.stimulus_ids.tolist(), "onset": kept.events.onsets.tolist(),
                  "duration": kept.events.durations.tolist(),
                  "labels": {name: column.tolist() for name, column in kept.labels.items()}}  # fmt: skip
        picture = draw_design(frame, int(np.bincount(choices.response).argmax()), f"Design of {files.key}")
        stem = file_stem(files.key)
        told = {
            "model": self._model.model_dump(mode="json"), "confounds": list(self._options.confounds),
            "held_out": list(self._options.held_out),
            "repetition_s": kept.timing.repetition_s, "start_s": kept.timing.start_s, "non_steady": kept.non_steady,
            "autoregression": round(frame.rho, 4), "components": choices.count, "estimate": choices.estimate,
            "trials": len(betas), "voxels": betas.shape[1], "notes": list(choices.notes),
        }  # fmt: skip
        provenance = Provenance(self._job.recipe, "", find_revision(), self._job.seed, "cpu", told)
        masks = dict(self._job.params["masks"][files.subject])
        return Outcome(
            files=(
                OutputFile("betas", f"{stem}_betas.npy", TABLE, encode_table(betas)),
                OutputFile("trials", f"{stem}_trials.json", "application/json", json.dumps(trials).encode()),
                OutputFile("design", f"{stem}_design.png", PNG, picture),
            ),
            provenance=describe(provenance, files.hashes | masks),
            scores=(
                Score("components", choices.count),
                Score("responding_voxels", float((choices.gain >= 3).mean()), unit="share"),
            ),
        )

    def _number(self, files: RunFiles) -> int:
        return self._of(files.subject, files.session).index(files)

    def _of(self, subject: str, session: str) -> list[RunFiles]:
        return [files for files in self._files if (files.subject, files.session) == (subject, session)]

    def _open(self, visit: tuple[str, str]) -> "list[BoldRun]":
        """Return the runs of a session, each mapped from a table that is written once."""
        if visit not in self._sessions:
            read = [map_run(self._stores, files, self._spaces[visit[0]], self._options.confounds,
                            self._options.stimulus, self._folder) for files in self._of(*visit)]  # fmt: skip
            self._sessions[visit] = [run for run, _ in read]
        return self._sessions[visit]

    def _choose(self, visit: tuple[str, str], run: Run | None, go_on: Callable[[], None]) -> Choices:
        """Return what was chosen for a session: in memory, on the disk, or chosen now."""
        from voxelight.neuro.glm.session import choose_for_session

        if visit in self._choices:
            return self._choices[visit]
        path = self._folder / f"{file_stem('/'.join(visit))}.npz"
        if not path.is_file():
            said: set[str] = set()

            def step(what: str, _share: float) -> None:
                go_on()
                if what not in said:
                    said.add(what)
                    self._say(f"{'/'.join(visit)}: choosing {what}.", run)

            chosen = [bold for bold, files in zip(self._open(visit), self._of(*visit), strict=True)
                      if files.key not in self._options.held_out]  # fmt: skip
            write_choices(path, choose_for_session(chosen, self._model, step))
            for note in read_choices(path).notes:
                self._say(f"{'/'.join(visit)}: {note}.", run, "warning")
        self._choices[visit] = read_choices(path)
        return self._choices[visit]

    def _say(self, message: str, run: Run | None, level: str = "info") -> None:
        with self._stores.sessions.begin() as session:
            add_event(session, self._job.id, message, run.id if run else None, level)


PIPELINE = Pipeline(
    list_recipes=show_recipes,
    plan=plan,
    open=OpenGlm,
    step_size=1,
    options=GlmJobOptions,
    takes=TAKES,
)
