"""Simulated subjects on disk: written a batch and a session at a time, taken up where a writer was stopped.

A folder holds ``make.json``, which says how the subjects were made, and for each subject a folder with ``betas.npy``
(trial, voxel), ``trials.tsv`` and ``voxels.tsv``. A subject is there whole, or not there: ``betas.npy`` comes last.
"""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from voxelight.models.errors import BadInput, Conflict, NotFound, Unavailable
from voxelight.models.values import Betas
from voxelight.neuro.simulation.ceilings import find_nsd_subject
from voxelight.neuro.simulation.design import DesignOptions, Trials, plan_trials
from voxelight.neuro.simulation.late import Encoder
from voxelight.neuro.simulation.pictures import PictureSet
from voxelight.neuro.simulation.session import batch_pictures, label_trials, simulate_session
from voxelight.neuro.simulation.subject import BATCH, KINDS, SimulatedSubject, SubjectOptions, make_subject
from voxelight.neuro.simulation.texture import TEXTURE
from voxelight.storage.formats.rows import Progress, RowFile
from voxelight.storage.formats.streams import readable, replacing
from voxelight.storage.formats.tables import read_columns

OnStep = Callable[[int, int], None]

_MAKE, _BETAS, _TRIALS, _VOXELS = "make.json", "betas.npy", "trials.tsv", "voxels.tsv"
_PROGRESS, _SIGNALS_PART, _BETAS_PART = ".progress.json", ".signals.npy.part", ".betas.npy.part"
_LABELS = ("session", "run", "repeat", "shared")


