"""Delete for good, and keep the receipt."""

from pathlib import Path
from typing import Any

import click

from voxelight.app.cli.shell import Group, Shell, ask
from voxelight.app.schemas_deletion import DeletionRequest, DeletionTarget
from voxelight.models.errors import BadInput, Conflict


def terms(command: Any) -> Any:
    """Add what every deletion asks to a command."""
    for option in (
        click.option("--receipt", type=click.Path(path_type=Path, dir_okay=False), help="Write the receipt here too."),
        click.option("--reason", default="", help="Why; stands in the receipt."),
        click.option("--author", default="", help="Who deletes; stands in the receipt."),
        click.option("--confirm", default="", help="The name, label or id once more; asked for where it is left out."),
        click.option(
            "--models", type=click.Choice(["delete", "keep"]), help="What becomes of models that were trained on it."
        ),
        click.option(
            "--prove", is_flag=True, help="Search database, files, vectors, caches and logs for it afterwards."
        ),
        click.option("--dry-run", is_flag=True, help="Only say what would go."),
    ):
        command = option(command)
    return command


@click.group(cls=Group)
def delete() -> None:
    """Delete for good: rows, files, vectors and reports, with a receipt.

    Nothing comes back. What a job works on is refused.
    """


@delete.command("dataset")
@click.argument("name")
@terms
@click.pass_obj
def delete_dataset(shell: Shell, /, name: str, **asked: Any) -> None:
    """Delete a data set with all that belongs to it."""
    _delete(shell, ask(DeletionTarget, what="dataset", dataset=name), **asked)


@delete.command("subject")
@click.argument("dataset")
@click.argument("label")
@terms
@click.pass_obj
def delete_subject(shell: Shell, /, dataset: str, label: str, **asked: Any) -> None:
    """Delete a subject with scans, results and all that was made of them."""
    _delete(shell, ask(DeletionTarget, what="subject", dataset=dataset, subject=label), **asked)


def _by_id(what: str, help_text: str) -> None:
    @delete.command(what, help=help_text)
    @click.argument("identity", metavar="ID", type=click.UUID)
    @terms
    @click.pass_obj
    def delete_by_id(shell: Shell, /, identity: Any, **asked: Any) -> None:
        _delete(shell, ask(DeletionTarget, what=what, id=identity), **asked)


_by_id("scan", "Delete a scan, its results, and jobs that read it beside others.")
_by_id("job", "Delete a job that has ended, with its results.")
_by_id("result", "Delete one result, and what was made of its job as a whole.")


@delete.command("receipts")
@click.option("--limit", default=50, show_default=True, help="Rows, newest first.")
@click.option("--cursor", help="next_cursor of the answer before, for what follows it.")
@click.pass_obj
def list_receipts(shell: Shell, limit: int, cursor: str | None) -> None:
    """List what was deleted, newest first."""
    from voxelight.app.cli.tables import make_table

    page = shell.services.deletion.list_receipts(limit, cursor)
    rows = ((r.created_at, r.what, r.name, r.author, r.reason, r.id) for r in page.items)
    shell.answer(page, make_table(("when", "what", "name", "by", "why", "receipt"), rows))


def _delete(shell: Shell, target: DeletionTarget, receipt: Path | None, **asked: Any) -> None:
    from voxelight.app.cli.tables import make_card, make_table

    service, request = shell.services.deletion, ask(DeletionRequest, **asked)
    if not request.dry_run and not request.confirm and not shell.json:
        planned = service.plan(target)
        shell.note(f"This goes for good: {', '.join(f'{count} {what}' for what, count in planned.counts.items())}")
        typed = click.prompt(f"Type {planned.confirm} to delete", err=True, default="", show_default=False)
        request = request.model_copy(update={"confirm": typed.strip()})
    answer = service.delete(target, request)
    if receipt is not None:
        if answer.receipt is None:
            raise BadInput("a dry run", "a deletion, for a receipt", "Leave out --receipt.")
        receipt.write_text(service.show_receipt(answer.receipt).model_dump_json(indent=2) + "\n")
    title = "Would go" if answer.dry_run else "Gone"
    facts: dict[str, object] = {title: f"{answer.what} {answer.name}", **answer.counts}
    facts |= {"files kept, shared with others": answer.shared, "receipt": answer.receipt}
    facts |= {"models trained on it": ", ".join(answer.models) or None, "not searched for": answer.not_searched or None}
    searched = [(e.place, e.things, e.bytes, "; ".join(e.found[:3]) or "0") for e in answer.proof]
    table = [make_table(("searched", "rows or files", "bytes", "found"), searched)] if searched else []
    shell.answer(answer, make_card(facts), *table)
    if any(each.found for each in answer.proof):
        raise Conflict(
            f"{sum(len(each.found) for each in answer.proof)} places where something of it is left",
            "none",
            "The receipt names them. Remove what is named there; files: voxelight storage sweep.",
        )
