"""A comparison as tables, a figure, and pictures side by side."""

import uuid
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from voxelight.app.pipelines.outputs import file_stem
from voxelight.app.schemas import ArtifactAnswer, ResultAnswer
from voxelight.app.schemas_search import CompareAnswer, DifferenceAnswer, PairAnswer, SideAnswer
from voxelight.app.services import Services
from voxelight.app.ui.links import link_page
from voxelight.app.ui.marks import mark_random, mark_simulated
from voxelight.app.ui.pictures import show_picture
from voxelight.app.ui.wording import DECODING, plain, say_number, say_score
from voxelight.models.errors import VoxelightError

_PAIRS = 6
_ROWS = 20
_OVERLAP_HELP = "1 where both label the same voxels, 0 where they share none. It says how alike, not which is right."


def show_comparison(services: Services, answer: CompareAnswer) -> None:
    """Show both sides, their differences and what they made of the same items."""
    for column, title, side in zip(st.columns(2), ("First", "Second"), (answer.first, answer.second), strict=True):
        with column, st.container(border=True):
            _show_side(title, side)
    st.caption(
        f"{answer.matched} items in both, {answer.only_first} only in the first, {answer.only_second} only in the "
        f"second. {answer.notice}"
    )
    if answer.metrics:
        _show_differences(answer.metrics)
    for note in answer.notes:
        st.caption(f":material/info: {plain(note)}")
    _show_pairs(services, answer)


def say_metric(found: DifferenceAnswer) -> str:
    """Return the name of a metric with its label and unit."""
    label = f" of {found.label}" if found.label else ""
    return f"{say_score(found.metric)}{label}{f' ({found.unit})' if found.unit else ''}"


def _show_side(title: str, side: SideAnswer) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{title}: {plain(', '.join(side.recipes))}**", width="content")
        mark_simulated(side.simulated)
        mark_random(side.random_weights)
    st.caption(f"{plain(side.name)} · {plain(', '.join(side.models))} · {side.results} results")
    if len(side.jobs) == 1:
        link_page("results", "Its results", "imagesmode", job=str(side.jobs[0]))


def _show_differences(metrics: list[DifferenceAnswer]) -> None:
    st.subheader("Differences", anchor=False)
    if all(row.difference == 0 for found in metrics for row in found.items):
        st.info("Both gave exactly the same scores for every item.", icon=":material/equal:")
    st.table(
        [
            {
                "Score": say_metric(found),
                "Items": found.n,
                "First": say_number(found.first),
                "Second": say_number(found.second),
                "First minus second": say_number(found.difference),
                "95 % interval": _say_interval(found),
                "p": say_number(found.p),
                "q": say_number(found.q),
            }
            for found in metrics
        ],
        hide_index=True,
        border="horizontal",
    )
    st.caption(
        "Mean of the paired differences with its bootstrap interval; p of Wilcoxon's signed-rank test, q the same "
        "among all scores of this table (Benjamini and Hochberg). Fewer than five items have neither."
    )
    names = {say_metric(found): found for found in metrics}
    chosen = names[st.selectbox("Score by item", list(names), key="compare-metric")]
    frame = pd.DataFrame(
        [
            {
                "Subject": row.subject,
                "Item": row.item,
                "First": row.first,
                "Second": row.second,
                "Difference": row.difference,
            }
            for row in chosen.items
        ]
    )
    left, right = st.columns(2)
    with left:
        st.altair_chart(_draw(frame, say_metric(chosen)), width="stretch")
        st.caption("Each point is an item; on the line both agree.")
    with right:
        st.dataframe(frame.head(_ROWS), hide_index=True, width="stretch")
        st.caption(
            "All items, those that differ most first." if len(frame) <= _ROWS else f"The {_ROWS} that differ most."
        )


