"""An evaluation as one HTML page that asks nobody for anything: styles, pictures and figures lie inside."""

import base64
import io
import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxelight.models.pages import read_style
from voxelight.neuro.evaluate.charts import draw_curve, draw_forest
from voxelight.neuro.evaluate.controls import BASELINES, CONTROLS, DECODED
from voxelight.neuro.evaluate.evaluation import Column, Evaluation, Grid, Line, MetricFacts, summarise
from voxelight.neuro.evaluate.guards import GUARDS
from voxelight.neuro.evaluate.tables import NOTICE, find_marks

_PIXELATED_BELOW = 76  # sides as wide as they are shown, pixels
_LARGEST_SIDE = 192
_LONG = 200  # letters of a value that is folded
_MEANINGS = CONTROLS | BASELINES
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_LABELS = {
    "subject": "Subject",
    "test_set": "Test set",
    "sessions": "Sessions",
    "trials": "Trials",
    "betas": "Betas",
    "reference": "Scored against",
    "normalisation": "Normalisation",
    "seeds": "Samples of each stimulus",
    "simulated": "Simulated",
    "random_weights": "Random weights",
}


def write_page(evaluation: Evaluation) -> str:
    """Return the report as HTML."""
    lines = {(line.row, line.metric): line for line in summarise(evaluation)}
    marks = find_marks(evaluation)
    title = " · ".join([evaluation.title, *(mark.partition(":")[0] for mark in marks)])
    sections = (
        _section("Scores", _write_summary(evaluation, lines) + _write_forests(evaluation, lines)),
        _section("Two runs compared", _write_tests(evaluation)) if evaluation.tests else "",
        *(_section(grid.title, _write_grid(grid)) for grid in evaluation.grids),
        _section("Curves", _write_curves(evaluation)) if evaluation.curves else "",
        _section("Uncertainty, checked on held-out trials", _write_coverage(evaluation))
        if evaluation.coverages
        else "",
        _section("Guard-rails", _write_guards(evaluation)),
        _section("Conditions", _write_conditions(evaluation)),
        _section("Provenance", _write_terms(evaluation.provenance.items())),
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in evaluation.notes)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{read_style()}</style></head><body>"
        f"<header><h1>{escape(evaluation.title)}</h1>"
        f"{''.join(f'<p class=alarm>{escape(mark)}</p>' for mark in marks)}"
        f'<p class="notice">{NOTICE}</p>{f"<ul>{notes}</ul>" if notes else ""}</header>'
        f"<main>{''.join(sections)}</main><footer><p>{' '.join(map(escape, [*marks, NOTICE]))}</p></footer>"
        "</body></html>\n"
    )


def _write_summary(evaluation: Evaluation, lines: dict[tuple[str, str], Line]) -> str:
    head = "".join(f'<th scope="col">{escape(_say_row(row.name))}</th>' for row in evaluation.rows)
    body = []
    for metric in evaluation.metrics:
        cells = "".join(f"<td>{_say_line(lines.get((row.name, metric.name)))}</td>" for row in evaluation.rows)
        body.append(f'<tr><th scope="row">{_say_metric(metric)}</th>{cells}</tr>')
    caption = (
        "Means with 95 % bootstrap intervals over pictures against a fixed gallery; of the null, the mean and the "
        "range of 95 % of its draws. p = (1 + b) / (1 + B) against the null; q over all metrics (Benjamini and "
        "Hochberg). Metrics that agree with people come first."
    )
    meanings = "".join(
        f"<li><strong>{escape(_say_row(row.name))}</strong>: {escape(_MEANINGS.get(row.name, 'a baseline'))}."
        f"{f' <em>None here: {escape(row.absent)}</em>' if row.absent else ''}</li>"
        for row in evaluation.rows
        if row.name != DECODED
    )
    table = _scroll("Scores with all control rows", caption, f'<th scope="col">Metric</th>{head}', "".join(body))
    return f"{table}<ul>{meanings}</ul>"


