"""Paths as a person gives them: files, and folders for what they hold; taken in one by one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from voxelight.app.cli.answers import RefusedFile
from voxelight.app.cli.shell import Shell
from voxelight.app.problem import describe_problem
from voxelight.app.schemas import ScanAnswer, ScanRequest
from voxelight.models.errors import BadInput, VoxelightError

if TYPE_CHECKING:
    from voxelight.app.services import Services

VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".dcm.zip")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
SUFFIXES = (*VOLUMES, ".mat", ".tsv", *PICTURES)
FORMS = ("sform", "qform")
CONSENTS = ("none", "given", "public", "simulated")
_PAGE = 500


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Ask a command how a file is read that can be read in several ways."""
    for option in (
        click.option(
            "--volume",
            type=click.IntRange(min=1),
            help="Which volume of a DICOM series or 4-D NIfTI, or page of a TIFF, where there are several.",
        ),
        click.option(
            "--prefer", type=click.Choice(FORMS), help="Which placement of a NIfTI header holds, where its two differ."
        ),
    ):
        command = option(command)
    return command


def find_files(paths: Sequence[Path], suffixes: tuple[str, ...]) -> list[Path]:
    """Return every file that is named, and from folders those with one of the suffixes, hidden ones left out.

    Raises
    ------
    BadInput
        A path leads nowhere, or a folder holds nothing that fits.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise BadInput(f"no file or folder {path}", "a path that is there", "Check the path.")
        found += _search(path, suffixes) if path.is_dir() else [path]
    return list(dict.fromkeys(found))


def take_in(
    shell: Shell, paths: Sequence[Path], ingest_one: Callable[[Path], ScanAnswer]
) -> tuple[list[ScanAnswer], list[RefusedFile]]:
    """Store files one by one; one that is refused is reported and does not stop the others."""
    scans, refused = [], []
    with shell.progress() as progress:
        for path in progress.track(paths, description="Taking in"):
            try:
                scans.append(ingest_one(path))
            except VoxelightError as error:
                shell.note(f"Refused {path}: {error}")
                refused.append(RefusedFile(path=path, problem=describe_problem(error)))
    return scans, refused


def keep_once(services: "Services", paths: Sequence[Path], request: ScanRequest) -> list[ScanAnswer]:
    """Store files of one subject, but for those that the subject has already under the same name.

    Parameters
    ----------
    services : where to store
    paths : files
    request : data set, subject and session; the name is that of each file
    """
    from voxelight.storage.artifacts import hash_file
    from voxelight.storage.formats.names import find_stored_name

    there: dict[tuple[str, str], ScanAnswer] = {}
    cursor = None
    while True:
        page = services.scans.list(request.dataset, request.subject, cursor=cursor, limit=_PAGE)
        # What was cleaned on its way in is known by the hash that it came with.
        there |= {
            (scan.name, str(scan.facts.get("source_sha256", scan.sha256))): scan
            for scan in page.items
            if scan.facts.get("volume") in (None, request.volume)
            and scan.facts.get("preferred_form") in (None, request.prefer)
        }
        if (cursor := page.next_cursor) is None:
            break
    return [
        there.get((find_stored_name(path.name), hash_file(path)))
        or services.scans.ingest_path(path, request.model_copy(update={"name": path.name}))
        for path in paths
    ]


def _search(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    inside = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.name.lower().endswith(suffixes)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not inside:
        raise BadInput(
            f"a folder {folder} without a file that fits",
            f"files named {', '.join(f'*{suffix}' for suffix in suffixes)}",
            "Check the folder.",
        )
    return inside
