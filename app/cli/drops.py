"""Files and folders to take in: what is in them, and what belongs together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxelight.app.schemas_uploads import AssignedName
from voxelight.models.errors import BadInput


@dataclass(frozen=True)
class Found:
    """A file, and its name as a pattern sees it: below a folder with the path within it."""

    path: Path
    name: str


def find_drop(paths: Sequence[Path]) -> list[Found]:
    """Return every file that is named, and from folders what may be a scan, hidden files left out.

    Raises
    ------
    BadInput
        A path leads nowhere, or a folder holds nothing that fits.
    """
    found: dict[Path, Found] = {}
    for path in paths:
        if not path.exists():
            raise BadInput(f"no file or folder {path}", "a path that is there", "Check the path.")
        inside = list(_search(path)) if path.is_dir() else [Found(path, path.name)]
        if not inside:
            raise BadInput(
                f"a folder {path} without a file that fits",
                "NIfTI, NRRD, MetaImage, DICOM, ZIP, .mat, .tsv, PNG, JPEG or TIFF files",
                "Check the folder.",
            )
        found.update({each.path: each for each in inside})
    return list(found.values())


def group(found: Sequence[Found], rows: Sequence[AssignedName]) -> list[list[tuple[Found, AssignedName]]]:
    """Put loose files of one place together, and every other file by itself; what has a problem is left out."""
    from voxelight.app.verbs.drops import ARCHIVE, stands_alone

    groups: dict[tuple[str, ...], list[tuple[Found, AssignedName]]] = {}
    for each, row in zip(found, rows, strict=True):
        if row.problem:
            continue
        alone = stands_alone(row.as_name) or row.as_name.lower().endswith(ARCHIVE)
        key = (str(each.path),) if alone else (row.subject, row.session)
        groups.setdefault(key, []).append((each, row))
    return list(groups.values())


def _search(folder: Path) -> Iterator[Found]:
    """Yield what may be a scan by its name, or is DICOM by its content."""
    from voxelight.app.verbs.drops import ARCHIVE, PAIR, stands_alone
    from voxelight.storage.formats.sniff import sniff

    for path in sorted(folder.rglob("*")):
        within = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in within.parts) or path.name == "DICOMDIR":
            continue
        named = stands_alone(path.name) or path.suffix.lower() in (ARCHIVE, *PAIR)
        if named or (path.stat().st_size and sniff(path) == "dicom"):
            yield Found(path, within.as_posix())
