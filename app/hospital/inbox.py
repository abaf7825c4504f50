"""Series that came from elsewhere, on this disk until they are taken in: what is killed in between is done again.

A series is a folder below `series/`. Taken in, it goes; refused, it lies below `refused/` with the reason for a week.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from voxelight.app.hospital.persons import Persons
from voxelight.app.hospital.pseudonyms import TAGS
from voxelight.app.hospital.sending import Outbox, Peer
from voxelight.app.schemas import JobRequest, ScanAnswer
from voxelight.app.schemas_uploads import DropAnswer, Place
from voxelight.app.services import Services
from voxelight.app.verbs.drops import Dropped
from voxelight.models.errors import Conflict, NotFound, VoxelightError
from voxelight.storage.formats.streams import replacing

BEGUN, REASON = "begun.json", "reason.json"
KEPT_S = 7 * 86_400.0


@dataclass(frozen=True)
class Wishes:
    """What becomes of a series.

    Parameters
    ----------
    dataset : that it goes to
    subject : its label; empty: a pseudonym of the patient's number
    recipe : of a job of segmentation on it; empty: none
    send_to : where the label maps of that job go, with the identity of the study
    """

    dataset: str
    subject: str = ""
    recipe: str = ""
    send_to: Peer | None = None


class Inbox:
    """Series on their way in.

    Parameters
    ----------
    services : the installation
    folder : of this inbox alone
    wishes : what becomes of them
    tell : is told what happens, in words that name nobody
    """

    def __init__(self, services: Services, folder: Path, wishes: Wishes, tell: Callable[[str], None]) -> None:
        self._services, self._wishes, self._tell = services, wishes, tell
        self._persons = Persons(services)
        self.series, self._refused = folder / "series", folder / "refused"
        self._outbox = Outbox(services, folder / "sending", self._refused, tell)
        for each in (self.series, self._refused):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)

    def place(self, study_uid: str, series_uid: str) -> Path:
        """Return the folder of a series, made where it is missing; its name says nothing of it."""
        folder = self.series / hash_name(f"{study_uid}/{series_uid}")
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder

    def step(self, quiet_s: float) -> int:
        """Take in what has been quiet for so long, send what is due, and return how many series were handled."""
        due = [folder for folder in sorted(self.series.iterdir()) if _is_quiet(folder, quiet_s)]
        for folder in due:
            self.handle(folder)
        self._outbox.step()
        forget_old(self._refused)
        return len(due)

    def handle(self, folder: Path) -> list[ScanAnswer]:
        """Take in one series, or move it aside with the reason; ask for its job and for what is to be sent."""
        with _working(folder) as work:
            files = sorted(work.glob("*.dcm"))
            if not files:
                shutil.rmtree(work)
                return []
            again, header = (work / BEGUN).is_file(), self._read_headers(files[:1])[0]
            with replacing(work / BEGUN) as file:
                file.write(b"{}")
            try:
                place = self._find_place(header)
                outcome = self._services.drops.take_in([Dropped(path, path.name) for path in files], place)
                scans = list(outcome.scans) or self._find_stored(outcome, place, header, files)
            except VoxelightError as error:
                return self._refuse(work, str(error))
            if not scans:
                return self._refuse(work, "; ".join(part.problem.detail for part in outcome.problems))
            if outcome.scans or again:
                self._go_on(work, scans)
            else:
                self._tell(f"{len(files)} instances that were here already")
            shutil.rmtree(work)
        return scans

    def _read_headers(self, files: Sequence[Path]) -> list[dict[str, str]]:
        found = self._services.stores.checks.read_values(files, TAGS)
        if None in found:
            raise NotFound("a file that is no DICOM", "an instance as it came", "Send it again.")
        return [each for each in found if each]

    def _find_place(self, header: dict[str, str]) -> Place:
        named = self._persons.name_person(header["IssuerOfPatientID"], header["PatientID"])
        visit = self._persons.name_visit(header["StudyInstanceUID"])
        return Place(dataset=self._wishes.dataset, subject=self._wishes.subject or named, session=visit)

    def _find_stored(
        self, outcome: DropAnswer, place: Place, header: dict[str, str], files: list[Path]
    ) -> list[ScanAnswer]:
        """Return the scans of a series that is stored already, if all that came is part of it.

        Raises
        ------
        Conflict
            Instances came after their series was taken in.
        """
        stored = self._persons.find_series(place.dataset, place.subject, header["SeriesInstanceUID"])
        if not stored:
            return []
        sops = [each["SOPInstanceUID"] for each in self._read_headers(files)]
        late = self._persons.count_unknown(place.dataset, header["SeriesInstanceUID"], sops)
        if late:
            raise Conflict(
                f"{late} instances of a series that was taken in before they came",
                "all instances of a series within the time that it has to be quiet",
                "Delete the scan, make that time longer, and send the series again.",
            )
        return stored

    def _go_on(self, work: Path, scans: list[ScanAnswer]) -> None:
        held = [scan for scan in scans if scan.held]
        self._tell(f"{len(scans)} scans of subject {scans[0].subject}" + (f", {len(held)} held" if held else ""))
        free = [scan.id for scan in scans if not scan.held]
        if not self._wishes.recipe or not free:
            return
        request = JobRequest(kind="segment", recipe=self._wishes.recipe, dataset=self._wishes.dataset, scans=free)
        key = f"inbox/{work.name.partition('.')[0]}/{self._wishes.recipe}/{free[0]}"
        try:
            job = self._services.jobs.submit(request, key)
        except VoxelightError as error:
            self._tell(f"no job on them: {error}")
            return
        self._tell(f"job {job.id} on {len(free)} scans")
        if self._wishes.send_to:
            self._outbox.add(job.id, self._wishes.send_to)

    def _refuse(self, work: Path, reason: str) -> list[ScanAnswer]:
        with replacing(work / REASON) as file:
            file.write(json.dumps({"reason": reason}).encode())
        (work / BEGUN).unlink(missing_ok=True)
        target = self._refused / f"{work.name.partition('.')[0]}-{uuid.uuid4().hex[:8]}"
        work.replace(target)
        self._tell(f"refused, and kept for a week in {target}: {reason}")
        return []


def hash_name(text: str) -> str:
    """Return a name for a file that says nothing of what it is made of."""
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole, and on the disk, once this returns: its name too."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    for folder in (path.parent, path.parent.parent):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextmanager
def only_one(folder: Path, what: str) -> Iterator[None]:
    """Let one process at a time work on a folder.

    Raises
    ------
    Conflict
        Another does.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"another process that {what}", "one at a time", "Stop the other one.") from None
        yield


def forget_old(folder: Path, kept_s: float = KEPT_S) -> None:
    """Remove what was refused longer ago than it is kept; it names patients."""
    for path in folder.iterdir():
        if time.time() - path.stat().st_mtime > kept_s:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def _working(folder: Path) -> Iterator[Path]:
    """Give a series under another name, so that what comes meanwhile begins a folder of its own."""
    work = (
        folder if folder.name.endswith(".taking") else folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.taking")
    )
    if work != folder:
        folder.replace(work)
    yield work


def _is_quiet(folder: Path, quiet_s: float) -> bool:
    if folder.name.endswith(".taking"):  # a process was killed over it
        return True
    newest = max((path.stat().st_mtime for path in (folder, *folder.iterdir())), default=0.0)
    return time.time() - newest >= quiet_s
