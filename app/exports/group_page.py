"""The numbers of all cases of a job as one HTML page that asks nobody for anything."""

from collections import defaultdict
from html import escape
from importlib.resources import files

from voxelight.app.schemas_reviews import GroupAnswer, MeasureAnswer, MeasuredValue

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _MIDDLE, _FLOOR = 460, 84, 14, 14, 32, 60
_GOLDEN = 0.6180339887498949
_LISTED = 200
_MEANINGS = {
    "volume": "of the label",
    "intensity": "mean of the image in the label",
    "contrast": "of the label against the 5 mm around all labels, in robust standard deviations",
    "pieces": "parts of the label that do not touch",
}
_WORDS = {"accept": "verdicts: accept", "reject": "verdicts: reject", "unsure": "verdicts: unsure"}


def write_group(group: GroupAnswer) -> str:
    """Return the group report as HTML."""
    title = f"Group report: {group.recipe} on {group.dataset}"
    style = files("voxelight.app.exports").joinpath("group.css").read_text()
    simulated = '<p><span class="mark">Simulated data</span></p>' if group.simulated else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>"
        f'<h1>{escape(title)}</h1>{simulated}<p class="notice">{escape(group.notice)}</p>'
        f'<p class="muted">Job {group.job}</p>'
        f"{_write_tiles(group)}{_write_outliers(group)}{_write_strips(group)}{_write_table(group)}"
        f"<footer><p>{_explain(group)}</p><p>{escape(group.notice)}</p></footer></main></body></html>\n"
    )


def _write_tiles(group: GroupAnswer) -> str:
    runs = {value.run for measure in group.measures for value in measure.values if value.outlier}
    tiles = [("cases", group.cases), ("with an outlier", len(runs))]
    tiles += [(_WORDS[verdict], count) for verdict, count in group.verdicts.items()]
    return f'<ul class="tiles">{"".join(f"<li><strong>{count}</strong>{name}</li>" for name, count in tiles)}</ul>'


def _write_outliers(group: GroupAnswer) -> str:
    found: dict[str, list[tuple[MeasureAnswer, MeasuredValue]]] = defaultdict(list)
    for measure in group.measures:
        for value in measure.values:
            if value.outlier:
                found[value.item].append((measure, value))
    if not found:
        few = group.cases < group.fewest
        said = f"Fewer than {group.fewest} cases: nothing is called an outlier." if few else "No case stands apart."
        return f"<h2>Outliers</h2><p>{said}</p>"
    ranked = sorted(found.items(), key=lambda each: -max(abs(value.z) for _, value in each[1]))
    rows = "".join(
        f'<tr><th scope="row">{escape(item)}</th><td>{escape(_name(measure))}</td>'
        f"<td>{_number(value.value)} {escape(measure.unit)}</td>"
        f'<td>{_number(measure.median)}</td><td class="z">{value.z:+.1f}</td></tr>'
        for item, apart in ranked[:_LISTED]
        for measure, value in apart
    )
    more = f"<p>{len(ranked) - _LISTED} more cases.</p>" if len(ranked) > _LISTED else ""
    return (
        '<h2>Outliers</h2><div class="scroll" tabindex="0" role="region" aria-label="Outliers"><table><thead><tr>'
        f"{_head('Case', 'Measure', 'Value', 'Median', 'Robust z')}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{more}"
    )


def _write_strips(group: GroupAnswer) -> str:
    if not group.measures:
        return "<h2>Distributions</h2><p>No case has a number yet.</p>"
    strips = "".join(_write_strip(measure) for measure in group.measures)
    return f'<h2>Distributions</h2><div class="strips">{strips}</div>'


def _write_strip(measure: MeasureAnswer) -> str:
    unit = f", {measure.unit}" if measure.unit else ""
    meaning = f"<p>{_MEANINGS[measure.name]}</p>" if measure.name in _MEANINGS else ""
    return f'<section class="strip"><h3>{escape(_name(measure) + unit)}</h3>{meaning}{_draw_strip(measure)}</section>'


def _draw_strip(measure: MeasureAnswer) -> str:
    values = [each.value for each in measure.values]
    room = 0.04 * (max(values) - min(values)) or 0.1 * max(abs(max(values)), 1e-6)
    low, high = min(values) - room, max(values) + room

    def across(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    far = sum(each.outlier for each in measure.values)
    told = (
        f"{len(values)} cases from {_number(min(values))} to {_number(max(values))}, median {_number(measure.median)}, "
        f"half of them from {_number(measure.low)} to {_number(measure.high)}, {far} far from the others"
    )
    parts = [
        f'<rect class="box" x="{across(measure.low):.1f}" y="10" '
        f'width="{max(1.0, across(measure.high) - across(measure.low)):.1f}" height="44"/>',
        f'<line class="median" x1="{across(measure.median):.1f}" x2="{across(measure.median):.1f}" y1="8" y2="56"/>',
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_FLOOR}" y2="{_FLOOR}"/>',
    ]
    for value, anchor in ((min(values), "start"), (max(values), "end")):
        x = _LEFT if anchor == "start" else _WIDTH - _RIGHT
        parts.append(f'<text x="{x}" y="{_FLOOR + 15}" text-anchor="{anchor}">{_number(value)}</text>')
    middle = min(max(across(measure.median), 110.0), _WIDTH - 110.0)
    parts.append(
        f'<text x="{middle:.1f}" y="{_FLOOR + 15}" text-anchor="middle">median {_number(measure.median)}</text>'
    )
    ordered = sorted(enumerate(measure.values), key=lambda each: each[1].outlier)  # what stands apart lies on top
    parts += [_draw_dot(across(each.value), number, each) for number, each in ordered]
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(told)}">{"".join(parts)}</svg>'


def _draw_dot(x: float, number: int, value: MeasuredValue) -> str:
    y = _MIDDLE + 36 * ((number * _GOLDEN) % 1 - 0.5)  # spread evenly, so that equal values do not hide each other
    title = f"<title>{escape(value.item)}: {_number(value.value)}, z {value.z:+.1f}</title>"
    if value.outlier:
        return f'<path class="far" d="M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z">{title}</path>'
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3">{title}</circle>'


def _write_table(group: GroupAnswer) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(_name(measure))}</th><td>{len(measure.values)}</td>'
        f"<td>{_number(measure.median)} {escape(measure.unit)}</td>"
        f"<td>{_number(measure.low)} to {_number(measure.high)}</td>"
        f"<td>{sum(value.outlier for value in measure.values)}</td></tr>"
        for measure in group.measures
    )
    if not rows:
        return ""
    return (
        '<h2>Numbers</h2><div class="scroll" tabindex="0" role="region" aria-label="Numbers"><table><thead><tr>'
        f"{_head('Measure', 'Cases', 'Median', 'Middle half', 'Outliers')}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _explain(group: GroupAnswer) -> str:
    return (
        f"An outlier lies more than {group.far:g} robust standard deviations (1.4826 MAD) from the median of this job "
        f"(Iglewicz and Hoaglin 1993), and is drawn as a diamond; with fewer than {group.fewest} cases there is none. "
        "It is a reason to look at the case, not to leave it out. Lines are medians, bands the middle half."
    )


def _head(*names: str) -> str:
    return "".join(f'<th scope="col">{name}</th>' for name in names)


def _name(measure: MeasureAnswer) -> str:
    words = measure.name.replace("_", " ").replace(".", " of ")
    return f"{words[:1].upper()}{words[1:]}{f': {measure.label}' if measure.label else ''}"


def _number(value: float) -> str:
    return f"{value:.4g}"