def _draw(frame: pd.DataFrame, title: str) -> alt.LayerChart:
    """Draw first against second, with the line on which both agree."""
    ends = [float(frame[["First", "Second"]].min().min()), float(frame[["First", "Second"]].max().max())]
    room = 0.05 * (ends[1] - ends[0]) or 1.0
    scale = alt.Scale(domain=[ends[0] - room, ends[1] + room], nice=False)
    line = alt.Chart(pd.DataFrame({"First": scale.domain, "Second": scale.domain})).mark_line(
        color="gray", strokeDash=[4, 4]
    )
    points = alt.Chart(frame).mark_circle(size=60, opacity=0.7)
    across = alt.X("First:Q", scale=scale, title=f"First: {title}")
    up = alt.Y("Second:Q", scale=scale, title=f"Second: {title}")
    tips = ["Subject", "Item", "First", "Second", "Difference"]
    layers: Any = alt.layer(line.encode(x=across, y=up), points.encode(x=across, y=up, tooltip=tips))
    return layers.properties(height=320, description=f"{title} of each item, first against second")  # type: ignore[no-any-return]


def _show_pairs(services: Services, answer: CompareAnswer) -> None:
    st.subheader("Side by side", anchor=False)
    pages = -(-len(answer.pairs) // _PAIRS)
    place = st.pagination(pages, key="compare-pairs") - 1 if pages > 1 else 0
    for pair in answer.pairs[place * _PAIRS : (place + 1) * _PAIRS]:
        with st.container(border=True, key=f"pair-{pair.first}-{file_stem(pair.item)}"):
            _show_pair(services, answer, pair)


def _show_pair(services: Services, answer: CompareAnswer, pair: PairAnswer) -> None:
    results = [services.results.show(run_id) for run_id in (pair.first, pair.second)]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{plain(pair.item)}**  \nsubject {plain(pair.subject)}", width="content")
        if answer.kind not in DECODING:
            link_page("viewer", "Both in the viewer", "view_in_ar", result=str(pair.first), other=str(pair.second))
            st.markdown(_say_overlap(services, pair), width="content", help=_OVERLAP_HELP)
    shown = [(f"{side}", picture) for side, result in zip(("First", "Second"), results, strict=True)
             for picture in _find_pictures(result, pair.item)]  # fmt: skip
    seen = _find_seen(results[0], pair.item)
    strip = ([("Seen", seen)] if seen else []) + shown
    if not strip:
        st.caption("No picture of this item is stored.")
        return
    for column, (name, picture) in zip(st.columns(len(strip)), strip, strict=True):
        few = "pixels" if answer.kind in DECODING else "overlay"  # of few pixels, which stay squares
        with column.container(key=f"{few}-{name}-{pair.first}-{file_stem(pair.item)}"):
            show_picture(services, picture, alt=f"{name}: {pair.item}", caption=name)


def _say_overlap(services: Services, pair: PairAnswer) -> str:
    try:
        found = services.compare.overlap(pair.first, pair.second)
    except VoxelightError as error:
        return f"No overlap: {plain(error.found)}"
    if not found:
        return "No label on either side"
    return "Overlap (Dice): " + ", ".join(f"{plain(label)} {score:.3f}" for label, score in found.items())


def _find_pictures(result: ResultAnswer, item: str) -> list[ArtifactAnswer]:
    """Return the picture of an item: labels over its scan, or the first sample of what was decoded."""
    files: dict[uuid.UUID, ArtifactAnswer] = {file.id: file for file in result.artifacts}
    if result.kind not in DECODING:
        return [file for file in result.artifacts if file.role == "overlay"]
    found = [files[each.artifact] for each in result.decoded if each.stimulus == item and each.rank == 0]
    return [file for file in found if file.role == "reconstruction"]


def _find_seen(result: ResultAnswer, item: str) -> ArtifactAnswer | None:
    name = f"{file_stem(item)}_stimulus.png"
    return next((file for file in result.artifacts if file.role == "stimulus" and file.name == name), None)


def _say_interval(found: DifferenceAnswer) -> str:
    if found.low is None or found.high is None:
        return "–"
    return f"{say_number(found.low)} to {say_number(found.high)}"
