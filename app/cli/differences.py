"""A comparison as a person reads it."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from voxelight.app.cli.tables import make_card, make_table
from voxelight.app.schemas_search import CompareAnswer, DifferenceAnswer, SideAnswer


def show_comparison(answer: CompareAnswer) -> list[Table | Text]:
    """Show both sides, the differences, and the items that differ most."""
    card = make_card(
        {
            "first": _say_side(answer.first),
            "second": _say_side(answer.second),
            "in both": f"{answer.matched}, only in the first {answer.only_first}, only in the second "
            f"{answer.only_second}",
            "notice": answer.notice,
        }
    )
    parts: list[Table | Text] = [card, _show_differences(answer.metrics)]
    parts += [
        make_table(
            ("subject", "item", "first", "second", "difference"),
            ((i.subject, i.item, _say(i.first), _say(i.second), _say(i.difference)) for i in found.items),
            f"{say_metric(found)}: what differs most",
        )
        for found in answer.metrics
        if found.items
    ]
    return [*parts, Text("\n".join(answer.notes))]


def say_metric(found: DifferenceAnswer) -> str:
    """Return the name of a metric with its label and unit."""
    label = f" of {found.label}" if found.label else ""
    return f"{found.metric}{label}{f' ({found.unit})' if found.unit else ''}"


def _show_differences(metrics: Sequence[DifferenceAnswer]) -> Table | Text:
    return make_table(
        ("metric", "n", "first", "second", "difference", "95 % interval", "p", "q"),
        (
            (
                say_metric(found),
                found.n,
                _say(found.first),
                _say(found.second),
                _say(found.difference),
                f"[{_say(found.low)}, {_say(found.high)}]" if found.low is not None and found.high is not None else "",
                "" if found.p is None else f"{found.p:.3g}",
                "" if found.q is None else f"{found.q:.3g}",
            )
            for found in metrics
        ),
        "Differences",
    )


def _say_side(side: SideAnswer) -> str:
    marks = f"{' (simulated)' if side.simulated else ''}{' (RANDOM WEIGHTS)' if side.random_weights else ''}"
    return f"{side.name}: {', '.join(side.recipes)}, {side.results} results{marks}"


def _say(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
