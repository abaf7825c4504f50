"""Take in files as they are dropped, each once, and show what the intake check found."""

from typing import TYPE_CHECKING

import streamlit as st

from voxelight.app.schemas import ScanAnswer, ScanRequest
from voxelight.app.services import Services
from voxelight.app.ui.pictures import show_thumbnail
from voxelight.app.ui.problems import build, show_problem
from voxelight.app.ui.targets import Target
from voxelight.app.ui.wording import KINDS, plain, say_fact, say_grid, say_many, say_name, say_size, say_time
from voxelight.models.errors import VoxelightError

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

Outcome = ScanAnswer | VoxelightError
_ACCEPTED = "NIfTI images (.nii, .nii.gz), betas (.mat), events (.tsv), pictures (.png, .jpg)"
_LISTED = 200


def receive_files(services: Services, target: Target) -> None:
    """Ask for files, take in what is new and show what became of each."""
    # Another target is another uploader: no file follows a person from one subject to the next.
    key = f"files/{target.dataset.name}/{target.subject}/{target.session}"
    files = st.file_uploader(
        f"Files for subject {plain(target.subject)}, session {plain(target.session)}: {_ACCEPTED}",
        accept_multiple_files=True,
        key=key,
        help="Up to 200 MB each. For larger ones: PUT /api/v1/datasets/NAME/scans/FILE, or voxelight ingest.",
    )
    outcomes = _take_in(services, target, files)
    if not outcomes:
        st.caption(
            "Each file is checked at once. What can't be used is refused with the reason, and nothing of it is kept."
        )
        return
    refused = [(name, found) for name, found in outcomes if isinstance(found, VoxelightError)]
    stored = [found for _, found in outcomes if isinstance(found, ScanAnswer)]
    st.markdown(f"**{len(stored)} stored, {len(refused)} refused**")
    for name, error in refused:
        show_problem(error, name)
    for scan in stored:
        if scan.kind != "picture":
            _show_scan(services, scan)
    _show_pictures(services, [scan for scan in stored if scan.kind == "picture"])


def list_stored(services: Services, target: Target) -> None:
    """Show what the data set holds."""
    st.subheader(f"In {plain(target.dataset.name)}")
    scans = services.scans.list(target.dataset.name, limit=_LISTED)
    if not scans.items:
        st.caption("No file yet. Drop some above.")
        return
    rows = [
        {
            "File": scan.name,
            "What": KINDS.get(scan.kind, scan.kind),
            "Subject": scan.subject,
            "Session": scan.session,
            "Size": say_size(scan.size),
            "Grid": say_grid(scan.geometry),
            "Warnings": len(scan.warnings),
            "Added": say_time(scan.created_at),
        }
        for scan in scans.items
    ]
    st.dataframe(rows, hide_index=True, height=min(420, 38 + 35 * len(rows)))
    if scans.next_cursor:
        st.caption(f"The newest {_LISTED} files are shown.")


def _take_in(services: Services, target: Target, files: "list[UploadedFile]") -> list[tuple[str, Outcome]]:
    known: dict[str, Outcome] = st.session_state.setdefault("taken_in", {})
    due = [file for file in files if file.file_id not in known]
    if due:
        progress = st.progress(0.0)
        for number, file in enumerate(due):
            progress.progress(number / len(due), f"Checking {plain(file.name)}")
            known[file.file_id] = _ingest(services, target, file)
        st.rerun()  # so that what was drawn before counts the newcomers too
    return [(file.name, known[file.file_id]) for file in files]


def _ingest(services: Services, target: Target, file: "UploadedFile") -> Outcome:
    try:
        request = build(
            ScanRequest, name=file.name, dataset=target.dataset.name, subject=target.subject, session=target.session
        )
        return services.scans.ingest(file, request)
    except VoxelightError as error:
        return error


def _show_scan(services: Services, scan: ScanAnswer) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{plain(scan.name)}**", width="content")
            st.badge(KINDS.get(scan.kind, scan.kind), color="green", icon=":material/check:")
            st.caption(say_size(scan.size), width="content")
        if scan.geometry:
            st.markdown(say_grid(scan.geometry))
        st.caption(" · ".join(f"{plain(say_name(name))} {plain(say_fact(fact))}" for name, fact in scan.facts.items()))
        show_thumbnail(services, scan, _describe_thumbnail(scan))
        for warning in scan.warnings:
            st.warning(f"{plain(say_name(warning['found']))}. {plain(warning['remedy'])}", icon=":material/warning:")


def _describe_thumbnail(scan: ScanAnswer) -> str:
    if scan.kind == "betas":
        return "The first stimuli"
    first = "first volume, " if scan.kind == "series" else ""
    return f"{first}axial, coronal and sagittal middle plane".capitalize()


def _show_pictures(services: Services, scans: list[ScanAnswer]) -> None:
    if not scans:
        return
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{say_many(len(scans), 'picture')}**", width="content")
            st.badge("Stimuli", color="green", icon=":material/check:")
        with st.container(horizontal=True, key="pixels-uploads"):
            for scan in scans:
                show_thumbnail(services, scan, plain(scan.name), width=112)
        for scan in scans:
            for warning in scan.warnings:
                st.warning(f"{plain(scan.name)}: {plain(warning['found'])}. {plain(warning['remedy'])}")