class Make(BaseModel):
    """What is simulated.

    Parameters
    ----------
    subjects : numbers of the subjects, from 1
    sessions : of each subject, at most; where not given, as many as the NSD subject of that number has
    design : the experiment as it is planned; simulating fewer sessions changes nothing in the first ones
    options : kind, voxels, seed and noise
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    subjects: tuple[PositiveInt, ...] = Field(default=tuple(range(1, 9)), min_length=1)
    sessions: PositiveInt | None = None
    design: DesignOptions = DesignOptions()
    options: SubjectOptions = SubjectOptions()

    def count_sessions(self, number: int) -> int:
        """Return the sessions of a subject."""
        return min(self.sessions or find_nsd_subject(number).sessions, self.design.sessions)


def write_simulated(
    folder: Path, pictures: PictureSet, make: Make, encoder: Encoder = TEXTURE, on_step: OnStep | None = None
) -> list[Path]:
    """Simulate subjects into a folder, or go on with what an interrupted call left there.

    Memory holds one session of one subject. On disk the responses without noise stand beside the betas until a subject
    is done.

    Parameters
    ----------
    folder : made where it is missing; it holds one simulation
    pictures : what is seen
    make : Make
    encoder : of the late voxels, or the decoder's tokens for matched
    on_step : (done, total), before every batch of pictures and every session; raise to stop

    Returns
    -------
    the folders of the subjects

    Raises
    ------
    BadInput
        There are too few pictures for the design; nothing is written.
    Conflict
        The folder holds another simulation.
    Unavailable
        The disk has too little room.
    """
    plans = {number: _plan(pictures, make, number) for number in make.subjects}
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, pictures, make, encoder)
    sizes = {number: len(batch_pictures(*plan)) + make.count_sessions(number) for number, plan in plans.items()}
    total, done = sum(sizes.values()), 0
    for number, (plan, trials) in plans.items():
        place = find_subject_folder(folder, number)
        if not (place / _BETAS).is_file():
            subject = make_subject(number, pictures, make.options, encoder)
            _write_subject(place, subject, pictures, (plan, trials), partial(_tell, on_step, total, done))
        _clear(place)
        done += sizes[number]
    _tell(on_step, total, done, 0)
    return [find_subject_folder(folder, number) for number in make.subjects]


def read_simulated(folder: Path, number: int) -> Betas:
    """Read a simulated subject; the betas stay on disk.

    Parameters
    ----------
    folder : from `write_simulated`
    number : of the subject, from 1

    Returns
    -------
    Betas (trial, voxel), memory-mapped and always `simulated`, with the labels `session`, `run`, `repeat` and `shared`

    Raises
    ------
    NotFound
        The folder holds no simulation, or not this subject.
    Conflict
        The subject is unfinished.
    BadInput
        A file is damaged.
    """
    make, place = read_make(folder), find_subject_folder(folder, number)
    if number not in make["subjects"]:
        raise NotFound(f"no subject {number} in {folder}", f"one of {make['subjects']}", "Correct the number.")
    if not (place / _BETAS).is_file():
        raise Conflict(f"subject {number} in {folder}, unfinished", "a whole subject", "Simulate again: it goes on.")
    try:
        values = np.load(place / _BETAS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(
            f"{place / _BETAS}, damaged ({error})", "a whole array", "Remove it and simulate again."
        ) from error
    columns = read_columns(place / _TRIALS)
    labels = {name: np.array(columns[name]) for name in _LABELS}
    return Betas(values, np.array(columns["stimulus"]), make["names"][str(number)], make["roi"], labels, simulated=True)


def read_voxels(folder: Path, number: int) -> dict[str, NDArray[Any]]:
    """Read what is known of every voxel of a subject.

    Returns
    -------
    ``region`` : array (voxel,), str
    ``ncsnr`` : array (voxel,), what repeats should show
    ``x``, ``y``, ``size`` : array (voxel,), receptive field in degrees; NaN where there is none
    """
    columns = read_columns(find_subject_folder(folder, number) / _VOXELS)
    return {
        name: np.array(cells) if name == "region" else np.array([float("nan" if c == "n/a" else c) for c in cells])
        for name, cells in columns.items()
    }


def read_make(folder: Path) -> dict[str, Any]:
    """Read how the subjects of a folder were made.

    Raises
    ------
    NotFound
        The folder holds no simulation.
    """
    path = folder / _MAKE
    if not path.is_file():
        raise NotFound(f"no {_MAKE} in {folder}", "a folder of simulated subjects", "Check the path.")
    make: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return make


def find_subject_folder(folder: Path, number: int) -> Path:
    """Return the folder of a subject."""
    return folder / f"sub-{number:02d}"


def hash_pictures(pictures: PictureSet) -> str:
    """Return the sha256 of all ids and of the content of the first batch."""
    total = hashlib.sha256("\n".join(pictures.ids.tolist()).encode())
    first = pictures.read(np.arange(min(BATCH, len(pictures.ids))))
    total.update(np.ascontiguousarray(first.images, dtype="<f4").data)
    return total.hexdigest()


def _claim(folder: Path, pictures: PictureSet, make: Make, encoder: Encoder) -> None:
    """Write ``make.json``, or see that the same one is there."""
    kind = make.options.kind
    told = make.model_dump(mode="json") | {
        "simulated": True,
        "kind": kind,
        "means": KINDS[kind],
        "encoder": encoder.name,
        "noise": make.options.used_noise.model_dump(mode="json"),
        "names": {str(number): f"simulated-{kind}-{number:02d}" for number in make.subjects},
        "roi": f"simulated nsdgeneral ({kind}, {encoder.name})",
        "pictures": len(pictures.ids),
        "pictures_sha256": hash_pictures(pictures),
        "notice": "Simulated: nobody was scanned. Not for clinical use.",
    }
    if (folder / _MAKE).is_file():
        there = read_make(folder)
        different = sorted(name for name in told | there if told.get(name) != there.get(name))
        if different:
            raise Conflict(
                f"another simulation in {folder}, of other {', '.join(different)}",
                "a new folder, or the same simulation to go on with",
                "Name another folder.",
            )
        return
    with replacing(folder / _MAKE) as file:
        file.write(f"{json.dumps(told, indent=2)}\n".encode())


def _plan(pictures: PictureSet, make: Make, number: int) -> tuple[Trials, Trials]:
    plan = plan_trials(len(pictures.ids), number, make.options.seed, make.design)
    return plan, plan.select(np.flatnonzero(plan.sessions <= make.count_sessions(number)))


def _write_subject(
    place: Path,
    subject: SimulatedSubject,
    pictures: PictureSet,
    plan_and_trials: tuple[Trials, Trials],
    tell: Callable[[int], None],
) -> None:
    place.mkdir(exist_ok=True)
    plan, trials = plan_and_trials
    batches, voxels = batch_pictures(plan, trials), len(subject.ncsnr)
    if not (place / _SIGNALS_PART).is_file():
        _clear(place)
    n_pictures, done = sum(map(len, batches)), Progress(place / _PROGRESS)
    if not done.steps:
        _make_room(place, 4 * voxels * (n_pictures + len(trials.pictures)))
        _write_tables(place, subject, pictures, trials)
    signals = RowFile(place / _SIGNALS_PART, (n_pictures, voxels), fresh=not done.steps)
    for step in range(done.steps, len(batches)):
        tell(step)
        signals.write(step * BATCH, subject.respond(pictures.read(batches[step])))
        done.note(step + 1)
    betas = RowFile(place / _BETAS_PART, (len(trials.pictures), voxels), fresh=done.steps <= len(batches))
    spots = plan.places(trials)
    for session in range(done.steps - len(batches) + 1, int(trials.sessions[-1]) + 1):
        tell(len(batches) + session - 1)
        rows = np.flatnonzero(trials.sessions == session)
        betas.write(int(rows[0]), simulate_session(subject, session, signals.read(spots[rows]), trials.runs[rows]))
        done.note(len(batches) + session)
    betas.path.replace(place / _BETAS)


def _tell(on_step: OnStep | None, total: int, before: int, step: int) -> None:
    if on_step is not None:
        on_step(before + step, total)


def _clear(place: Path) -> None:
    """Remove what unfinished work left: the progress first, without which nothing else counts."""
    for name in (_PROGRESS, _SIGNALS_PART, _BETAS_PART):
        (place / name).unlink(missing_ok=True)


def _make_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Unavailable(
            f"{readable(free)} free for {folder}",
            f"{readable(needed)} for the next subject",
            "Make room, or plan fewer.",
        )


def _write_tables(place: Path, subject: SimulatedSubject, pictures: PictureSet, trials: Trials) -> None:
    labels = label_trials(trials)
    rows = zip(*(labels[name].tolist() for name in _LABELS), pictures.ids[trials.pictures].tolist(), strict=True)
    _write_table(place / _TRIALS, (*_LABELS, "stimulus"), rows)
    early, n_voxels = subject.early, len(subject.ncsnr)
    fields = np.full((n_voxels, 3), np.nan)
    if early is not None:
        fields[: len(early.x)] = np.stack([early.x, early.y, early.size], axis=1)
    columns = (subject.regions.tolist(), *np.column_stack([subject.ncsnr, fields]).T.tolist())
    cells = (
        (region, *(f"{number:.6g}" if np.isfinite(number) else "n/a" for number in numbers))
        for region, *numbers in zip(*columns, strict=True)
    )
    _write_table(place / _VOXELS, ("region", "ncsnr", "x", "y", "size"), cells)


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode())
