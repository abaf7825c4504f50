"""Follow one subject over its sessions."""

from typing import Any

import click

from voxelight.app.cli.shell import Shell, Verb, ask
from voxelight.app.schemas_reviews import FollowupQuery


@click.command(cls=Verb)
@click.argument("dataset")
@click.argument("subject")
@click.option("--recipe", help="Of which recipe; else the one with the newest result.")
@click.option("--label", help="Only this label.")
@click.option("--scan", help="Only scans of this name or pattern.")
@click.option(
    "--day", multiple=True, metavar="SESSION:DAY", help="Day of a session; repeat for pace and doubling time."
)
@click.option("--minimal-change-ml", type=float, help="Minimal detectable change from scan and rescan, ml.")
@click.option("--minimal-change-percent", type=float, help="The same in percent of the mean of two volumes.")
@click.option("--register", is_flag=True, help="Register every visit to the first, and follow lesion by lesion.")
@click.pass_obj
def followup(shell: Shell, /, dataset: str, subject: str, day: tuple[str, ...], register: bool, **wishes: Any) -> None:
    """Follow one subject: volumes by session, and changes beyond what measuring again gives."""
    from voxelight.app.cli.tables import make_table

    query = ask(FollowupQuery, day=list(day), **wishes)
    if register:
        return _follow_lesions(shell, dataset, subject, query)
    answer = shell.services.followup.show(dataset, subject, query)
    known = {True: "yes", False: "no", None: "can't be told"}
    rows = [
        (
            structure.label,
            f"{each.start} to {each.end}",
            f"{each.change_ml:+.3f} ml",
            "" if each.low_ml is None else f"[{each.low_ml:+.3f}, {each.high_ml:+.3f}]",
            "" if each.change_percent is None else f"{each.change_percent:+.1f} %",
            known[each.beyond],
        )
        for structure in answer.structures
        for each in structure.growth
    ]
    volumes = ((s.label, v.session, v.scan, f"{v.volume_ml:.3f} ml") for s in answer.structures for v in s.visits)
    return shell.answer(
        answer,
        make_table(("label", "session", "scan", "volume"), volumes, f"{subject}{' (simulated)' * answer.simulated}"),
        make_table(("label", "sessions", "change", "interval", "relative", "detectable"), rows, "Changes"),
        *answer.warnings,
        answer.interval,
        answer.notice,
    )


def _follow_lesions(shell: Shell, dataset: str, subject: str, query: FollowupQuery) -> None:
    from voxelight.app.cli.tables import make_table
    from voxelight.app.verbs.registered import follow_lesions

    with shell.progress() as progress:
        bar = progress.add_task(f"Registering the visits of {subject}", total=1.0)
        answer = follow_lesions(
            shell.services.stores, dataset, subject, query, lambda share: progress.update(bar, completed=share)
        )
    known = {True: "yes", False: "no", None: "can't be told"}
    rows = [
        (
            structure.label,
            lesion.number,
            lesion.course,
            *(f"{lesion.volumes_ml[session]:.3f}" for session in answer.sessions),
            f"{lesion.growth[-1].change_ml:+.3f}",
            known[lesion.growth[-1].beyond],
        )
        for structure in answer.structures
        for lesion in structure.lesions
    ]
    moves = [
        (
            session,
            f"{answer.moved_mm[session]:.1f} mm",
            f"{answer.turned_degrees[session]:.1f}°",
            f"{answer.seen[session]:.0%}",
        )
        for session in answer.sessions
    ]
    head = ("label", "lesion", "course", *(f"{session}, ml" for session in answer.sessions), "change, ml", "detectable")
    shell.answer(
        answer,
        make_table(
            ("session", "moved", "turned", "field seen"), moves, f"{subject}{' (simulated)' * answer.simulated}"
        ),
        make_table(head, rows, "Lesions"),
        *answer.warnings,
        answer.notice,
    )
