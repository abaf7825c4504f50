"""Label maps as DICOM-SEG and RTSTRUCT on the series that they were drawn on; of other scans none can be made."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from voxelight.app.exports.entries import Contents, Entry, Member, Problems, folder_of, list_maps, read_map
from voxelight.app.schemas import ArtifactAnswer, JobAnswer
from voxelight.models.errors import BadInput
from voxelight.models.values import LabelMap

if TYPE_CHECKING:
    from voxelight.storage.formats.dicom.segmentation import SegmentedBy

SUFFIX = ".dcm.zip"
_NOT_DICOM = "The scan did not come as a DICOM series, or was converted from one: there is none to refer to."


class DicomSegFormat:
    """One DICOM-SEG a label map, and one a correction."""

    root = "dicom-seg"

    def __init__(self, contents: Contents, problems: Problems) -> None:
        self._contents = contents
        self._problems = problems

    def add(self, entry: Entry) -> Iterator[Member]:
        """Give the label maps of one result."""
        result = entry.result
        if result.kind != "segment":
            return
        if not result.scan.endswith(SUFFIX):
            self._problems.note(f"{self.root}: {result.item}", _NOT_DICOM)
            return
        for file, name, author in list_maps(entry):
            try:
                content = self._encode(entry, file, author)
            except BadInput as error:
                self._problems.note(f"{self.root}: {result.item}, {name}", error)
                continue
            yield Member(f"{self.root}/{folder_of(result)}/{name}.dcm", [content])

    def add_job(self, job: JobAnswer) -> Iterator[Member]:
        """Nothing belongs to a job as a whole."""
        yield from ()

    def finish(self) -> Iterator[Member]:
        """Nothing is left."""
        yield from ()

    def _encode(self, entry: Entry, file: ArtifactAnswer, author: str) -> bytes:
        from voxelight.storage.formats.dicom.segmentation import SegmentedBy

        result = entry.result
        by = SegmentedBy(author or result.model, "1" if author else entry.terms.model_version, manual=bool(author))
        with self._contents.open_file(entry.scan_sha256, result.scan) as series:
            return self._write(read_map(self._contents, entry, file), series, by)

    def _write(self, label_map: LabelMap, series: Path, by: "SegmentedBy") -> bytes:
        from voxelight.storage.formats.dicom.segmentation import write_dicom_seg

        return write_dicom_seg(label_map, series, by)


class RtStructFormat(DicomSegFormat):
    """One RTSTRUCT a label map, and one a correction."""

    root = "rtstruct"

    def _write(self, label_map: LabelMap, series: Path, by: "SegmentedBy") -> bytes:
        from voxelight.storage.formats.dicom.structures import write_rtstruct

        return write_rtstruct(label_map, series, by)
