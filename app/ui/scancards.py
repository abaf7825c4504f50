"""What the intake check found in a scan, as a card."""

import streamlit as st

from voxelight.app.schemas import ScanAnswer
from voxelight.app.services import Services
from voxelight.app.ui.pictures import show_thumbnail
from voxelight.app.ui.wording import KINDS, plain, say_fact, say_grid, say_many, say_name, say_size

_HEADERS = {
    "clean": "There was nothing to take out of its header.",
    "cleaned": "Texts that may name somebody were taken out of its header.",
    "defaced": "Header cleaned, and the face taken out.",
    "deface-failed": "Header cleaned; a face could not be taken out.",
    "kept": "Header kept: clinical data, not to be exported.",
}
_SERIES = "Names, numbers and free texts were taken out of its headers, UIDs were replaced and dates moved."
_HASHES = ("sha256", "uid")


def show_scan(services: Services, scan: ScanAnswer) -> None:
    """Show what a scan is, its grid and planes, and what to look at before use."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{plain(scan.name)}**", width="content")
            st.badge(KINDS.get(scan.kind, scan.kind), color="green", icon=":material/check:")
            if scan.held:
                st.badge("Held back", color="orange", icon=":material/visibility:")
            st.caption(f"{say_size(scan.size)}, subject {plain(scan.subject)}, session {plain(scan.session)}")
        if scan.geometry:
            st.markdown(say_grid(scan.geometry))
        facts = {name: fact for name, fact in scan.facts.items() if not name.endswith(_HASHES)}
        st.caption(" · ".join(f"{plain(say_name(name))} {plain(say_fact(fact))}" for name, fact in facts.items()))
        show_thumbnail(services, scan, _describe_thumbnail(scan))
        st.caption(_say_header(scan))
        if scan.held:
            st.warning(
                f"Held back: {plain(scan.held)}. No job takes it until a person has looked: decide below, under "
                "Held for a look.",
                icon=":material/visibility:",
            )
        for warning in scan.warnings:
            st.warning(f"{plain(say_name(warning['found']))}. {plain(warning['remedy'])}", icon=":material/warning:")


def show_pictures(services: Services, scans: list[ScanAnswer]) -> None:
    """Show stimuli side by side."""
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


def _say_header(scan: ScanAnswer) -> str:
    """Say what was done to the header before the file was stored."""
    if scan.name.endswith(".dcm.zip") and scan.deid_status in ("cleaned", "held"):
        return _SERIES
    return _HEADERS.get(scan.deid_status, "")


def _describe_thumbnail(scan: ScanAnswer) -> str:
    if scan.kind == "betas":
        return "The first stimuli"
    first = "first volume, " if scan.kind == "series" else ""
    planes = f"{first}axial, coronal and sagittal middle plane".capitalize()
    return f"{planes}, the person's left on the left"