def _write_forests(evaluation: Evaluation, lines: dict[tuple[str, str], Line]) -> str:
    cards = []
    for number, metric in enumerate(evaluation.metrics):
        shown = [
            (_say_row(row.name), lines[row.name, metric.name])
            for row in evaluation.rows
            if (row.name, metric.name) in lines
        ]
        note = f'<p class="muted">{escape(metric.note)}</p>' if metric.note else ""
        badge = f'<p><span class="badge">{escape(metric.badge)}</span></p>' if metric.badge else ""
        figure = draw_forest(shown, metric.title, metric.chance, f"forest-{number}")
        direction = "" if metric.higher_is_better else " (lower is better)"
        cards.append(
            f'<section class="card"><h3>{escape(metric.title)}{direction}</h3>{badge}{figure}'
            f'<p class="muted">{escape(_say_seeds(shown[0][1]))}</p>{note}</section>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _write_tests(evaluation: Evaluation) -> str:
    rows = [
        (
            evaluation.find_metric(test.metric).title,
            _number(test.first),
            _number(test.second),
            f"{_number(test.difference)} [{_number(test.low)}, {_number(test.high)}]",
            f"{test.p:.3g}",
            f"{test.q:.3g}",
            str(test.n),
        )
        for test in evaluation.tests
    ]
    caption = (
        "Picture by picture: bootstrap interval of the mean difference, Wilcoxon's signed-rank test, q over metrics."
    )
    return _table(caption, ("Metric", "This run", "Other run", "Difference, 95 %", "p", "q", "Pictures"), rows)


def _write_coverage(evaluation: Evaluation) -> str:
    rows = [
        (
            each.what,
            f"{each.nominal:.3f}",
            f"{each.share:.3f} [{each.low:.3f}, {each.high:.3f}]",
            "yes" if each.holds else "NO",
            _number(each.size),
            str(each.n),
        )
        for each in evaluation.coverages
    ]
    caption = "How often the truth lay inside what was said to hold it, on trials that took no part in the calibration."
    return _table(caption, ("Of", "Promised", "Found, 95 %", "Kept", "Mean size", "Items"), rows)


def _write_guards(evaluation: Evaluation) -> str:
    rows = []
    for guard in evaluation.guards:
        state = (
            '<span class="held">held</span>' if guard.status == "held" else f'<span class="badge">{guard.status}</span>'
        )
        rows.append(
            f'<tr><th scope="row">{GUARDS[guard.name]}</th><td>{state}</td><td>{escape(guard.detail)}</td></tr>'
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Rule", "State", "What was looked at"))
    return _scroll("Guard-rails", "One that is broken is an error, and there is no report.", head, "".join(rows))


def _write_conditions(evaluation: Evaluation) -> str:
    stated = evaluation.conditions.model_dump()
    return _write_terms((_LABELS[name], _say_value(value)) for name, value in stated.items())


def _write_curves(evaluation: Evaluation) -> str:
    cards = "".join(
        f'<section class="card"><h3>{escape(curve.title)}</h3>{draw_curve(curve, f"curve-{number}")}'
        f'<p class="muted">Pictures in each point: {", ".join(map(str, curve.n.tolist()))}.</p></section>'
        for number, curve in enumerate(evaluation.curves)
    )
    return f'<div class="cards">{cards}</div>'


def _write_grid(grid: Grid) -> str:
    items = []
    for place, name in enumerate(grid.ids.tolist()):
        kinds = "".join(_write_kind(column, place, name) for column in grid.columns)
        said = grid.captions[place] if grid.captions else ()
        words = "".join(f"<li>{escape(caption)}</li>" for caption in said)
        items.append(
            f'<li class="card"><h3>{escape(name)}</h3><div class="kinds">{kinds}</div>'
            f"{f'<p class=muted>Captions, one a sample:</p><ul>{words}</ul>' if words else ''}</li>"
        )
    absent = "".join(
        f"<li>No pictures {escape(column.title)}: {escape(column.absent)}</li>"
        for column in grid.columns
        if column.pictures is None
    )
    return f"{f'<ul>{absent}</ul>' if absent else ''}<ul class='items'>{''.join(items)}</ul>"


def _write_kind(column: Column, place: int, name: str) -> str:
    if column.pictures is None:
        shown = '<div class="missing">none</div>'
    else:
        samples = column.pictures[place]
        shown = "".join(
            _write_picture(picture, f"{name}, {column.title}, sample {seed + 1} of {len(samples)}")
            for seed, picture in enumerate(samples)
        )
    return f'<figure><div class="samples">{shown}</div><figcaption>{escape(column.title)}</figcaption></figure>'


def _write_picture(picture: NDArray[np.float32], alt: str) -> str:
    rows, columns = picture.shape[:2]
    levels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    small = ' class="small"' if max(rows, columns) < _PIXELATED_BELOW else ""
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return f'<img{small} src="{source}" alt="{escape(alt)}" width="{columns}" height="{rows}">'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return _scroll(caption, caption, top, body)


def _scroll(label: str, caption: str, head: str, body: str) -> str:
    """Put a table where it can be moved sideways, by keys as well."""
    return (
        f'<p class="muted">{escape(caption)}</p><div class="scroll" role="region" aria-label="{escape(label)}" '
        f'tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _write_terms(terms: Iterable[tuple[str, Any]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{_write_value(value)}</dd>' for name, value in terms)}</dl>"


def _write_value(value: Any) -> str:
    told = escape(_say_value(value))
    if isinstance(value, str) or len(told) < _LONG:
        return told
    return f"<details><summary>{len(value)} entries</summary>{told}</details>"


def _say_metric(metric: MetricFacts) -> str:
    badge = f'<small class="wrap"><span class="badge">{escape(metric.badge)}</span></small>' if metric.badge else ""
    validity = "" if metric.validity is None or metric.badge else f"agrees with people, r = {metric.validity:.2f}"
    chance = "" if metric.chance is None else f"chance {_number(metric.chance)}"
    direction = "" if metric.higher_is_better else "lower is better"
    told = "".join(f"<small>{escape(text)}</small>" for text in (validity, chance, direction) if text)
    return f"{escape(metric.title)}{badge}{told}"


def _say_line(line: Line | None) -> str:
    if line is None:
        return "–"
    p = "" if line.p is None else f"<small>p = {line.p:.3g}, q = {line.q:.3g}</small>"
    return f"{_number(line.value)}<small>[{_number(line.low)}, {_number(line.high)}]</small>{p}"


def _say_seeds(line: Line) -> str:
    if len(line.by_seed) == 1:
        return f"One sample of each of {line.n} stimuli."
    return f"Means of the {len(line.by_seed)} seeds: {', '.join(map(_number, line.by_seed))}; {line.n} pictures."


def _say_row(name: str) -> str:
    return name.replace("_", " ")


def _say_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _number(value: float) -> str:
    return f"{value:z.3f}" if abs(value) < 100 else f"{value:.1f}"
