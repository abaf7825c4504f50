"""Results as cards: label maps over their scans, stimuli beside what was decoded."""

import uuid
from itertools import groupby

import streamlit as st

from voxelight.app.schemas import ArtifactAnswer, ResultAnswer
from voxelight.app.schemas_deletion import DeletionTarget
from voxelight.app.services import Services
from voxelight.app.ui.decoding import show_decoded, show_reconstructed
from voxelight.app.ui.deletion import show_deletion
from voxelight.app.ui.downloads import offer_downloads
from voxelight.app.ui.evaluation import show_actions
from voxelight.app.ui.evaluation_maps import show_map_evaluation
from voxelight.app.ui.links import link_page
from voxelight.app.ui.marks import mark_random, mark_simulated, note_decoding
from voxelight.app.ui.pictures import show_picture
from voxelight.app.ui.wording import DECODING, KINDS, plain, say_hash, say_time

_COLUMNS = dict.fromkeys(KINDS, 2) | {"decode": 1}
_ACTIONS = dict.fromkeys(DECODING, show_actions) | {"segment": show_map_evaluation}
_DOWNLOADS = ("label_map", "label_picture", "instances", "correction", "sidecar", "prediction", "tokens")


def show_gallery(services: Services, results: list[ResultAnswer]) -> None:
    """Show results in their order, those of one job together where they follow each other."""
    decoded = [result.id for result in results if result.kind in DECODING]
    controls = services.actions.find_controls(decoded) if decoded else {}
    begun: set[uuid.UUID] = set()
    for job, group in groupby(results, key=lambda result: result.job):
        together = list(group)
        _show_group_head(together[0])
        show = _ACTIONS.get(together[0].kind)
        if show is not None and job not in begun:
            show(services, job)
        begun.add(job)
        width = _COLUMNS[together[0].kind]
        for start in range(0, len(together), width):
            for column, result in zip(st.columns(width), together[start : start + width], strict=False):
                with column, st.container(border=True, key=f"result-{result.id}"):
                    if result.kind == "segment":
                        _show_label_map(services, result)
                    elif result.kind == "glm":
                        for artifact in _find(result, "design"):
                            show_picture(services, artifact, alt=f"Design matrix of {result.item}")
                    elif result.kind not in DECODING:
                        link_page("training", "See its curve", "monitoring", job=str(result.job))
                    elif result.kind == "reconstruct":
                        show_reconstructed(services, result, controls[result.id])
                    else:
                        show_decoded(services, result, controls[result.id])
                    _show_rest(services, result)


def _show_group_head(result: ResultAnswer) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        title = f"{KINDS[result.kind]}: {plain(result.recipe)} on {plain(result.dataset)}"
        st.subheader(title, anchor=False, width="content")
        mark_simulated(result.simulated)
        mark_random(result.random_weights)
        link_page("jobs", "Open the job", "play_circle", job=str(result.job))
        link_page(
            "review", "Review", "rate_review", help="Accept or reject each result by keyboard", job=str(result.job)
        )
        link_page(
            "compare", "Compare", "compare_arrows", help="This job beside another, item by item", a=str(result.job)
        )
        link_page("export", "Export", "archive", help="Take the results of this job home", job=str(result.job))
    if result.kind in DECODING:
        note_decoding(result.random_weights)


def _show_label_map(services: Services, result: ResultAnswer) -> None:
    st.markdown(f"**{plain(result.scan)}**  \nsubject {plain(result.subject)}, session {plain(result.session)}")
    for artifact in _find(result, "overlay"):
        show_picture(services, artifact, alt=f"Labels over {result.scan}")
    rows = [{"Label": name, "Volume (ml)": f"{volume:.3f}"} for name, volume in result.volumes_ml.items()]
    if rows:
        st.table(rows, hide_index=True, border="horizontal")


def _show_rest(services: Services, result: ResultAnswer) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if result.kind == "segment":
            link_page("viewer", "Viewer", "view_in_ar", help="Planes, 3-D and corrections", result=str(result.id))
        link_page(
            "explore", "More like this", "hub", help="Stored results that are most similar", result=str(result.id)
        )
        offer_downloads(services, [artifact for artifact in result.artifacts if artifact.role in _DOWNLOADS])
    with st.expander("Provenance"):
        st.caption(
            f"{say_time(result.finished_at)} · model {plain(result.model)} · weights {say_hash(result.weights_sha256)}"
        )
        st.json(result.provenance)
    show_deletion(services, DeletionTarget(what="result", id=result.id))


def _find(result: ResultAnswer, role: str) -> list[ArtifactAnswer]:
    return sorted((artifact for artifact in result.artifacts if artifact.role == role), key=lambda found: found.name)
