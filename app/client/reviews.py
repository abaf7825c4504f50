"""Reviews: cases with their contact sheets, verdicts, whether two reviewers agree, the numbers of a job."""

import uuid
from collections.abc import Iterator

from voxelight.app.client.connection import Connection, path_of, read_params
from voxelight.app.client.tagged import tag_version
from voxelight.app.schemas_reviews import (
    AgreementAnswer,
    CaseAnswer,
    Convention,
    GroupAnswer,
    ProgressAnswer,
    ReviewAnswer,
    ReviewerAnswer,
    ReviewRequest,
    VerdictFilter,
)


class Reviews:
    """What people think of results.

    Parameters
    ----------
    connection : to the server
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list_cases(
        self, job_id: uuid.UUID, reviewer: str | None = None, verdict: VerdictFilter | None = None
    ) -> Iterator[CaseAnswer]:
        """Go through the results of a job as they are reviewed; views of others show once the own one is saved."""
        params = read_params(reviewer=reviewer, verdict=verdict)
        return self._connection.iterate(CaseAnswer, path_of("jobs", job_id, "cases"), params)

    def show_case(self, run_id: uuid.UUID, reviewer: str | None = None) -> CaseAnswer:
        """Return one result as it is reviewed."""
        path = path_of("results", run_id, "case")
        return self._connection.ask(CaseAnswer, "GET", path, params=read_params(reviewer=reviewer))

    def draw_sheet(self, run_id: uuid.UUID, convention: Convention = "neurological") -> bytes:
        """Return the contact sheet of a result, as PNG."""
        params = {"convention": convention}
        return self._connection.send("GET", path_of("results", run_id, "sheet"), params=params).content

    def show(self, run_id: uuid.UUID, reviewer: str) -> ReviewAnswer:
        """Return what one reviewer thinks of a result."""
        return self._connection.ask(ReviewAnswer, "GET", path_of("results", run_id, "reviews", reviewer))

    def save(self, run_id: uuid.UUID, reviewer: str, review: ReviewRequest, version: int | None = None) -> ReviewAnswer:
        """Save what a reviewer thinks, in place of what that reviewer thought before.

        Raises
        ------
        ChangedMeanwhile
            It has another version by now.
        """
        path, headers = path_of("results", run_id, "reviews", reviewer), {"If-Match": tag_version(version)}
        return self._connection.ask(ReviewAnswer, "PUT", path, document=review, headers=headers)

    def withdraw(self, run_id: uuid.UUID, reviewer: str, version: int | None = None) -> None:
        """Take a reviewer's view back, as if it had never been saved."""
        headers = {"If-Match": tag_version(version)}
        self._connection.send("DELETE", path_of("results", run_id, "reviews", reviewer), headers=headers)

    def find_progress(self, job_id: uuid.UUID, reviewer: str) -> ProgressAnswer:
        """Return how far a reviewer is with a job."""
        path = path_of("jobs", job_id, "progress")
        return self._connection.ask(ProgressAnswer, "GET", path, params={"reviewer": reviewer})

    def list_reviewers(self, job_id: uuid.UUID) -> Iterator[ReviewerAnswer]:
        """Go through who has reviewed results of a job, and how many."""
        return iter(self._connection.ask_page(ReviewerAnswer, path_of("jobs", job_id, "reviewers")).items)

    def agree(self, job_id: uuid.UUID, first: str, second: str) -> AgreementAnswer:
        """Compare two reviewers: Cohen's kappa of their verdicts, Dice of their corrections."""
        params = {"first": first, "second": second}
        return self._connection.ask(AgreementAnswer, "GET", path_of("jobs", job_id, "agreement"), params=params)

    def show_group(self, job_id: uuid.UUID) -> GroupAnswer:
        """Return the numbers of all cases of a job side by side, outliers marked."""
        return self._connection.ask(GroupAnswer, "GET", path_of("jobs", job_id, "group"))

    def read_group_page(self, job_id: uuid.UUID) -> str:
        """Return the same as one page that asks nobody for anything, as HTML."""
        return self._connection.send("GET", path_of("jobs", job_id, "group.html")).text
