"""Answers as a person reads them."""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from voxelight.app.schemas import (
    PRIORITIES,
    DatasetAnswer,
    DecodedAnswer,
    JobAnswer,
    MetricAnswer,
    ModelAnswer,
    RecipeAnswer,
    ResultAnswer,
    RunAnswer,
    ScanAnswer,
)
from voxelight.app.schemas_jobs import CostAnswer
from voxelight.app.schemas_recordings import LayoutAnswer, SubjectRow
from voxelight.app.schemas_training import CurveAnswer

_COLOURS = {"done": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def make_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table | Text:
    """Lay out rows; numbers stand to the right."""
    rows = list(rows)
    if not rows:
        return Text(f"{title}: none" if title else "None.")
    table = Table(box=SIMPLE, title=title or None, title_justify="left", pad_edge=False)
    for place, column in enumerate(columns):
        numeric = all(isinstance(row[place], int | float) for row in rows)
        whole = all(isinstance(row[place], uuid.UUID) for row in rows)  # an id in two lines can't be copied
        table.add_column(column, justify="right" if numeric else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def make_card(facts: dict[str, object]) -> Table:
    """Lay out one thing, a line a fact; empty ones are left out."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value not in (None, "", {}, []):
            table.add_row(name, _cell(value))
    return table


def show_datasets(answers: Sequence[DatasetAnswer]) -> Table | Text:
    """List data sets."""
    return make_table(
        ("data set", "consent", "purpose", "simulated", "subjects", "scans", "created"),
        ((a.name, a.consent, a.purpose, a.simulated, a.subjects, a.scans, a.created_at) for a in answers),
    )


def show_scans(answers: Sequence[ScanAnswer]) -> Table | Text:
    """List scans."""
    return make_table(
        ("scan", "data set", "subject", "session", "name", "kind", "warnings"),
        ((a.id, a.dataset, a.subject, a.session, a.name, a.kind, len(a.warnings)) for a in answers),
    )


def show_layouts(answers: Sequence[LayoutAnswer]) -> Table | Text:
    """List layouts of fMRI betas."""
    return make_table(
        ("layout", "what", "files", "read", "terms of what is published"),
        ((a.name, a.title, a.files, a.reading, a.terms) for a in answers),
    )


def show_subjects(rows: Sequence[SubjectRow], title: str) -> Table | Text:
    """List what a folder of fMRI betas holds."""
    table = make_table(
        ("subject", "sessions", "runs", "trials", "stimuli", "repeated", "regions"),
        (
            (row.subject, row.sessions, row.runs, row.trials, row.stimuli, row.repeated, ", ".join(row.rois))
            for row in rows
        ),
    )
    if isinstance(table, Table):
        table.title = title
    return table


def show_jobs(answers: Sequence[JobAnswer]) -> Table | Text:
    """List jobs."""
    return make_table(
        ("job", "recipe", "data set", "queue", "status", "place", "done", "failed", "of", "created"),
        (
            (a.id, a.recipe, _mark(a.dataset, a.simulated), a.queue, _status(a.status), a.place, a.done, a.failed,
             a.total, a.created_at)
            for a in answers
        ),
    )  # fmt: skip


def show_job(answer: JobAnswer) -> list[Table | Text]:
    """Show one job with its scores and files."""
    card = {
        "job": answer.id,
        "recipe": answer.recipe,
        "model": answer.model,
        "data set": _mark(answer.dataset, answer.simulated),
        "weights": "RANDOM: nothing was learnt" if answer.random_weights else "",
        "queue": answer.queue,
        "status": _status(answer.status),
        "items": f"{answer.done} done, {answer.failed} failed, {answer.total} in all",
        "place": answer.place,
        "time left": "" if answer.seconds_left is None else f"about {answer.seconds_left:.0f} s of work",
        "priority": PRIORITIES[answer.priority] if answer.priority else "",
        "attempt": answer.attempt,
        "copy of": answer.cloned_from,
        "left out": " ".join(answer.notes),
        "seed": answer.seed,
        "options": answer.options,
        "created": answer.created_at,
        "started": answer.started_at,
        "finished": answer.finished_at,
        "error": answer.error,
        "notice": answer.notice,
    }
    parts: list[Table | Text] = [make_card(card)]
    if answer.metrics:
        parts.append(show_metrics(answer.metrics))
    if answer.artifacts:
        parts.append(make_table(("file", "role", "bytes"), ((a.name, a.role, a.size) for a in answer.artifacts)))
    return parts


def show_runs(answers: Sequence[RunAnswer]) -> Table | Text:
    """List the items of a job."""
    return make_table(
        ("run", "item", "status", "attempts", "seconds", "error"),
        (
            (a.id, a.item, _status(a.status), a.attempts, "" if a.seconds is None else f"{a.seconds:.1f}",
             a.error_message)
            for a in answers
        ),
    )  # fmt: skip


def show_metrics(answers: Sequence[MetricAnswer], title: str = "") -> Table | Text:
    """List scores, each with its interval, its null, and how the betas were normalised."""
    ways = sorted({str(a.detail["normalisation"]) for a in answers if "normalisation" in a.detail})
    stated = f"normalisation: {', '.join(ways)}" if ways else ""
    return make_table(
        ("score", "value", "interval", _find_reference(answers), "p"),
        (
            (
                " ".join(filter(None, (a.name.replace(".", " of "), a.label))),
                f"{a.value:.3f}{f' {a.unit}' if a.unit else ''}",
                f"[{a.low:.3f}, {a.high:.3f}]" if a.low is not None and a.high is not None else "",
                _number(a.detail.get("null_mean", a.detail.get("chance"))),
                _number(a.detail.get("p")),
            )
            for a in answers
        ),
        "\n".join(filter(None, (title, stated))),
    )


def show_captions(answers: Sequence[DecodedAnswer]) -> Table | Text:
    """List what was decoded in words."""
    return make_table(
        ("stimulus", "sample", "decoded caption", "seed"),
        ((a.stimulus, a.rank + 1, a.caption, a.seed) for a in answers),
    )


def show_results(answers: Sequence[ResultAnswer]) -> Table | Text:
    """List results."""
    return make_table(
        ("run", "recipe", "data set", "subject", "item", "what", "finished"),
        (
            (a.id, a.recipe, _mark(a.dataset, a.simulated), a.subject, a.item, _summary(a), a.finished_at)
            for a in answers
        ),
    )


def show_result(answer: ResultAnswer) -> list[Table | Text]:
    """Show one result with its scores and files."""
    card = {
        "run": answer.id,
        "job": answer.job,
        "recipe": answer.recipe,
        "model": f"{answer.model} {answer.weights_sha256[:12]}{' (RANDOM WEIGHTS)' if answer.random_weights else ''}",
        "data set": _mark(answer.dataset, answer.simulated),
        "subject": answer.subject,
        "scan": answer.scan,
        "stimuli": ", ".join(answer.stimuli),
        "finished": answer.finished_at,
        "notice": answer.notice,
    }
    files = make_table(
        ("artifact", "file", "role", "bytes"), ((a.id, a.name, a.role, a.size) for a in answer.artifacts)
    )
    volumes = [show_volumes([answer])] if answer.volumes_ml else []
    scores = [show_metrics(answer.metrics)] if answer.metrics and not answer.volumes_ml else []
    captions = [show_captions(answer.decoded)] if any(each.caption for each in answer.decoded) else []
    return [make_card(card), *captions, *volumes, *scores, files]


def show_volumes(answers: Sequence[ResultAnswer], title: str = "") -> Table | Text:
    """List the volume of every label."""
    return make_table(
        ("scan", "label", "volume"),
        ((a.scan, name, f"{value:.2f} ml") for a in answers for name, value in a.volumes_ml.items()),
        title,
    )


def show_models(answers: Sequence[ModelAnswer]) -> Table | Text:
    """List models."""
    return make_table(
        ("model", "version", "task", "weights sha256", "licence"),
        ((a.name, a.version, a.task, _say_weights(a), a.licence) for a in answers),
    )


def show_recipes(answers: Sequence[RecipeAnswer]) -> Table | Text:
    """List recipes."""
    return make_table(("recipe", "kind", "title", "model"), ((a.name, a.kind, a.title, a.model) for a in answers))


def show_costs(answers: Sequence[CostAnswer]) -> Table | Text:
    """List what an item of a recipe takes."""
    return make_table(
        ("queue", "seconds an item", "memory", "how that is known"),
        (
            (
                a.queue,
                _number(a.seconds_an_item),
                "" if a.memory_gib is None else f"{a.memory_gib:.1f} GiB",
                a.source,
            )
            for a in answers
        ),
        "" if answers else "time and memory",
    )


def _say_weights(answer: ModelAnswer) -> str:
    if answer.config.get("random_weights"):
        return "RANDOM"
    return answer.weights_sha256[:12] or "fitted in every run"


def _summary(answer: ResultAnswer) -> str:
    if answer.volumes_ml:
        return ", ".join(f"{name} {value:.2f} ml" for name, value in answer.volumes_ml.items())
    return f"{len(answer.stimuli)} pictures" if len(answer.stimuli) != 1 else "1 picture"


def _mark(name: str, simulated: bool) -> str:
    return f"{name} (simulated)" if simulated else name


def _status(status: str) -> Text:
    return Text(status, style=_COLOURS.get(status, ""))


def _find_reference(answers: Sequence[MetricAnswer]) -> str:
    """Name what a score is held against: a permuted null, or what a guess reaches."""
    return "chance" if any("chance" in a.detail for a in answers) else "null mean"


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else ""


def _cell(value: object) -> Text:
    if isinstance(value, Text):
        return value
    if isinstance(value, bool):
        return Text("yes" if value else "")
    if isinstance(value, datetime):
        return Text(f"{value.astimezone():%Y-%m-%d %H:%M:%S}")
    return Text("" if value is None else str(value))


def show_curves(answers: Sequence[CurveAnswer]) -> list[Table | Text]:
    """List the points of each item of a training: its losses and scores."""
    tables = []
    for answer in answers:
        names = list(dict.fromkeys(name for point in answer.points for name in point.values))
        rows = (
            (point.step, *(f"{point.values[name]:.4g}" if name in point.values else "" for name in names))
            for point in answer.points
        )
        tables.append(make_table((f"{answer.item}: step", *names), rows))
    return tables
