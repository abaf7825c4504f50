"""Results as they are stored, by person and session: label maps and maps as NIfTI, pictures as PNG."""

from collections.abc import Iterator

from voxelight.app.exports.entries import Contents, Entry, Member, folder_of, path_part, short
from voxelight.app.schemas import JobAnswer


class NiftiFormat:
    """Label maps with corrections and sidecars, and maps of a job."""

    _ROLES = ("label_map", "correction", "sidecar")
    _JOB_ROLES = ("relevance_map", "relevance_facts")
    _ROOT = "nifti"

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    def add(self, entry: Entry) -> Iterator[Member]:
        """Give the files of one result."""
        for role in self._ROLES:
            for file in entry.find(role):
                path = f"{self._ROOT}/{folder_of(entry.result)}/{path_part(file.name)}"
                yield Member(path, self._contents.stream(file))

    def add_job(self, job: JobAnswer) -> Iterator[Member]:
        """Give the files that belong to a job as a whole."""
        for file in job.artifacts:
            if file.role in self._JOB_ROLES:
                folder = f"{self._ROOT}/{path_part(job.dataset)}/{path_part(job.recipe)}-{short(job.id)}"
                yield Member(f"{folder}/{path_part(file.name)}", self._contents.stream(file))

    def finish(self) -> Iterator[Member]:
        """Nothing is left."""
        yield from ()
