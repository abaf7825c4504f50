"""Take in what was dropped together: images, tables, pictures, loose DICOM files and archives of all these."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from voxelight.app.problem import describe_problem
from voxelight.app.schemas import ScanAnswer, ScanRequest
from voxelight.app.schemas_uploads import DropAnswer, Place, RefusedPart
from voxelight.app.verbs.scans import Scans
from voxelight.models.errors import BadInput, VoxelightError
from voxelight.storage.sandbox import Stopped

SINGLE = (".nii", ".nii.gz", ".nrrd", ".mha", ".mat", ".tsv", "bold.json", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
PAIR = (".mhd", ".raw", ".zraw")
ARCHIVE = ".zip"
_DICOM = (".dcm", ".ima", ".dicom", "")
_LISTED = 5
_AT_ONCE, _AT_ONCE_BYTES = 64, 512 << 20  # members of an archive, unpacked
_STAND_IN = re.compile(r"file-\d{6}\b(\.[a-z0-9]+)?")


@dataclass(frozen=True)
class Dropped:
    """A file on this machine, and what the person calls it."""

    path: Path
    name: str


def stands_alone(name: str) -> bool:
    """Whether a file is a scan by itself, by its name; others may be parts of a series."""
    return name.lower().endswith(SINGLE)


def refuse_name(name: str) -> None:
    """Refuse what can't be a scan, by its name, before its bytes are sent.

    Raises
    ------
    BadInput
        It is neither a scan by itself, nor an archive, nor named as DICOM files are.
    """
    suffix = Path(name).suffix.lower()
    if not (stands_alone(name) or suffix in (ARCHIVE, *PAIR) or suffix in _DICOM or suffix[1:].isdecimal()):
        raise BadInput(
            f"{name[:120]!r}, by its name no scan",
            f"DICOM files, {ARCHIVE}, or files named {', '.join(SINGLE)}",
            "Convert it to one of these; renaming is not enough.",
        )


class Drops:
    """Files that came together.

    Parameters
    ----------
    scans : which takes in one file or one series
    work : folder for what is unpacked, emptied again
    limit_bytes : of what an archive may unpack to
    """

    def __init__(self, scans: Scans, work: Path, limit_bytes: int) -> None:
        self._scans = scans
        self._checks = scans.checks
        self._work = work
        self._limit_bytes = limit_bytes

    def take_in(self, files: Sequence[Dropped], place: Place) -> DropAnswer:
        """Store what is in some files: each image, table and picture as a scan, DICOM files as one scan a series.

        What is refused stops nothing else.
        """
        outcome = _Outcome([], [])
        loose: list[Dropped] = []
        archives: list[Dropped] = []
        for file in files:
            if stands_alone(file.name):
                outcome.add(file.name, self._take_one, file, place)
            else:
                (archives if file.name.lower().endswith(ARCHIVE) else loose).append(file)
        for archive in archives:
            outcome.add(archive.name, self._take_archive, archive, place, outcome)
        loose = self._take_pairs(loose, place, outcome)
        if loose:
            self._take_series(loose, place, outcome)
        return DropAnswer(scans=outcome.scans, problems=outcome.problems)

    def _take_one(self, file: Dropped, place: Place) -> list[ScanAnswer]:
        return [self._scans.ingest_path(file.path, _name(file.name, place))]

    def _take_pairs(self, files: Sequence[Dropped], place: Place, outcome: "_Outcome") -> list[Dropped]:
        """Take in MetaImage headers together with the voxels that they lead to; return the other files."""
        left = list(files)
        for header in [file for file in files if file.name.lower().endswith(PAIR[0])]:
            try:
                named = self._checks.find_raw(header.path, header.name)
            except Stopped:
                continue  # refused with what is left
            raw = next((file for file in left if file.name == named), None)
            if raw is None:
                continue
            left = [file for file in left if file not in (header, raw)]
            outcome.add(header.name, self._take_pair, header, raw, place)
        return left

    def _take_pair(self, header: Dropped, raw: Dropped, place: Place) -> list[ScanAnswer]:
        with self._checks.joined(header.path, raw.path, raw.name) as path:
            return self._take_one(Dropped(path, f"{header.name[: -len(PAIR[0])]}.mha"), place)

    def _take_archive(self, archive: Dropped, place: Place, outcome: "_Outcome") -> list[ScanAnswer]:
        """Take in the members that stand alone one by one, and those of series together."""
        found = self._checks.list_archive(archive.path, archive.name, self._limit_bytes, SINGLE, _DICOM)
        for part in _in_parts(found["alone"]):
            numbers = [number for number, _, _ in part]
            with self._checks.unpacked(archive.path, archive.name, self._limit_bytes, numbers) as paths:
                for path, (_, name, _) in zip(paths, part, strict=True):
                    outcome.add(name, self._take_one, Dropped(path, name), place)
        if found["others"] or not (found["alone"] or found["dicom"]):
            outcome.refuse(archive.name, _no_scans(found["others"]))
        if not found["dicom"]:
            return []
        with self._standing_in([archive], outcome) as paths:
            return self._ingest_series(paths, _name(archive.name, place), outcome)

    def _take_series(self, files: Sequence[Dropped], place: Place, outcome: "_Outcome") -> None:
        """Take in loose DICOM files; what is none is refused under its own name."""
        slices = []
        for file, error in zip(files, self._sort_loose(files) if files else [], strict=True):
            if error is None:
                slices.append(file)
            else:
                outcome.refuse(file.name, error)
        if slices:
            title = slices[0].name if len(slices) == 1 else f"{len(slices)} DICOM files"
            with self._standing_in(slices, outcome) as paths:
                outcome.add(title, self._ingest_series, paths, _name(slices[0].name, place), outcome)

    def _ingest_series(self, paths: list[Path], request: ScanRequest, outcome: "_Outcome") -> list[ScanAnswer]:
        scans, problems = self._scans.ingest_series(paths, request)
        for name, problem in problems:
            outcome.refuse(name, problem)
        return list(scans)

    def _sort_loose(self, files: Sequence[Dropped]) -> list[VoxelightError | None]:
        """Say of each file why it is no DICOM file; one at which the reader breaks down costs no other."""
        try:
            said = self._checks.sort_loose([(file.path, file.name) for file in files], _DICOM)
        except Stopped as error:
            return [error] if len(files) == 1 else [self._sort_loose([file])[0] for file in files]
        return [
            _no_scan(file.name) if error and not error.found else error for file, error in zip(files, said, strict=True)
        ]

    @contextmanager
    def _standing_in(self, files: Sequence[Dropped], outcome: "_Outcome") -> Iterator[list[Path]]:
        """Give files under names that name nobody, even if this process is killed; refusals say the true ones."""
        self._work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._work) as folder:
            paths = []
            for number, file in enumerate(files):
                suffix = Path(file.name).suffix.lower()
                path = Path(folder, f"file-{number:06}{suffix if suffix in (*_DICOM, ARCHIVE) else ''}")
                path.symlink_to(file.path.resolve())
                paths.append(path)
                outcome.true_names[path.name] = file.name
            yield paths


@dataclass(frozen=True)
class _Outcome:
    scans: list[ScanAnswer]
    problems: list[RefusedPart]
    true_names: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, verb: object, *args: object) -> None:
        """Note what a verb gives, or why it refuses."""
        assert callable(verb)
        try:
            self.scans.extend(verb(*args))
        except VoxelightError as error:
            self.refuse(name, error)

    def refuse(self, name: str, error: VoxelightError) -> None:
        problem = describe_problem(error)
        said = {field: self._name_truly(getattr(problem, field)) for field in ("detail", "found", "expected", "remedy")}
        self.problems.append(RefusedPart(name=name, problem=problem.model_copy(update=said)))

    def _name_truly(self, text: str) -> str:
        return _STAND_IN.sub(lambda found: self.true_names.get(found[0], found[0]), text)


def _name(name: str, place: Place) -> ScanRequest:
    return ScanRequest(name=name, **place.model_dump())


def _in_parts(members: Sequence[tuple[int, str, int]]) -> Iterator[list[tuple[int, str, int]]]:
    """Yield members by as many as may lie unpacked on the disk at once."""
    part: list[tuple[int, str, int]] = []
    for member in members:
        if part and (len(part) == _AT_ONCE or sum(size for _, _, size in (*part, member)) > _AT_ONCE_BYTES):
            yield part
            part = []
        part.append(member)
    if part:
        yield part


def _no_scans(names: Sequence[str]) -> BadInput:
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    return BadInput(
        f"what is no scan: {listed}" if names else "an archive without a file",
        f"DICOM files, or files named {', '.join(SINGLE)}",
        "Nothing of them is kept; convert what you need.",
    )


def _no_scan(name: str) -> BadInput:
    return BadInput(f"{name}, which is no scan", f"a file named {', '.join(SINGLE)}", "Rename or convert it.")
