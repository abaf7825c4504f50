"""Subject and session of many files by a pattern of their names, shown before anything is stored."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from voxelight.app.schemas_uploads import AssignedName
from voxelight.app.ui.links import tell_more
from voxelight.app.ui.problems import show_problem
from voxelight.app.ui.targets import Target
from voxelight.app.ui.wording import say_many
from voxelight.app.verbs.naming import assign_names
from voxelight.models.errors import BadInput

_EXAMPLE = "sub-{subject}_ses-{session}_*.nii.gz"
_TALLEST = 320


@dataclass(frozen=True)
class Naming:
    """A pattern, and what files are renamed to; empty: they keep their names.

    What is wrong with either is said beside its field.
    """

    pattern: str
    rename: str
    fits: bool = True


def ask_pattern() -> Naming | None:
    """Ask for a pattern; None where subject and session are those of the form."""
    with st.expander("Tell subject and session by the names of the files", icon=":material/label:"):
        pattern = st.text_input(
            "Pattern of names",
            key="pattern",
            placeholder=_EXAMPLE,
            help="Words in braces are parts of the name, * is any text; a part ends where the text after it comes for "
            f"the first time. {tell_more('uploads', 'names-that-say-where-files-belong')}",
        ).strip()
        fits = not pattern or _fits(pattern, "")
        rename = st.text_input(
            "New name",
            key="rename",
            placeholder="{subject}_{session}.nii.gz",
            help="Made of the parts; may stay empty.",
        ).strip()
        fits = fits and (not pattern or _fits(pattern, rename))
    return Naming(pattern, rename, fits) if pattern else None


def preview_names(naming: Naming, names: Sequence[str], target: Target) -> list[AssignedName]:
    """Show where each file would go."""
    rows = assign_names(names, naming.pattern, naming.rename, target.subject, target.session)
    good = [row for row in rows if not row.problem]
    left = f"; {len(rows) - len(good)} do not fit and stay here" if len(good) < len(rows) else ""
    subjects = say_many(len({row.subject for row in good}), "subject")
    st.markdown(f"**{len(good)} of {say_many(len(rows), 'file')}, {subjects}{left}**")
    table = [
        {"File": row.name, "Subject": row.subject, "Session": row.session, "Stored as": row.as_name, "": row.problem}
        if not row.problem
        else {"File": row.name, "Subject": "", "Session": "", "Stored as": "", "": row.problem}
        for row in rows
    ]
    st.dataframe(table, hide_index=True, height=min(_TALLEST, 38 + 35 * len(table)))
    return rows


def _fits(pattern: str, rename: str) -> bool:
    try:
        assign_names([], pattern, rename)
    except BadInput as error:
        show_problem(error)
        return False
    return True
