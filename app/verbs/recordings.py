"""Folders of fMRI betas: looked into, registered where they lie, and compared with each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelight.app.schemas import DatasetAnswer, DatasetRequest, ScanAnswer, ScanRequest
from voxelight.app.schemas_recordings import (
    BetaReport,
    LayoutAnswer,
    RecordingIndex,
    RecordingLook,
    RecordingRequest,
    RecordingsAnswer,
)
from voxelight.app.verbs.datasets import Datasets
from voxelight.app.verbs.scans import Scans
from voxelight.models.errors import Conflict, Refused


@dataclass(frozen=True)
class _Examined:
    """What a folder is, and for each subject its reference with facts and findings, as plain data."""

    layout: str
    simulated: bool
    notes: list[str]
    subjects: list[dict[str, Any]]


class Recordings:
    """What lies on the disk of the server and is too large to be uploaded.

    Parameters
    ----------
    datasets, scans : verbs
    roots : folders below which other doors than the shell of this machine may look
    """

    def __init__(self, datasets: Datasets, scans: Scans, roots: tuple[Path, ...]) -> None:
        self._datasets, self._scans, self.roots = datasets, scans, roots
        self._checks = scans.checks

    def list_layouts(self) -> list[LayoutAnswer]:
        """Return the layouts that can be read."""
        from voxelight.storage.formats.fmri.examples.write import WRITERS
        from voxelight.storage.formats.fmri.layouts import LAYOUTS

        return [
            LayoutAnswer(
                name=name,
                title=row.title,
                files=row.files,
                reading=row.reading,
                terms=row.terms,
                example=name in WRITERS,
            )
            for name, row in LAYOUTS.items()
        ]

    def look(self, request: RecordingLook, trusted: bool = False) -> RecordingIndex:
        """Say what a folder holds; no beta is read.

        Parameters
        ----------
        request : which folder
        trusted : whether whoever asks may read any file of this machine anyway, by its shell

        Raises
        ------
        Refused
            The folder lies below none that the installation opens to its doors.
        NotFound, BadInput
            Nothing of a known layout is there, or files are missing, damaged or contradict each other.
        """
        self._refuse_elsewhere(request, trusted)
        sees, options = self._find_visible(trusted), request.options.model_dump(mode="json")
        told = self._checks.look_at(Path(request.path), request.layout, options, sees)
        return RecordingIndex.model_validate(told)

    def register(self, dataset: str, request: RecordingRequest, trusted: bool = False) -> RecordingsAnswer:
        """Register subjects of a folder in a data set: their files stay where they are.

        Of each subject a sample of trials is read, to see whether repeats agree and what the values look like.

        Raises
        ------
        Refused, NotFound, BadInput
            As `look`; or there is no such data set, subject or region.
        Conflict
            The data set is simulated and the files are not, or the other way round; or a subject is registered.
        """
        there = self._datasets.show(dataset)
        return self._store(there, self._examine(request, trusted))

    def add(self, dataset: DatasetRequest, request: RecordingRequest, trusted: bool = False) -> RecordingsAnswer:
        """Register as `register` does, in a data set that is made where it is missing, once all has been looked at.

        Whether it is simulated is told by the files.
        """
        found = self._examine(request, trusted)
        simulated = {"simulated": True, "consent": "simulated"} if found.simulated else {"simulated": False}
        told = dataset.model_copy(update=simulated)
        return self._store(self._datasets.ensure(told), found)

    def _examine(self, request: RecordingRequest, trusted: bool) -> _Examined:
        """Look at every subject before one is stored."""
        self._refuse_elsewhere(request, trusted)
        told = request.model_dump(mode="json", exclude={"path"})
        return _Examined(**self._checks.examine(Path(request.path), told, self._find_visible(trusted)))

    def _store(self, there: DatasetAnswer, found: _Examined) -> RecordingsAnswer:
        if there.simulated != found.simulated:
            told, seen = ("simulated" if each else "measured" for each in (there.simulated, found.simulated))
            raise Conflict(
                f"{seen} betas for data set {there.name}, which is {told}",
                "one kind in a data set",
                "Name another one.",
            )
        scans = [self._keep(there.name, each) for each in found.subjects]
        return RecordingsAnswer(layout=found.layout, simulated=there.simulated, scans=scans, notes=found.notes)

    def compare(self, own: RecordingLook, published: RecordingLook, subject: str | None = None) -> BetaReport:
        """Compare betas with a published set, in the first region of each.

        Raises
        ------
        NotFound, BadInput
            Something can't be read, or the sets share too few trials.
        """
        from voxelight.neuro.compare_betas import compare_betas
        from voxelight.storage.formats.fmri.layouts import open_recording

        first, second = (open_recording(Path(each.path), each.layout, each.options) for each in (own, published))
        betas = first.read(subject)
        named = {each.subject for each in second.index.subjects}
        report = compare_betas(betas, second.read(betas.subject if betas.subject in named else None))
        return BetaReport(subject=betas.subject, report=report.as_dict(), lines=report.lines())

    def _find_visible(self, trusted: bool) -> tuple[Path, ...]:
        """Return where links in a folder may lead: anywhere for who may read any file of this machine anyway."""
        return (Path("/"),) if trusted else self.roots

    def _refuse_elsewhere(self, request: RecordingLook, trusted: bool) -> None:
        path = Path(request.path).resolve()
        if not trusted and not any(path.is_relative_to(root.resolve()) for root in self.roots):
            opened = ", ".join(map(str, self.roots)) or "none"
            raise Refused(
                f"the path {request.path}",
                f"a folder below one that this installation opens: {opened}",
                "Set VOXELIGHT_DATA_ROOTS on the server, or register it from the shell of that machine.",
            )

    def _keep(self, dataset: str, found: dict[str, Any]) -> ScanAnswer:
        from voxelight.storage.formats.fmri.registered import MEDIA_TYPE, SUFFIX, Registered
        from voxelight.storage.formats.found import Finding, Intake

        reference = Registered.model_validate(found["reference"])

        intake = Intake(
            kind="recording",
            suffix=SUFFIX,
            media_type=MEDIA_TYPE,
            geometry=None,
            facts=found["facts"],
            warnings=tuple(Finding.model_validate(each) for each in found["findings"]),
        )
        subject = reference.subject
        place = ScanRequest(name=f"{subject}{SUFFIX}", dataset=dataset, subject=subject)
        return self._scans.keep_reference(reference.model_dump_json().encode(), intake, place)
