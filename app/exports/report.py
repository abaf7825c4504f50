"""A report to hand on: what was done, its scores with intervals, pictures, provenance and whom to cite."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from voxelight.app.actions import ROLES
from voxelight.app.exports.citations import describe_licence, list_citations
from voxelight.app.exports.entries import Contents, Entry, Member, path_part, short
from voxelight.app.schemas import DECODING, DECODING_NOTICE, NOTICE, ArtifactAnswer, JobAnswer, MetricAnswer
from voxelight.app.version import find_version

MOST_ITEMS = 60  # with pictures; the tables of an export hold the others
_SIDE, _WIDE = 240, 1100  # pixels
_MOST_PICTURES = 8
_NOTHING = 1e-9  # what rounding leaves of zero
_ROLES = ("overlay", "stimulus", "reconstruction", "retrieved")
_EVALUATED = tuple(role for kind in ("evaluate", "evaluate-maps") for role in ROLES[kind])
SIMULATED = "SIMULATED: made by a model, nobody was scanned."


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture: PNG, what it shows, and its size in pixels."""

    content: bytes
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class Table:
    """Rows below a head; `about` says what they are."""

    about: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class ItemPart:
    """One result in a report."""

    title: str
    pictures: tuple[Picture, ...]
    lines: tuple[str, ...]
    scores: tuple[tuple[str, ...], ...]


@dataclass(eq=False)
class JobPart:
    """One job in a report, as far as it is exported."""

    title: str
    marks: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    scores: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    sheets: tuple[Picture, ...]
    evaluation: Table | None = None
    items: list[ItemPart] = field(default_factory=list)
    left_out: int = 0


@dataclass(eq=False)
class Report:
    """All that both forms of a report show."""

    title: str = "Results"
    made: str = ""
    notices: tuple[str, ...] = (NOTICE,)
    jobs: list[JobPart] = field(default_factory=list)
    citations: dict[str, None] = field(default_factory=dict)
    licences: dict[str, None] = field(default_factory=dict)
    results: int = 0

    @property
    def size(self) -> str:
        """How much it tells of."""
        jobs = f"{len(self.jobs)} job{'' if len(self.jobs) == 1 else 's'}"
        return f"{self.results} result{'' if self.results == 1 else 's'} of {jobs}"


SCORE_HEAD = ("Score", "Value", "95 % interval", "Null or chance", "p", "n")


