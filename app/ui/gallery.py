"""Results as pictures: label maps over their scans, stimuli beside what was decoded."""

from itertools import groupby

import streamlit as st

from voxelight.app.schemas import ArtifactAnswer, MetricAnswer, ResultAnswer
from voxelight.app.services import Services
from voxelight.app.ui.downloads import offer_downloads
from voxelight.app.ui.marks import mark_random, mark_simulated, note_decoding
from voxelight.app.ui.pictures import show_picture
from voxelight.app.ui.wording import DECODING, KINDS, plain, say_hash, say_number, say_score, say_time

_COLUMNS = {"segment": 2, "reconstruct": 4, "decode": 2}
_DOWNLOADS = ("label_map", "sidecar", "prediction", "tokens")
_SHOWN_PAIRS = 12
_SHOWN_RETRIEVED = 5


def show_gallery(services: Services, results: list[ResultAnswer]) -> None:
    """Show results in their order, those of one job together."""
    for _, group in groupby(results, key=lambda result: result.job):
        together = list(group)
        _show_group_head(together[0])
        width = _COLUMNS[together[0].kind]
        for start in range(0, len(together), width):
            for column, result in zip(st.columns(width), together[start : start + width], strict=False):
                with column, st.container(border=True, key=f"result-{result.id}"):
                    _SHOW[result.kind](services, result)
                    _show_rest(services, result)


def _show_group_head(result: ResultAnswer) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        title = f"{KINDS[result.kind]}: {plain(result.recipe)} on {plain(result.dataset)}"
        st.subheader(title, anchor=False, width="content")
        mark_simulated(result.simulated)
        mark_random(result.random_weights)
        st.page_link(
            "screens/jobs.py",
            label="Open the job",
            icon=":material/play_circle:",
            query_params={"job": str(result.job)},
        )
    if result.kind in DECODING:
        note_decoding(result.random_weights)


def _show_label_map(services: Services, result: ResultAnswer) -> None:
    st.markdown(f"**{plain(result.scan)}**  \nsubject {plain(result.subject)}, session {plain(result.session)}")
    for artifact in _find(result, "overlay"):
        show_picture(services, artifact, alt=f"Labels over {result.scan}")
    rows = [{"Label": name, "Volume (ml)": f"{volume:.3f}"} for name, volume in result.volumes_ml.items()]
    if rows:
        st.table(rows, hide_index=True, border="horizontal")


def _show_reconstructed(services: Services, result: ResultAnswer) -> None:
    st.markdown(f"**{plain(result.item)}**  \nsubject {plain(result.subject)}")
    seen, decoded = _find(result, "stimulus"), _find(result, "reconstruction")
    for number, picture in enumerate(decoded[:_SHOWN_PAIRS]):
        left, right = st.columns(2)
        with left.container(key=f"pixels-{result.id}-{number}-seen"):
            if number < len(seen):
                show_picture(services, seen[number], alt="Stimulus", caption="Seen")
        with right.container(key=f"pixels-{result.id}-{number}-decoded"):
            show_picture(services, picture, alt="Reconstruction", caption="Model estimate")
    if len(decoded) > _SHOWN_PAIRS:
        st.caption(f"{len(decoded) - _SHOWN_PAIRS} more in the provenance and over HTTP.")
    if result.metrics:
        st.caption(" · ".join(_say_metric(metric, result) for metric in result.metrics))


def _show_decoded(services: Services, result: ResultAnswer) -> None:
    st.markdown(f"**{plain(result.item)}**  \nsubject {plain(result.subject)}")
    by_id = {artifact.id: artifact for artifact in result.artifacts}
    unrefined = _find(result, "unrefined")
    for decoded in result.decoded:
        stages = [(artifact, "Seen", "Stimulus") for artifact in _find(result, "stimulus")]
        stages += [(artifact, "Unrefined", "Unrefined") for artifact in unrefined[decoded.rank : decoded.rank + 1]]
        if by_id[decoded.artifact].role == "reconstruction":
            stages.append((by_id[decoded.artifact], "Model estimate", "Reconstruction"))
        if stages:
            for column, (artifact, caption, alt) in zip(st.columns(3), stages, strict=False):
                with column.container(key=f"pixels-{artifact.id}-{decoded.rank}"):
                    show_picture(services, artifact, alt, caption)
        if decoded.caption:
            st.markdown(f"{plain(decoded.caption)}  \n:small[Decoded caption, seed {decoded.seed}]")
    _show_retrieved(services, result)
    if result.metrics:
        st.caption(" · ".join(_say_metric(metric, result) for metric in result.metrics))


def _show_retrieved(services: Services, result: ResultAnswer) -> None:
    """Show the pictures of the data set that come closest; a picture's own is found or it is not."""
    pictures = _find(result, "retrieved")[:_SHOWN_RETRIEVED]
    if not pictures:
        return
    st.caption("Retrieved from the pictures of the data set, the closest first")
    names = result.decoded[0].retrieved
    for number, (column, picture) in enumerate(zip(st.columns(_SHOWN_RETRIEVED), pictures, strict=False)):
        with column.container(key=f"pixels-{picture.id}"):
            found = "The one seen" if names[number] == result.item else None
            show_picture(services, picture, f"Retrieved {number + 1}", found)


def _say_metric(metric: MetricAnswer, result: ResultAnswer) -> str:
    label = f" of {plain(metric.label)}" if metric.label and len(result.stimuli) > 1 else ""
    return f"{plain(say_score(metric.name))}{label} {plain(say_number(metric.value))}"


def _show_rest(services: Services, result: ResultAnswer) -> None:
    with st.container(horizontal=True, gap="small"):
        offer_downloads(services, [artifact for artifact in result.artifacts if artifact.role in _DOWNLOADS])
    with st.expander("Provenance"):
        st.caption(
            f"{say_time(result.finished_at)} · model {plain(result.model)} · weights {say_hash(result.weights_sha256)}"
        )
        st.json(result.provenance)


_SHOW = {"segment": _show_label_map, "reconstruct": _show_reconstructed, "decode": _show_decoded}


def _find(result: ResultAnswer, role: str) -> list[ArtifactAnswer]:
    return sorted((artifact for artifact in result.artifacts if artifact.role == role), key=lambda found: found.name)
