"""Explore: find stored results, scans and cases that are like words, a picture or another result."""

import uuid

import streamlit as st

from voxelight.app.schemas_vectors import NearAnswer, NearConditions, NearRequest, NeighboursAnswer, SpaceAnswer
from voxelight.app.services import Services
from voxelight.app.ui.links import link_page, tell_more
from voxelight.app.ui.marks import mark_random, mark_simulated, note_decoding, show_empty
from voxelight.app.ui.problems import build, problems_shown
from voxelight.app.ui.wording import KINDS, plain
from voxelight.app.web import current_services
from voxelight.models.errors import BadInput

WAYS = {"text": "Words", "picture": "A picture", "result": "Another result"}
ROLES = {
    "reconstruction": "Reconstructions",
    "stimulus": "Stimuli",
    "caption": "Captions",
    "labels": "Segmented cases",
    "scan": "Uploads",
    "case": "Volumes",
    "tokens": "Decoded tokens",
}
_COLUMNS = 4
_LISTED = 500
_ABOUT = (
    "Likeness is the cosine of two vectors, 1 for the same. Every vector of the space is compared, so nothing nearer "
    "is missed. Nothing that you drop here is kept. " + tell_more("explore")
)


def ask(services: Services, spaces: list[SpaceAnswer]) -> NeighboursAnswer | None:
    """Ask what to look for, and find it; None until something was asked."""
    ways = list(WAYS)
    linked = st.query_params.get("result")
    if linked != st.session_state.get("explored-result"):  # a link from another page says what to look for
        st.session_state["explored-result"] = linked
        if linked:
            st.session_state["way"] = "result"
    st.session_state.setdefault("way", "text")
    way = (
        st.segmented_control(
            "Find what is like", ways, format_func=WAYS.__getitem__, key="way", required=True, help=_ABOUT
        )
        or "text"
    )
    conditions = _narrow(services, way, [space for space in spaces if way in space.asked_by])
    if way == "picture":
        dropped = st.file_uploader("Picture", ["png", "jpg", "jpeg"], key="picture", help="PNG or JPEG; not kept.")
        return services.vectors.find_near_picture(dropped.getvalue(), conditions) if dropped else None
    if way == "result":
        return _ask_result(services, conditions)
    text = st.text_input("Words", key="text", bind="query-params", placeholder="a dog on a beach", max_chars=2000)
    if not text.strip():
        return None
    return services.vectors.find_near(build(NearRequest, text=text, **conditions.model_dump()))


def _ask_result(services: Services, conditions: NearConditions) -> NeighboursAnswer | None:
    typed = st.text_input("Result", key="result", bind="query-params", help="Its id: More like this fills it in.")
    item = st.text_input("Item", key="item", bind="query-params", help="Which stimulus of it; left empty, the first.")
    if not typed.strip():
        return None
    try:
        result = uuid.UUID(typed.strip())
    except ValueError:
        raise BadInput(f"the result {typed!r}", "the id of a result", "Copy it from the Results page.") from None
    request = build(NearRequest, result=result, item=item.strip() or None, **conditions.model_dump())
    return services.vectors.find_near(request)


def _narrow(services: Services, way: str, spaces: list[SpaceAnswer]) -> NearConditions:
    datasets = [dataset.name for dataset in services.datasets.list(limit=_LISTED).items]
    space, dataset, role = st.columns(3)
    about = "\n\n".join(f"**{each.name}**: {each.about}" for each in spaces)
    chosen = space.selectbox(
        "Compared by",
        [each.name for each in spaces],
        index=None,
        placeholder="What fits",
        key=f"space-{way}",
        help=about or None,
    )
    only = dataset.selectbox("Data set", datasets, index=None, placeholder="Any", key="dataset", bind="query-params")
    kind = role.selectbox(
        "Only", list(ROLES), index=None, placeholder="Anything", format_func=ROLES.__getitem__, key="role"
    )
    return build(NearConditions, space=chosen, dataset=only, role=kind, limit=24)


def show_found(services: Services, found: NeighboursAnswer) -> None:
    """Show what is near, the nearest first."""
    if not found.items:
        show_empty("Nothing is like that. Try other words, or loosen data set and kind.")
        return
    st.caption(f"{len(found.items)} nearest of {found.searched} vectors in **{plain(found.space)}**, all compared.")
    if any(near.kind in ("reconstruct", "decode") for near in found.items):
        note_decoding(any(near.random_weights for near in found.items))
    for start in range(0, len(found.items), _COLUMNS):
        for column, near in zip(st.columns(_COLUMNS), found.items[start : start + _COLUMNS], strict=False):
            with column, st.container(border=True):
                _show_one(services, near, f"{near.result or near.scan}-{near.role}-{near.item}")


def _show_one(services: Services, near: NearAnswer, key: str) -> None:
    title = near.item or near.scan_name
    picture = _read_picture(services, near)
    if picture:
        st.image(picture, width="stretch", alt=f"{ROLES.get(near.role, near.role)}: {title}", output_format="PNG")
    st.markdown(f"**{plain(title)}**  \n{near.score:.3f} · {ROLES.get(near.role, near.role)}")
    about = [f"{KINDS.get(near.kind, near.kind)} · {plain(near.dataset)} · {plain(near.subject)}"]
    if near.caption:
        about.insert(0, plain(near.caption))
    about += [f"{plain(label)}: {volume:.2f} ml" for label, volume in list(near.labels.items())[:3]]
    st.caption("  \n".join(about))
    mark_simulated(near.simulated)
    mark_random(near.random_weights)
    if near.result:
        more = {"result": str(near.result), "item": near.item}
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.button("More like this", key=f"more-{key}", icon=":material/hub:", on_click=_go_on, args=(more,))
            link_page("results", "Its job", "imagesmode", job=str(near.job))


def _go_on(more: dict[str, str]) -> None:
    st.session_state.update(way="result", role=None, **more)


def _read_picture(services: Services, near: NearAnswer) -> bytes | None:
    if near.artifact and near.picture_url and "/artifacts/" in near.picture_url:
        return services.results.read(services.results.show_artifact(near.artifact))
    return services.scans.read_thumbnail(near.scan)


st.title("Explore")
services = current_services()
spaces = services.vectors.list_spaces()
if spaces:
    with problems_shown():
        found = ask(services, spaces)
        if found is None:
            show_empty("Type words, drop a picture, or choose **More like this** beside a result.")
        else:
            show_found(services, found)
else:
    show_empty(
        "Nothing to explore yet. Upload scans or run a job: what comes in is made findable.",
        "screens/upload.py",
        "Upload",
    )
