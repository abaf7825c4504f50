"""One subject over time on the page: a chart with intervals, a table of changes, the pictures of every visit."""

from typing import Any

import streamlit as st

from voxelight.app.schemas_reviews import (
    FollowupAnswer,
    FollowupQuery,
    GrowthAnswer,
    SeriesAnswer,
    StructureAnswer,
    VisitAnswer,
)
from voxelight.app.services import Services
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.wording import plain

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_HEIGHT = 320
_A_ROW = 3  # visits; rows and not columns, so that a narrow window keeps their order


def choose_series(services: Services, dataset: str, subject: str | None) -> SeriesAnswer | None:
    """Ask whom to follow by which recipe; who has several sessions comes first."""
    series = sorted(services.followup.list_series(dataset), key=lambda each: len(each.sessions) < 2)
    if not series:
        return None
    places = list(range(len(series)))
    named = next((place for place in places if series[place].subject == subject), 0)
    chosen = st.selectbox(
        "Subject and recipe",
        places,
        index=named,
        format_func=lambda place: _say_series(series[place]),
        key=f"followup-series-{dataset}",
        help=f"Subjects of this data set that were segmented. {tell_more('review', 'follow-up')}",
    )
    return series[chosen]


def ask_knowledge(series: SeriesAnswer) -> FollowupQuery:
    """Ask what is known about measuring twice, and when the sessions were."""
    percent, absolute, label, scan = st.columns(4)
    minimal_percent = percent.number_input(
        "Minimal detectable change (%)",
        min_value=0.0,
        value=None,
        step=1.0,
        placeholder="Unknown",
        key="followup-percent",
        help="Of the mean of both volumes, 95 %, from scan and rescan with your scanner and protocol. Without it, and "
        "without a stored spread, no change is flagged.",
    )
    minimal_ml = absolute.number_input(
        "Minimal detectable change (ml)",
        min_value=0.0,
        value=None,
        step=0.1,
        placeholder="Unknown",
        key="followup-ml",
        help="The larger of the two holds.",
    )
    structure = label.selectbox(
        "Label", series.labels, index=None, placeholder="All", key="followup-label", help="Which structure to follow."
    )
    pattern = scan.text_input(
        "Scans",
        key="followup-scan",
        placeholder="Any name",
        help="Name or pattern of the scans to follow, `t1*` for one, where a session has several.",
    ).strip()
    with st.expander("Days of the sessions, for pace and doubling time"):
        st.caption("Dates are taken out of headers, so state the days since any one moment.")
        columns = st.columns(min(4, len(series.sessions)))
        days = []
        for number, session in enumerate(series.sessions):
            day = columns[number % len(columns)].number_input(
                f"Day of session {session}", value=None, step=1, key=f"followup-day-{series.subject}-{session}"
            )
            if day is not None:
                days.append(f"{session}:{day}")
    return FollowupQuery(
        recipe=series.recipe,
        label=structure,
        scan=pattern or None,
        day=days,
        minimal_change_percent=minimal_percent,
        minimal_change_ml=minimal_ml,
    )


def show_followup(services: Services, answer: FollowupAnswer) -> None:
    """Show every structure over time."""
    for warning in answer.warnings:
        st.caption(f":material/info: {plain(warning)}")
    if answer.interval:
        st.caption(f"**Interval.** {plain(answer.interval)}")
    for structure in answer.structures:
        _show_structure(structure)
    _show_pictures(services, answer)


def _show_structure(structure: StructureAnswer) -> None:
    with st.container(border=True, key=f"followup-{structure.label}"):
        st.subheader(plain(structure.label), anchor=False)
        if len(structure.visits) < 2:
            volume = structure.visits[0].volume_ml
            st.markdown(f"Session {plain(structure.visits[0].session)}: {volume:.3f} ml")
            st.caption("One session has no change. Segment another session of this subject with the same recipe.")
            return
        told = ", ".join(f"session {each.session} {each.volume_ml:.2f} ml" for each in structure.visits)
        st.vega_lite_chart(
            _rows(structure), _draw(structure), height=_HEIGHT, width="stretch", alt=f"{structure.label}: {told}"
        )
        st.table([_say_growth(each) for each in structure.growth], hide_index=True, border="horizontal")


