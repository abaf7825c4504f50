"""Label maps as DICOM-SEG on the series that they were drawn on; of other scans none can be made."""

from collections.abc import Iterator

from voxelight.app.exports.entries import Contents, Entry, Member, Problems, folder_of
from voxelight.app.schemas import ArtifactAnswer, JobAnswer
from voxelight.models.errors import BadInput

SUFFIX = ".dcm.zip"
_ROOT = "dicom-seg"
_NOT_DICOM = "The scan did not come as a DICOM series, so there is none to refer to."


class DicomSegFormat:
    """One DICOM-SEG a label map, and one a correction."""

    def __init__(self, contents: Contents, problems: Problems) -> None:
        self._contents = contents
        self._problems = problems

    def add(self, entry: Entry) -> Iterator[Member]:
        """Give the label maps of one result."""
        result = entry.result
        if result.kind != "segment":
            return
        if not result.scan.endswith(SUFFIX):
            self._problems.note(f"{_ROOT}: {result.item}", _NOT_DICOM)
            return
        drawn = [(file, "segmentation", "") for file in entry.find("label_map")]
        drawn += [
            (each.artifact, f"correction-{number:02d}", each.author) for number, each in enumerate(entry.corrections, 1)
        ]
        for file, name, author in drawn:
            try:
                content = self._encode(entry, file, author)
            except BadInput as error:
                self._problems.note(f"{_ROOT}: {result.item}, {name}", error)
                continue
            yield Member(f"{_ROOT}/{folder_of(result)}/{name}.dcm", [content])

    def add_job(self, job: JobAnswer) -> Iterator[Member]:
        """Nothing belongs to a job as a whole."""
        yield from ()

    def finish(self) -> Iterator[Member]:
        """Nothing is left."""
        yield from ()

    def _encode(self, entry: Entry, file: ArtifactAnswer, author: str) -> bytes:
        from voxelight.storage.formats.dicom.segmentation import SegmentedBy, write_dicom_seg
        from voxelight.storage.formats.nifti import read_label_map

        result = entry.result
        by = SegmentedBy(author or result.model, "1" if author else entry.terms.model_version, manual=bool(author))
        names = {int(number): name for number, name in result.labels.items()}
        with (
            self._contents.open_file(file.sha256, file.name) as labels,
            self._contents.open_file(entry.scan_sha256, result.scan) as series,
        ):
            return write_dicom_seg(read_label_map(labels, names), series, by)
