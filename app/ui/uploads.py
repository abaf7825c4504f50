"""Take in files as they are dropped, each once, and show what the intake check found."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import streamlit as st

from voxelight.app.problem import describe_problem
from voxelight.app.schemas_uploads import AssignedName, DropAnswer, ReadPlace, RefusedPart
from voxelight.app.services import Services
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.naming import ask_pattern, preview_names
from voxelight.app.ui.problems import build, show_problem
from voxelight.app.ui.scancards import show_pictures, show_scan
from voxelight.app.ui.targets import Target
from voxelight.app.ui.wording import KINDS, plain, say_grid, say_many, say_size, say_time
from voxelight.app.verbs.drops import Dropped, stands_alone
from voxelight.models.errors import VoxelightError
from voxelight.storage.artifacts import CHUNK_BYTES

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

SMALL, LARGE = "Up to 200 MB each", "Larger files, and folders"
_ACCEPTED = (
    "NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha), DICOM (loose or in a .zip), betas (.mat), events and confounds "
    "(.tsv), sidecars of runs (_bold.json), pictures (.png, .jpg, .tif)"
)
_HELP = "Each file is checked at once. DICOM files that are dropped together become one scan a series. " + tell_more(
    "uploads", "what-is-taken"
)
_PAGE = "/api/v1/pages/upload"
_FRAME_HEIGHT = 640  # until the frame says how high it is
_PLACE = ("dataset", "subject", "session")
_FORMS = ("Both must agree", "sform", "qform")
_LISTED, _LOOK_S = 200, 5.0
_NARROW = ("Subject", "Session", "Size", "Warnings")
_WIDTHS = {name: st.column_config.Column(width="small") for name in _NARROW} | {
    "Grid": st.column_config.Column(width=330),
    "Held": st.column_config.Column(width=280, help="Why a person has to look at it first."),
}


def choose_way() -> str:
    """Ask whether files go through the page's own uploader, or in pieces."""
    way = st.segmented_control(
        "How large they are",
        [SMALL, LARGE],
        default=SMALL,
        required=True,
        key="way",
        help="Larger files are sent in pieces: they can pause, and go on after the tab was closed.",
    )
    return str(way)


def receive_files(services: Services, target: Target) -> None:
    """Ask for files, take in what is new and show what became of each."""
    # Another target is another uploader: no file follows a person from one subject to the next.
    where = f"{target.dataset.name}/{target.subject}/{target.session}"
    pattern = ask_pattern()
    reading = _ask_reading()
    files = st.file_uploader(
        f"Files for {_say_place(target, bool(pattern))}: {_ACCEPTED}",
        accept_multiple_files=True,
        key=f"files/{where}/{st.session_state.setdefault('drops', 0)}",
        help=_HELP,
    )
    known: dict[str, DropAnswer] = st.session_state.setdefault("taken_in", {})
    due = [file for file in files if file.file_id not in known]
    if due and not (target.fits and (pattern is None or pattern.fits)):
        st.caption(":material/info: These files wait: correct what is marked red, then they go on.")
    elif due and pattern:
        rows = preview_names(pattern, [file.name for file in due], target)
        if st.button(f"Store {say_many(_count(rows), 'file')}", type="primary", disabled=not _count(rows)):
            assigned = [(file, row) for file, row in zip(due, rows, strict=True) if not row.problem]
            _take_in(services, [(file, _place(target, row) | reading, row.as_name) for file, row in assigned])
    elif due:
        _take_in(services, [(file, _place(target) | reading, file.name) for file in due])
    _show_outcomes(services, [known[file.file_id] for file in files if file.file_id in known])


def show_large() -> str:
    """Show the page that sends large files and folders in pieces, which also stands alone; return its data set.

    Its address stays what it was at first: another one would load it anew, and stop what is under way.
    """
    chosen = {name: st.session_state[name] for name in _PLACE if st.session_state.get(name)}
    asked: dict[str, str] = st.session_state.setdefault("frame", chosen)
    address = f"{_PAGE}?{urlencode(asked | {'theme': st.context.theme.type or 'light'})}"
    st.iframe(address, height=_FRAME_HEIGHT, alt="Upload of large files and folders")
    st.caption(
        f"[Open it in a tab of its own]({address}) to go on while you work elsewhere. Here it stops when this page is "
        "left, and goes on where it was when you choose the same files again."
    )
    return asked.get("dataset", "")


def come_back() -> None:
    """Choose again what was chosen before the page of large files was shown."""
    for name, value in st.session_state.pop("frame", {}).items():
        st.session_state.setdefault(name, value)


def list_stored(services: Services, dataset: str) -> None:
    """Show what a data set holds."""
    st.subheader(f"In {plain(dataset)}")
    _list_scans(services, dataset)