class ReportBuilder:
    """Puts a report together while results go by; it holds `MOST_ITEMS` of them with pictures."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._parts: dict[str, JobPart] = {}
        self._shown = 0
        self.report = Report(made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC by Voxelight {find_version()}")

    def add_job(self, job: JobAnswer) -> None:
        """Begin a job; its results follow."""
        marks = ((SIMULATED,) if job.simulated else ()) + ((job.notice,) if job.random_weights else ())
        files = [file for file in job.artifacts if file.role in ("contact_sheet", "relevance")]
        part = JobPart(
            title=f"{job.recipe} on {job.dataset}",
            marks=marks,
            facts=_describe(job),
            scores=tuple(map(_say_metric, job.metrics)),
            notes=self._read_notes(job),
            evaluation=self._read_evaluation(job),
            sheets=tuple(self._shrink(file, _say(file.role), _WIDE) for file in files),
        )
        self._parts[str(job.id)] = part
        self.report.jobs.append(part)
        if job.kind in DECODING:
            self.report.notices = (DECODING_NOTICE,)

    def add(self, entry: Entry) -> None:
        """Add a result to its job."""
        result, part = entry.result, self._parts[str(entry.result.job)]
        self.report.results += 1
        self.report.citations |= dict.fromkeys(list_citations(entry))
        self.report.licences |= dict.fromkeys(describe_licence(entry))
        if self._shown >= MOST_ITEMS:
            part.left_out += 1
            return
        self._shown += 1
        lines = [f"Subject {result.subject}, session {result.session}, scan {result.scan}"]
        lines += [f"Caption, seed {each.seed}: {each.caption}" for each in result.decoded if each.caption]
        lines += [f"Corrected by {each.author}: {each.note}" for each in entry.corrections]
        lines.append(f"Result {result.id} · weights {result.weights_sha256[:12] or 'fitted'}")
        part.items.append(
            ItemPart(result.item, tuple(self._show(entry)), tuple(lines), tuple(map(_say_metric, result.metrics)))
        )

    def _show(self, entry: Entry) -> Iterator[Picture]:
        files = [(role, file) for role in _ROLES for file in entry.find(role)]
        counted: dict[str, int] = {}
        for role, file in files[:_MOST_PICTURES]:
            counted[role] = counted.get(role, 0) + 1
            side = _WIDE // 2 if role == "overlay" else _SIDE
            yield self._shrink(file, f"{_say(role)} {counted[role]}", side)

    def _shrink(self, file: ArtifactAnswer, alt: str, side: int) -> Picture:
        from PIL import Image

        image = Image.open(io.BytesIO(self._contents.read(file))).convert("RGB")
        image.thumbnail((side, side * 3))
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        return Picture(buffer.getvalue(), alt, image.width, image.height)

    def _read_evaluation(self, job: JobAnswer) -> Table | None:
        """Return the scores beside every control row, where the job was evaluated."""
        for file in job.artifacts:
            if file.role == "evaluation_data":
                return tabulate_evaluation(json.loads(self._contents.read(file)))
        return None

    def _read_notes(self, job: JobAnswer) -> tuple[str, ...]:
        notes: list[str] = []
        for file in job.artifacts:
            if file.role in ("scores", "relevance_facts"):
                notes += json.loads(self._contents.read(file)).get("notes", [])
        return tuple(notes)


class ReportFormat:
    """The report as HTML and PDF, and the evaluations of the jobs in it."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._builder = ReportBuilder(contents)

    def add(self, entry: Entry) -> Iterator[Member]:
        """Note a result."""
        self._builder.add(entry)
        yield from ()

    def add_job(self, job: JobAnswer) -> Iterator[Member]:
        """Note a job, and give its evaluation."""
        self._builder.add_job(job)
        for file in job.artifacts:
            if file.role in _EVALUATED:
                folder = f"report/evaluation-{path_part(job.recipe)}-{short(job.id)}"
                yield Member(f"{folder}/{path_part(file.name)}", self._contents.stream(file))

    def finish(self) -> Iterator[Member]:
        """Give both forms."""
        from voxelight.app.exports.html import write_html
        from voxelight.app.exports.pdf import write_pdf

        yield Member("report/report.html", [write_html(self._builder.report).encode()])
        yield Member("report/report.pdf", [write_pdf(self._builder.report)])


def tabulate_evaluation(told: dict[str, Any]) -> Table:
    """Return the summary of an evaluation, as its JSON has it: metric by metric, beside the control rows."""
    rows = [row["name"] for row in told["rows"] if not row["absent"]]
    lines = {(line["row"], line["metric"]): line for line in told["scores"]}
    body = tuple(
        (metric["title"], *(_say_line(lines.get((row, metric["name"]))) for row in rows)) for metric in told["metrics"]
    )
    absent = [f"{_say(row['name'])}: {row['absent']}" for row in told["rows"] if row["absent"]]
    about = "Evaluation: means with 95 % intervals over pictures, beside every control row. " + " ".join(absent)
    return Table(about.strip(), ("Score", *map(_say, rows)), body)


def _say_line(line: dict[str, Any] | None) -> str:
    if line is None:
        return "–"
    p = "" if line["p"] is None else f", p = {_number(line['p'])}"
    return f"{_number(line['value'])} [{_number(line['low'])}, {_number(line['high'])}]{p}"


def _describe(job: JobAnswer) -> tuple[tuple[str, str], ...]:
    facts = {
        "Job": str(job.id),
        "Recipe": job.recipe,
        "Model": job.model,
        "Data set": job.dataset,
        "Items": f"{job.done} of {job.total} done, {job.failed} failed",
        "Seed": str(job.seed),
        "Options": json.dumps(job.options) if job.options else "none",
        "Finished": f"{job.finished_at:%Y-%m-%d %H:%M} UTC" if job.finished_at else "not yet",
    }
    return tuple(facts.items())


def _say_metric(metric: MetricAnswer) -> tuple[str, ...]:
    detail = metric.detail
    null = detail.get("null_mean", detail.get("chance", detail.get("controls", {}).get("null")))
    name = _say(metric.name.replace(".", ", baseline ")) + (f", {metric.label}" if metric.label else "")
    interval = "–" if metric.low is None or metric.high is None else f"{_number(metric.low)} to {_number(metric.high)}"
    value = f"{_number(metric.value)} {metric.unit}".strip()
    return name, value, interval, _number(null), _number(detail.get("p")), str(detail.get("n", "–"))


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if _NOTHING < abs(value) < 0.001 else f"{value:z.3f}"


def _say(key: str) -> str:
    words = key.replace("_", " ")
    return words[:1].upper() + words[1:]
