"""Fetch published weights from the Hugging Face hub, going on where an earlier attempt stopped."""

import errno
import hashlib
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from voxelight.models.errors import Conflict, Unavailable, VoxelightError
from voxelight.models.published import PublishedFile
from voxelight.models.records import (
    Fetched,
    StoredFile,
    alone,
    fetched_folder,
    find_fetched,
    hash_file,
    require_acceptance,
    storing,
    write_record,
)

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch(row: PublishedFile, folder: Path) -> Fetched:
    """Fetch a published file and check its hash.

    The hash must be the one of the table; where none is known, the one that the hub states, or the one that was
    written down when the file first came. Nothing is asked of the hub when the file is there already.

    Parameters
    ----------
    row : which
    folder : of all weights; the file goes below ``fetched/NAME``

    Returns
    -------
    where it came from, its hash and size

    Raises
    ------
    Refused
        Its licence was not agreed to.
    Unavailable
        There is no way to the hub, it does not give the file, or the transfer stopped; what came so far is kept.
    Conflict
        What came has another hash and is set aside, or another process is fetching it.
    """
    require_acceptance(folder, row)
    with alone(folder, f"fetched-{row.name}", "being fetched"):
        before = find_fetched(folder, row.name)
        if before is not None and _is_whole(fetched_folder(folder, row.name) / before.stored.file, before):
            return before
        return _fetch(row, fetched_folder(folder, row.name), before)


def _fetch(row: PublishedFile, place: Path, before: Fetched | None) -> Fetched:
    path, stated = _download(row, place)
    sha256 = hash_file(path)
    known = row.sha256 or (before.stored.sha256 if before else "") or (stated.etag or "")
    if _SHA256.fullmatch(known) and sha256 != known:
        aside = path.with_name(f"{path.name}.refused")
        path.replace(aside)
        raise Conflict(
            f"{row.file} of {row.repository} with sha256 {sha256}",
            f"sha256 {known}",
            f"It was set aside as {aside}. Fetch it again; if it is the same, ask its publishers whether it changed.",
        )
    stored = StoredFile(file=row.file, sha256=sha256, size=path.stat().st_size)
    fetched = Fetched(
        name=row.name,
        repository=row.repository,
        revision=stated.commit_hash or "",
        stored=stored,
        time=datetime.now(UTC),
    )
    write_record(place / "fetched.json", fetched)
    return fetched


def _is_whole(path: Path, fetched: Fetched) -> bool:
    return path.is_file() and path.stat().st_size == fetched.stored.size


def _download(row: PublishedFile, place: Path) -> "tuple[Path, HfFileMetadata]":
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    # The bases of its error are those of every error of the connection, whichever library makes it.
    connection = cast(tuple[type[Exception], ...], (OSError, *HfHubHTTPError.__bases__))
    endpoint = os.environ.get("HF_ENDPOINT") or None
    kind = "dataset" if row.dataset else "model"
    try:
        url = hf_hub_url(row.repository, row.file, repo_type=kind, endpoint=endpoint)
        stated = get_hf_file_metadata(url, endpoint=endpoint)
        url = hf_hub_url(row.repository, row.file, repo_type=kind, endpoint=endpoint, revision=stated.commit_hash)
        return _transfer(url, place / row.file, stated), stated
    except connection as error:
        raise _explain(row, place, error) from error


def _transfer(url: str, path: Path, stated: "HfFileMetadata") -> Path:
    """Transfer a file into one that ends in ``.part``, from where an earlier process left it.

    `hf_hub_download` starts anew after a process ended, and these files have tens of gigabytes.
    """
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._headers import build_hf_headers

    version = hashlib.sha256(str(stated.etag).encode()).hexdigest()[:12]
    part = path.with_name(f"{path.name}.{version}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    _check_room(part, stated.size or 0)
    for stale in set(part.parent.glob(f"{path.name}.*.part")) - {part}:
        stale.unlink()
    with part.open("ab") as file:
        if stated.size is not None and file.tell() > stated.size:
            file.truncate(0)
        # A compressed answer could not be taken up in its middle.
        headers = build_hf_headers() | {"Accept-Encoding": "identity"}
        http_get(url, file, resume_size=file.tell(), headers=headers, expected_size=stated.size)
    return part.replace(path)


def _check_room(part: Path, size: int) -> None:
    missing = size - (part.stat().st_size if part.exists() else 0)
    free = shutil.disk_usage(part.parent).free
    if free < missing:
        raise Unavailable(
            f"{free / 1e9:.1f} GB free at {part.parent}",
            f"{missing / 1e9:.1f} GB for {part.parent.name}",
            "Make room, or name another folder with VOXELIGHT_WEIGHTS.",
        )


def _explain(row: PublishedFile, place: Path, error: BaseException) -> VoxelightError:
    """Say what stands between a person and a file."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RemoteEntryNotFoundError

    if isinstance(error, OSError) and (error.filename or error.errno == errno.ENOSPC):
        with storing(place):
            raise error
    command = f"voxelight weights fetch {row.name}"
    wanted = f"{row.file} of {row.repository}, licence {row.licence}"
    own = f"voxelight weights convert {row.name} FILE takes a file that you have."
    if isinstance(error, OfflineModeIsEnabled):
        return Unavailable("HF_HUB_OFFLINE, which forbids the network", wanted, f"Unset it and run {command}. {own}")
    if isinstance(error, RemoteEntryNotFoundError):
        return Unavailable(f"no {row.file} in {row.page}", wanted, f"Look there for its present name. {row.note} {own}")
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if status in (401, 403):
        return Unavailable(
            f"{row.repository}, which the hub does not open to you ({status})",
            wanted,
            f"Agree to the licence on {row.page}, log in with hf auth login or set HF_TOKEN, then run {command}. {own}",
        )
    if status == 404:
        return Unavailable(f"no repository {row.repository} on the hub", wanted, f"{row.note} {own}".strip())
    came = sum(part.stat().st_size for part in place.rglob("*.part"))
    if came:
        return Unavailable(
            f"a transfer of {row.name} that stopped after {came} bytes ({type(error).__name__})",
            wanted,
            f"Run {command} again: it goes on from there.",
        )
    reason = str(status) if status else type(error).__name__
    return Unavailable(f"no way to the hub ({reason})", wanted, f"With a network, run {command}. {own}")
