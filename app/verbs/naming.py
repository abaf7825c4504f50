"""Tell subject and session of a file by its name, as a pattern says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from voxelight.app.schemas_uploads import AssignedName
from voxelight.models.errors import BadInput
from voxelight.storage.formats.names import safe_name

_HOLE = re.compile(r"\{([a-z][a-z0-9_]*)\}|(\*)")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")


@dataclass(frozen=True)
class Pattern:
    """Text with holes: `texts` stand before, between and after the holes; an empty name is `*`."""

    holes: tuple[str, ...]
    texts: tuple[str, ...]

    def match(self, name: str) -> dict[str, str] | None:
        """Return what fills the holes; a hole ends where the text after it comes for the first time."""
        first, *between = self.texts
        if not name.startswith(first):
            return None
        found, place = {}, len(first)
        for number, (hole, text) in enumerate(zip(self.holes, between, strict=True), 1):
            least = place + bool(hole)
            if number == len(self.holes):
                end = len(name) - len(text) if name.endswith(text) else -1
            else:
                end = name.find(text, least)
            if end < least or "/" in name[place:end]:
                return None
            if hole:
                found[hole] = name[place:end]
            place = end + len(text)
        return found if place == len(name) else None


def parse_pattern(pattern: str) -> Pattern:
    """Read a pattern such as `sub-{subject}_ses-{session}_*.nii.gz`.

    Raises
    ------
    BadInput
        A part is named twice, two holes touch, or there is no hole with a name.
    """
    parts = _HOLE.split(pattern)
    texts = tuple(parts[::3])
    holes = tuple(name or "" for name in parts[1::3])
    named = [hole for hole in holes if hole]
    faults = {
        "no part in braces": not named,
        "a part that comes twice": len(set(named)) < len(named),
        "two parts without text between them": "" in texts[1:-1],
        "braces that name no part": any(brace in text for text in texts for brace in "{}"),
    }
    fault = next((fault for fault, there in faults.items() if there), None)
    if fault:
        raise BadInput(
            f"the pattern {pattern[:120]!r} with {fault}",
            "a pattern such as sub-{subject}_ses-{session}_*.nii.gz",
            "Name parts by small letters in braces, each once, with text between them; * is any text.",
        )
    return Pattern(holes, texts)


def assign_names(
    names: Sequence[str], pattern: str, rename: str = "", subject: str = "01", session: str = "01"
) -> list[AssignedName]:
    """Tell where files belong by their names.

    Parameters
    ----------
    names : file names, or paths below a folder with `/` between the parts
    pattern : text with `{subject}`, `{session}`, other parts in braces, and `*`; it is compared with the file name
        and, for each `/` in it, one folder above. A part ends where the text after it comes for the first time.
    rename : the new file name, of text and the parts; empty: the file name stays
    subject, session : for patterns without these parts

    Returns
    -------
    list of AssignedName
        In the order of `names`. `problem` is set where a name does not fit, a label is none, a new name is unsafe, or
        two files would have the same name in one session.

    Raises
    ------
    BadInput
        The pattern is none, or `rename` names a part that the pattern lacks.
    """
    read = parse_pattern(pattern)
    _refuse_unknown_parts(rename, read)
    rows, taken = [], set()
    for name in names:
        row = _assign(name, read, pattern.count("/"), rename, (subject, session))
        key = row.subject, row.session, row.as_name
        if not row.problem and key in taken:
            row = row.model_copy(update={"problem": "another file has this name in the same session"})
        taken.add(key)
        rows.append(row)
    return rows


def _refuse_unknown_parts(rename: str, pattern: Pattern) -> None:
    known = {*filter(None, pattern.holes), "subject", "session"}
    unknown = {name for name, star in _HOLE.findall(rename) if star or name not in known}
    if unknown or any(brace in text for text in _HOLE.split(rename)[::3] for brace in "{}"):
        raise BadInput(
            f"the new name {rename[:120]!r}",
            "text and the parts " + ", ".join(f"{{{name}}}" for name in sorted(known)),
            "Use parts that the pattern names.",
        )


def _assign(name: str, pattern: Pattern, folders: int, rename: str, defaults: tuple[str, str]) -> AssignedName:
    *_, plain = path = name.split("/")
    parts = pattern.match("/".join(path[-1 - folders :]))
    places = dict(zip(("subject", "session"), defaults, strict=True))
    if parts is None:
        return AssignedName(name=name, **places, as_name=plain, problem="the name does not fit the pattern")
    places |= {key: parts[key] for key in places if key in parts}
    as_name = _HOLE.sub(lambda hole: (parts | places)[hole[1]], rename) if rename else plain
    problem = next(
        (f"{value!r} is no label: letters, digits, dot, dash, underscore" for value in places.values() if _odd(value)),
        "",
    )
    try:
        safe_name(as_name)
    except BadInput as error:
        problem = problem or error.found
    return AssignedName(name=name, **places, as_name=as_name, problem=problem)


def _odd(label: str) -> bool:
    return not _LABEL.fullmatch(label)
