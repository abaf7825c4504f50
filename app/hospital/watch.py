"""A folder that is watched: what is whole in it is taken in, once, and moved aside; nothing of it is ever deleted.

It is looked at from time to time, so it may lie on a share that tells nobody of changes.
"""

import json
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxelight.app.hospital.inbox import hash_name
from voxelight.app.hospital.persons import Persons
from voxelight.app.schemas import JobRequest, ScanAnswer
from voxelight.app.schemas_uploads import Place
from voxelight.app.services import Services
from voxelight.app.verbs.answers import answer_scan
from voxelight.app.verbs.drops import Dropped
from voxelight.models.errors import BadInput, VoxelightError
from voxelight.storage.artifacts import hash_file
from voxelight.storage.formats.streams import replacing
from voxelight.storage.queries import find_dataset, select_scans
from voxelight.storage.sandbox import Stopped
from voxelight.storage.schema import ImagingSession

DONE, REFUSED, STATE = "done", "refused", ".voxelight"
_UNFINISHED = (".part", ".tmp", ".partial", ".crdownload", ".filepart", "~")


@dataclass(frozen=True)
class Watched:
    """What is done with what appears.

    Parameters
    ----------
    folder : that is watched
    dataset : where it goes
    subject, session : whose it is; empty subject: the name of the folder that it lies in, else ``01``
    recipe : of a job of segmentation on it; empty: none
    settle_s : how long a size and a time must not change, seconds
    """

    folder: Path
    dataset: str
    subject: str = ""
    session: str = "01"
    recipe: str = ""
    settle_s: float = 5.0


class Watch:
    """One watched folder. Each file or folder at its top is taken in as a whole.

    Parameters
    ----------
    services : the installation
    watched : what, and where to
    tell : is told what happens
    """

    def __init__(self, services: Services, watched: Watched, tell: Callable[[str], None]) -> None:
        if not watched.folder.is_dir():
            raise BadInput(f"no folder {watched.folder}", "a folder", "Make it, or correct the path.")
        self._services, self._watched, self._tell = services, watched, tell
        self._persons = Persons(services)
        self._seen: dict[str, tuple[tuple[tuple[str, int, int], ...], float]] = {}
        for name in (DONE, REFUSED, STATE):
            (watched.folder / name).mkdir(exist_ok=True)

    def step(self) -> int:
        """Take in what is whole, and return how many files or folders were handled."""
        due = [entry for entry in self._list() if self._is_whole(entry)]
        for entry in due:
            self.handle(entry)
            self._seen.pop(entry.name, None)
        return len(due)

    def handle(self, entry: Path) -> list[ScanAnswer]:
        """Take in one file or folder and move it to `done` or `refused`, with a file that says what became of it.

        Killed in between, it is taken up again: what is stored by then, byte for byte, counts as taken in.
        """
        files = _files_of(entry)
        subject = self._watched.subject or (_label(entry.name) if entry.is_dir() else "01")
        place = Place(dataset=self._watched.dataset, subject=subject, session=self._watched.session)
        reasons: list[str] = []
        scans: list[ScanAnswer] = []
        try:
            outcome = self._services.drops.take_in([Dropped(path, path.name) for path in files], place)
            scans = list(outcome.scans)
            there = self._find_stored(files, place) if outcome.problems else []
            known = {scan.id for scan in scans}
            scans += [scan for scan in there if scan.id not in known]
            if not there:
                reasons = [part.problem.detail for part in outcome.problems]
        except VoxelightError as error:
            reasons = [str(error)]
        job = self._submit(entry, scans) if scans else ""
        told = {"scans": [str(scan.id) for scan in scans], "held": sum(bool(scan.held) for scan in scans),
                "job": job, "refused": reasons}  # fmt: skip
        self._move(entry, DONE if scans and not reasons else REFUSED, told)
        self._tell(f"{entry.name}: {len(scans)} scans{'' if not reasons else '; refused: ' + '; '.join(reasons)}")
        return scans

    def _list(self) -> list[Path]:
        return [entry for entry in sorted(self._watched.folder.iterdir())
                if not entry.name.startswith(".") and entry.name not in (DONE, REFUSED)
                and not entry.name.endswith(_UNFINISHED)]  # fmt: skip

    def _is_whole(self, entry: Path) -> bool:
        """Return whether nothing of it has changed for a while, by its names, sizes and times."""
        try:
            files = _files_of(entry)
            look = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
        except FileNotFoundError:  # renamed meanwhile
            return False
        now = time.monotonic()
        before = self._seen.get(entry.name)
        if before is None or before[0] != look:
            self._seen[entry.name] = (look, now)
            return False
        unfinished = any(path.name.endswith(_UNFINISHED) for path in files)
        return bool(files) and not unfinished and now - before[1] >= self._watched.settle_s

    def _find_stored(self, files: Sequence[Path], place: Place) -> list[ScanAnswer]:
        """Return the scans that files are already, all of them, byte for byte or as instances; else none."""
        with self._services.stores.sessions() as session:
            dataset = find_dataset(session, place.dataset)
            rows = session.scalars(
                select_scans(dataset.id, subject=place.subject).where(ImagingSession.label == place.session)
            )
            by_hash = {str(hashed): answer_scan(scan) for scan in rows
                       for hashed in (scan.blob_sha256, scan.facts.get("source_sha256", ""))}  # fmt: skip
        found = [by_hash.get(hash_file(path)) for path in files]
        if all(found):
            return [scan for scan in found if scan]
        return self._find_instances(files, place)

    def _find_instances(self, files: Sequence[Path], place: Place) -> list[ScanAnswer]:
        series: dict[str, list[str]] = {}
        try:
            headers = self._services.stores.checks.read_values(files, ("SeriesInstanceUID", "SOPInstanceUID"))
        except Stopped:
            return []
        for header in headers:
            if header is None or not all(header.values()):
                return []
            series.setdefault(header["SeriesInstanceUID"], []).append(header["SOPInstanceUID"])
        found: list[ScanAnswer] = []
        for uid, instances in series.items():
            stored = self._persons.find_series(place.dataset, place.subject, uid)
            if not stored or self._persons.count_unknown(place.dataset, uid, instances):
                return []
            found += stored
        return found

    def _submit(self, entry: Path, scans: Sequence[ScanAnswer]) -> str:
        free = [scan.id for scan in scans if not scan.held and scan.kind in ("volume", "picture")]
        if not self._watched.recipe or not free:
            return ""
        request = JobRequest(kind="segment", recipe=self._watched.recipe, dataset=self._watched.dataset, scans=free)
        try:
            job = self._services.jobs.submit(request, f"watch/{hash_name(f'{self._watched.recipe}/{free[0]}')}")
        except VoxelightError as error:
            self._tell(f"no job on {entry.name}: {error}")
            return ""
        return str(job.id)

    def _move(self, entry: Path, where: str, told: dict[str, object]) -> None:
        """Move it aside; the note comes first, so that what lies there is never without."""
        target = self._watched.folder / where / entry.name
        if target.exists():
            target = target.with_name(f"{uuid.uuid4().hex[:8]}-{entry.name}")
        with replacing(target.with_name(f"{target.name}.json")) as file:
            file.write(json.dumps(told, indent=2).encode())
        entry.rename(target)


def _files_of(entry: Path) -> list[Path]:
    if entry.is_dir():
        return [path for path in sorted(entry.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return [entry]


def _label(name: str) -> str:
    """Return the name of a folder as a label: ``sub-01`` as ``01``; what no label may hold becomes ``-``."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name.removeprefix("sub-")).lstrip("-._")[:120] or "01"