def _rows(structure: StructureAnswer) -> list[dict[str, Any]]:
    return [
        {
            "session": each.session,
            "when": each.day if each.day is not None else number,
            "volume": each.volume_ml,
            "low": each.low_ml if each.low_ml is not None else each.volume_ml,
            "high": each.high_ml if each.high_ml is not None else each.volume_ml,
            "by": f"corrected by {each.corrected_by}" if each.corrected_by else "model",
        }
        for number, each in enumerate(structure.visits)
    ]


def _draw(structure: StructureAnswer) -> dict[str, Any]:
    known = all(each.day is not None for each in structure.visits)
    across: dict[str, Any] = (
        {"field": "when", "type": "quantitative", "title": "Day"}
        if known
        else {"field": "session", "type": "ordinal", "title": "Session", "sort": None, "axis": {"labelAngle": 0}}
    )
    up = {"field": "volume", "type": "quantitative", "title": "Volume (ml)", "scale": {"zero": True}}
    tooltip = [
        {"field": "session", "title": "Session"},
        {"field": "volume", "title": "Volume (ml)", "format": ".3f"},
        {"field": "by", "title": "Drawn by"},
    ]
    return {
        "encoding": {"x": across},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2, "color": _COLOURS[0]},
                "encoding": {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}},
            },
            {"mark": {"type": "line", "color": _COLOURS[0]}, "encoding": {"y": up}},
            {
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {
                    "y": up,
                    "tooltip": tooltip,
                    "color": {
                        "field": "by",
                        "type": "nominal",
                        "title": None,
                        "scale": {"range": list(_COLOURS)},
                        "legend": {"orient": "bottom"},
                    },
                },
            },
        ],
    }


def _say_growth(growth: GrowthAnswer) -> dict[str, str]:
    known = {True: "Yes", False: "No", None: "Can't be told"}
    said = {
        "From, to": f"{growth.start} → {growth.end}",
        "Detectable": known[growth.beyond],
        "Change (ml)": f"{growth.change_ml:+.3f}",
        "95 % interval": "–"
        if growth.low_ml is None or growth.high_ml is None
        else f"{growth.low_ml:+.3f} to {growth.high_ml:+.3f}",
        "Change": "–" if growth.change_percent is None else f"{growth.change_percent:+.1f} %",
        "Least detectable (ml)": "–" if growth.detectable_ml is None else f"{growth.detectable_ml:.3f}",
    }
    if growth.percent_per_year is not None:
        said["Pace"] = f"{growth.percent_per_year:+.0f} % a year"
    if growth.doubling_days is not None:
        days = growth.doubling_days
        said["Doubles in"] = f"{days:.0f} days" if days > 0 else f"halves in {-days:.0f} days"
    return said


def _show_pictures(services: Services, answer: FollowupAnswer) -> None:
    visits = answer.structures[0].visits if answer.structures else []
    if not visits:
        return
    st.subheader("Every session", anchor=False)
    for start in range(0, len(visits), _A_ROW):
        for column, visit in zip(st.columns(_A_ROW), visits[start : start + _A_ROW], strict=False):
            with column, st.container(border=True, key=f"visit-{visit.run}"):
                _show_visit(services, visit)


def _show_visit(services: Services, visit: VisitAnswer) -> None:
    st.markdown(f"**Session {plain(visit.session)}**  \n{plain(visit.scan)}")
    sheet, _ = services.sheets.draw(visit.run)
    st.image(sheet, width="stretch", alt=f"Labels of session {visit.session}", output_format="PNG")
    st.page_link(
        "screens/viewer.py",
        label="Open in the viewer",
        icon=":material/view_in_ar:",
        query_params={"result": str(visit.run)},
    )


def _say_series(series: SeriesAnswer) -> str:
    sessions = f"{len(series.sessions)} session{'s' if len(series.sessions) != 1 else ''}"
    return f"{series.subject}, {series.recipe}, {sessions}"