@st.fragment(run_every=_LOOK_S)
def list_newest(services: Services) -> None:
    """Show what came in last anywhere, as it comes."""
    st.subheader("Stored last")
    _list_scans(services, None)


def _list_scans(services: Services, dataset: str | None) -> None:
    scans = services.scans.list(dataset, limit=_LISTED)
    if not scans.items:
        st.caption("No file yet. Drop some above.")
        return
    rows = [
        {
            "File": scan.name,
            "What": KINDS.get(scan.kind, scan.kind),
            **({} if dataset else {"Data set": scan.dataset}),
            "Subject": scan.subject,
            "Session": scan.session,
            "Size": say_size(scan.size),
            "Grid": say_grid(scan.geometry),
            "Warnings": len(scan.warnings),
            "Held": scan.held,
            "Added": say_time(scan.created_at),
        }
        for scan in scans.items
    ]
    st.dataframe(rows, hide_index=True, height=min(420, 38 + 35 * len(rows)), column_config=_WIDTHS)
    if scans.next_cursor:
        st.caption(f"The newest {_LISTED} files are shown.")


def _say_place(target: Target, by_name: bool) -> str:
    if by_name:
        return "subjects and sessions by their names"
    return f"subject {plain(target.subject)}, session {plain(target.session)}"


def _place(target: Target, row: AssignedName | None = None) -> dict[str, str]:
    source = row or target
    return {"dataset": target.dataset.name, "subject": source.subject, "session": source.session}


def _ask_reading() -> dict[str, str]:
    """Ask how files are read that can be read in several ways; what is left open is left out."""
    with st.expander("How files are read that can be read in several ways", icon=":material/tune:"):
        left, right = st.columns(2)
        prefer = left.selectbox(
            "Placement of a NIfTI header that holds",
            _FORMS,
            key="prefer",
            help=f"Where sform and qform differ. {tell_more('formats', 'what-is-chosen-and-never-guessed')}",
        )
        volume = right.number_input(
            "Volume or page",
            min_value=1,
            value=None,
            step=1,
            key="volume",
            placeholder="All of a series; of a file the only one",
            help="A volume of a 4-D NIfTI or a DICOM series, a page of a TIFF",
        )
    chosen = {"prefer": None if prefer == _FORMS[0] else prefer, "volume": volume}
    return {name: str(value) for name, value in chosen.items() if value is not None}


def _count(rows: Sequence[AssignedName]) -> int:
    return sum(not row.problem for row in rows)


def _take_in(services: Services, due: "Sequence[tuple[UploadedFile, dict[str, str], str]]") -> None:
    """Take in each file that stands alone by itself, and loose ones of one place together."""
    known: dict[str, DropAnswer] = st.session_state["taken_in"]
    groups: dict[tuple[str, ...], list[tuple[UploadedFile, dict[str, str], str]]] = {}
    for file, place, name in due:
        key = (file.file_id,) if stands_alone(name) else tuple(place.values())
        groups.setdefault(key, []).append((file, place, name))
    progress = st.progress(0.0)
    for number, group in enumerate(groups.values()):
        title = plain(group[0][2]) if len(group) == 1 else say_many(len(group), "loose file")
        progress.progress(number / len(groups), f"Checking {title}")
        outcome = _take_group(services, group)
        known.update({file.file_id: outcome for file, _, _ in group})
    st.rerun()  # so that what was drawn before counts the newcomers too


def _take_group(services: Services, group: "Sequence[tuple[UploadedFile, dict[str, str], str]]") -> DropAnswer:
    with tempfile.TemporaryDirectory(dir=services.settings.spool) as folder:
        files = []
        for number, (file, _, name) in enumerate(group):
            path = Path(folder, str(number))
            with path.open("wb") as copy:
                shutil.copyfileobj(file, copy, CHUNK_BYTES)
            files.append(Dropped(path, name))
        try:
            return services.drops.take_in(files, build(ReadPlace, **group[0][1]))
        except VoxelightError as error:
            return DropAnswer(scans=[], problems=[RefusedPart(name=group[0][2], problem=describe_problem(error))])


def _show_outcomes(services: Services, outcomes: Sequence[DropAnswer]) -> None:
    if not outcomes:
        st.caption(
            "Each file is checked at once. What can't be used is refused with the reason, and nothing of it is kept."
        )
        return
    each = list({id(outcome): outcome for outcome in outcomes}.values())  # loose files share one
    stored = [scan for outcome in each for scan in outcome.scans]
    refused = [part for outcome in each for part in outcome.problems]
    st.markdown(f"**{len(stored)} stored, {len(refused)} refused**")
    for part in refused:
        show_problem(part.problem, part.name)
    for scan in stored:
        if scan.kind != "picture":
            show_scan(services, scan)
    show_pictures(services, [scan for scan in stored if scan.kind == "picture"])
