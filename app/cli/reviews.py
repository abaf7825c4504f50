"""Review results, compare reviewers, and write the group report of a job."""

import uuid
from pathlib import Path
from typing import get_args

import click

from voxelight.app.cli.answers import FilesAnswer
from voxelight.app.cli.shell import Group, Shell, ask
from voxelight.app.schemas_reviews import ReviewRequest, Verdict, VerdictFilter


@click.group(cls=Group)
def reviews() -> None:
    """Review results, compare reviewers, find cases that stand apart."""


@reviews.command("list")
@click.argument("job", type=click.UUID)
@click.option("--reviewer", help="Who looks; others' views show where this person has saved one.")
@click.option("--verdict", type=click.Choice(get_args(VerdictFilter)), help="Only cases with this verdict of theirs.")
@click.option("--limit", default=100, show_default=True, help="Rows, in the order of the job.")
@click.option("--cursor", help="next_cursor of the answer before, for what follows it.")
@click.pass_obj
def list_cases(
    shell: Shell, job: uuid.UUID, reviewer: str | None, verdict: VerdictFilter | None, limit: int, cursor: str | None
) -> None:
    """List the results of a job as they are reviewed."""
    from voxelight.app.cli.tables import make_table

    page = shell.services.reviews.list_cases(job, reviewer, verdict, limit, cursor)
    rows = (
        (
            case.run,
            case.item,
            case.own.verdict if case.own else "",
            ", ".join(f"{each.reviewer}: {each.verdict}" for each in case.others) or f"{case.hidden} hidden",
            ", ".join(f"{each.name} {each.label} z {each.z:+.1f}" for each in case.outliers),
        )
        for case in page.items
    )
    shell.answer(page, make_table(("run", "item", "verdict", "others", "outliers"), rows))
    if page.next_cursor:
        shell.note(f"There are more: --cursor {page.next_cursor}")


@reviews.command("save")
@click.argument("run", type=click.UUID)
@click.option("--reviewer", required=True, help="Whose view it is.")
@click.option("--verdict", required=True, type=click.Choice(get_args(Verdict)), help="What that person thinks.")
@click.option("--comment", default="", help="Why.")
@click.pass_obj
def save(shell: Shell, run: uuid.UUID, reviewer: str, verdict: str, comment: str) -> None:
    """Save what a reviewer thinks of a result, in place of an earlier view."""
    answer = shell.services.reviews.save(run, reviewer, ask(ReviewRequest, verdict=verdict, comment=comment))
    shell.answer(answer, f"{answer.reviewer}: {answer.verdict}, version {answer.version}")


@reviews.command("agreement")
@click.argument("job", type=click.UUID)
@click.argument("first")
@click.argument("second")
@click.pass_obj
def agreement(shell: Shell, job: uuid.UUID, first: str, second: str) -> None:
    """Compare two reviewers: Cohen's kappa of verdicts, Dice of corrections."""
    from voxelight.app.cli.tables import make_card, make_table

    found = shell.services.quality.agree(job, first, second)
    interval = "" if found.low is None else f"{found.low:.3f} to {found.high:.3f}"
    card = {
        "results of both": found.items,
        "Cohen's kappa": "not defined" if found.kappa is None else f"{found.kappa:.3f}",
        "95 % interval": interval,
        "same verdict": "" if found.observed is None else f"{found.observed:.1%}",
        "revised": found.revised,
    }
    differ = make_table(("run", "item", first, second), ((e.run, e.item, e.first, e.second) for e in found.differ))
    rows = ((e.label, e.dice, e.low, e.high, e.cases, e.subjects) for e in found.dice)
    dice = make_table(("label", "Dice", "low", "high", "cases", "subjects"), rows, "Corrections of both")
    shell.answer(found, make_card(card), differ, dice)


@reviews.command("report")
@click.argument("job", type=click.UUID)
@click.option(
    "--out", required=True, metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="HTML to write."
)
@click.pass_obj
def report(shell: Shell, job: uuid.UUID, out: Path) -> None:
    """Write the numbers of all cases of a job, outliers marked, as one HTML page."""
    from voxelight.app.exports.group_page import write_group

    shell.services.privacy.refuse_job(job)
    page = write_group(shell.services.quality.group(job))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    shell.answer(FilesAnswer(files=[out]), f"Written: {out}")
