"""Where uploads go: an existing data set or a new one, a subject and a session."""

from dataclasses import dataclass
from typing import get_args

import streamlit as st

from voxelight.app.schemas import Consent, DatasetAnswer, DatasetChange, DatasetRequest
from voxelight.app.schemas_deletion import DeletionTarget
from voxelight.app.schemas_uploads import Place
from voxelight.app.services import Services
from voxelight.app.ui.deletion import show_deletion
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.marks import mark_simulated
from voxelight.app.ui.problems import BadField, build, find_problem, show_beside, show_problem
from voxelight.app.ui.wording import CONSENTS, plain, say_many
from voxelight.models.errors import VoxelightError

WHY_CONSENT = (
    "Decoding shows what somebody saw. So a job that decodes runs only on a data set that says on what ground "
    "(consent) and what for (purpose) its data may be decoded. Segmentation needs neither."
)
WHY_HEADERS = (
    "Else names, numbers and dates are taken out of headers before anything is stored. With them kept, nothing of this "
    "data set can be exported. It can't be changed later. " + tell_more("privacy", "clinical-and-local")
)
WHY_FACES = (
    "A head scan of 1 mm shows a face to whoever renders it. It takes up to a minute a head; one whose face can't be "
    "taken out is held for a person to look at. " + tell_more("privacy", "faces")
)
_NOTE = "Who approved it and what it covers; names no person"
_LISTED = 500


@dataclass(frozen=True)
class Target:
    """A place for uploads; one that does not fit yet is named beside its field."""

    dataset: DatasetAnswer
    subject: str
    session: str
    fits: bool = True


def choose_target(services: Services) -> Target | None:
    """Ask where files belong; None until there is a data set."""
    datasets = {dataset.name: dataset for dataset in services.datasets.list(limit=_LISTED).items}
    created = st.session_state.pop("created", None)
    if created in datasets:
        st.session_state["dataset"] = created
    target = _choose(datasets) if datasets else None
    if target:
        _show_dataset(services, target.dataset)
    else:
        st.info(
            "Nothing is stored here yet. Start with a data set: it says whose files these are and what they are for."
        )
    add_dataset(services, expanded=not datasets)
    return target


def has_datasets(services: Services) -> bool:
    """Whether there is a data set at all."""
    return bool(services.datasets.list(limit=1).items)


def add_dataset(services: Services, expanded: bool = False) -> None:
    """Offer the form of a new data set."""
    with st.expander("New data set", expanded=expanded, icon=":material/add:"):
        _create_form(services)


def _choose(datasets: dict[str, DatasetAnswer]) -> Target:
    name = st.selectbox("Data set", list(datasets), key="dataset", bind="query-params")
    subject_column, session_column = st.columns(2)
    with subject_column:
        subject = st.text_input("Subject", "01", key="subject", help="A label, never a name.").strip()
        below_subject = st.empty()
    with session_column:
        session = st.text_input("Session", "01", key="session", help="One visit to the scanner.").strip()
    problem = find_problem(Place, dataset=name, subject=subject, session=session)
    with below_subject.container():
        show_beside(problem, "subject")
    with session_column:
        show_beside(problem, "session")
    return Target(datasets[name], subject, session, fits=problem is None)


def _show_dataset(services: Services, dataset: DatasetAnswer) -> None:
    with st.container(horizontal=True, gap="small"):
        mark_simulated(dataset.simulated)
        if dataset.keeps_headers:
            st.badge("Clinical and local: headers kept, no export", icon=":material/home_health:", color="blue")
        if dataset.removes_faces:
            st.badge("Faces are taken out", icon=":material/face_retouching_off:", color="blue")
        if dataset.consent == "none" or not dataset.purpose.strip():
            st.badge("Not to be decoded", icon=":material/lock:", color="orange")
        else:
            st.badge("May be decoded", icon=":material/lock_open:", color="green")
    held = f"{say_many(dataset.subjects, 'subject')}, {say_many(dataset.scans, 'file')}"
    st.caption(f"{held}. Purpose: {plain(dataset.purpose) or 'not given'}.")
    with st.expander("Consent and purpose", icon=":material/edit:"):
        _change_form(services, dataset)
    show_deletion(services, DeletionTarget(what="dataset", dataset=dataset.name))


def _create_form(services: Services) -> None:
    # A new form once one has done its work: its fields start empty.
    form = f"new-dataset-{st.session_state.setdefault('datasets-created', 0)}"
    problem = st.session_state.get(f"{form}-problem")  # stays until the next try: the page may run again by itself
    with st.form(form, border=False, enter_to_submit=False):
        st.text_input(
            "Name", key=f"{form}-name", placeholder="v1-figures", help="Letters, digits, dot, dash, underscore."
        )
        show_beside(problem, "name", "")  # what is stored already is refused by its name
        _ask_consent(form, "none")
        st.text_input("What the consent says", key=f"{form}-consent_note", placeholder=_NOTE)
        show_beside(problem, "consent_note")
        st.text_area("Purpose", key=f"{form}-purpose", height=80, placeholder="What the data may be used for")
        show_beside(problem, "purpose")
        st.text_input("Licence", key=f"{form}-licence", placeholder="CC BY 4.0")
        show_beside(problem, "licence")
        st.text_input("Source", key=f"{form}-source", placeholder="Where the data come from, with their citation")
        show_beside(problem, "source")
        st.checkbox("Simulated: made by a model, nobody was scanned", key=f"{form}-simulated")
        st.checkbox("Clinical and local: keep headers as they are", key=f"{form}-keeps_headers", help=WHY_HEADERS)
        st.checkbox("Take faces out of heads", key=f"{form}-removes_faces", help=WHY_FACES)
        st.caption(WHY_CONSENT)
        st.form_submit_button("Create data set", type="primary", on_click=_create, args=(services, form))


def _ask_consent(form: str, present: Consent) -> None:
    choices = list(get_args(Consent))
    st.selectbox(
        "Consent",
        choices,
        index=choices.index(present),
        format_func=CONSENTS.__getitem__,
        key=f"{form}-consent",
        help=WHY_CONSENT,
    )


def _create(services: Services, form: str) -> None:
    names = ("name", "consent", "consent_note", "purpose", "licence", "source", "simulated", "keeps_headers",
             "removes_faces")  # fmt: skip
    st.session_state.pop(f"{form}-problem", None)
    try:
        request = build(DatasetRequest, **{name: st.session_state[f"{form}-{name}"] for name in names})
        st.session_state["created"] = services.datasets.create(request).name
        st.session_state["datasets-created"] += 1
    except VoxelightError as error:
        st.session_state[f"{form}-problem"] = error


def _change_form(services: Services, dataset: DatasetAnswer) -> None:
    form = f"change-{dataset.id}"
    with st.form(form, border=False, enter_to_submit=False):
        _ask_consent(form, dataset.consent)
        st.text_input("What the consent says", dataset.consent_note, key=f"{form}-consent_note", placeholder=_NOTE)
        st.text_area("Purpose", dataset.purpose, key=f"{form}-purpose", height=80)
        below_purpose = st.empty()
        sent = st.form_submit_button("Save")
        below = st.empty()
    if not sent:
        return
    try:
        change = build(
            DatasetChange,
            **{name: st.session_state[f"{form}-{name}"] for name in ("consent", "consent_note", "purpose")},
        )
        services.datasets.change(dataset.name, change, dataset.version)
    except VoxelightError as error:
        with (below_purpose if isinstance(error, BadField) else below).container():
            show_problem(error)
    else:
        st.rerun()
