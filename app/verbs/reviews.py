"""Accept, reject or doubt results, one reviewer blind to the other."""

import uuid

from sqlalchemy import Select, and_, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload
from sqlalchemy.orm.exc import StaleDataError

from voxelight.app.schemas import Page
from voxelight.app.schemas_reviews import (
    CaseAnswer,
    ProgressAnswer,
    ReviewAnswer,
    ReviewerAnswer,
    ReviewRequest,
    VerdictFilter,
)
from voxelight.app.verbs.cases import answer_cases, answer_review
from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.storage.queries import MAX_PAGE, find_row
from voxelight.storage.schema import Job, Review, Run, Scan
from voxelight.storage.stores import Stores


class Reviews:
    """What people think of results."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def list_cases(
        self,
        job_id: uuid.UUID,
        reviewer: str | None = None,
        verdict: VerdictFilter | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[CaseAnswer]:
        """Return the results of a job in its order, as one reviewer may see them.

        Parameters
        ----------
        job_id : of the job
        reviewer : who looks; without a name nobody's view is shown
        verdict : only results on which this reviewer has said so; `none` for those that wait for a verdict
        limit, cursor : which part of the list

        Raises
        ------
        NotFound
            There is no such job.
        BadInput
            The limit or the cursor is none.
        """
        with self._stores.sessions() as session:
            find_row(session, Job, job_id)
            query = _select_cases(job_id, reviewer, verdict)
            rows, following = _cut(session, query, limit, cursor)
            return Page(items=answer_cases(session, job_id, rows, reviewer), next_cursor=following)

    def show_case(self, run_id: uuid.UUID, reviewer: str | None = None) -> CaseAnswer:
        """Return one result as one reviewer may see it."""
        with self._stores.sessions() as session:
            run = _find_done(session, run_id)
            return answer_cases(session, run.job_id, [run], reviewer)[0]

    def find_progress(self, job_id: uuid.UUID, reviewer: str) -> ProgressAnswer:
        """Return how far a reviewer is with a job."""
        with self._stores.sessions() as session:
            find_row(session, Job, job_id)
            done = select(Run.id).where(Run.job_id == job_id, Run.status == "done")
            total = session.scalar(select(func.count()).select_from(done.subquery())) or 0
            said = (
                select(Review.verdict, func.count())
                .where(Review.run_id.in_(done), Review.reviewer == reviewer)
                .group_by(Review.verdict)
            )
            counts = {"accept": 0, "reject": 0, "unsure": 0} | dict(session.execute(said).all())
            return ProgressAnswer(job=job_id, reviewer=reviewer, total=total, reviewed=sum(counts.values()), **counts)

    def list_reviewers(self, job_id: uuid.UUID) -> list[ReviewerAnswer]:
        """Return who has reviewed results of a job, and how many."""
        with self._stores.sessions() as session:
            find_row(session, Job, job_id)
            rows = session.execute(
                select(Review.reviewer, func.count())
                .join(Run, Run.id == Review.run_id)
                .where(Run.job_id == job_id, Run.status == "done")
                .group_by(Review.reviewer)
                .order_by(Review.reviewer)
            )
            return [ReviewerAnswer(reviewer=name, reviewed=count) for name, count in rows]

    def show(self, run_id: uuid.UUID, reviewer: str) -> ReviewAnswer:
        """Return what one reviewer thinks of a result.

        Raises
        ------
        NotFound
            The reviewer has not said anything yet.
        """
        with self._stores.sessions() as session:
            return answer_review(_find_review(session, run_id, reviewer))

    def save(
        self, run_id: uuid.UUID, reviewer: str, request: ReviewRequest, version: int | None = None
    ) -> ReviewAnswer:
        """Write down what a reviewer thinks, in place of what that reviewer thought before.

        Parameters
        ----------
        run_id : of a run that is done
        reviewer : whose view it is
        request : the view
        version : the version that the reviewer has seen; None: whatever there is

        Raises
        ------
        NotFound
            There is no such result.
        Conflict
            The view has another version by now.
        """
        try:
            return self._write(run_id, reviewer, request, version)
        except IntegrityError:
            return self._write(run_id, reviewer, request, version)  # the same reviewer's other window was first
        except StaleDataError:
            raise _changed("another view saved at the same time") from None

    def withdraw(self, run_id: uuid.UUID, reviewer: str, version: int | None = None) -> None:
        """Take a reviewer's view back.

        Raises
        ------
        NotFound
            There is none.
        Conflict
            It has another version by now.
        """
        with self._stores.sessions.begin() as session:
            review = _find_review(session, run_id, reviewer)
            _refuse_other(review, version)
            session.delete(review)

    def _write(self, run_id: uuid.UUID, reviewer: str, request: ReviewRequest, version: int | None) -> ReviewAnswer:
        with self._stores.sessions.begin() as session:
            _find_done(session, run_id)
            review = session.scalar(select(Review).where(Review.run_id == run_id, Review.reviewer == reviewer))
            if review is None:
                if version is not None:
                    raise _changed("no view of this reviewer")
                review = Review(run_id=run_id, reviewer=reviewer, **request.model_dump())
                session.add(review)
            else:
                _refuse_other(review, version)
                review.verdict, review.comment = request.verdict, request.comment
            session.flush()
            return answer_review(review)


def _select_cases(job_id: uuid.UUID, reviewer: str | None, verdict: VerdictFilter | None) -> Select[Run]:
    query = (
        select(Run)
        .where(Run.job_id == job_id, Run.status == "done")
        .options(
            joinedload(Run.job).joinedload(Job.dataset),
            joinedload(Run.job).joinedload(Job.model),
            joinedload(Run.subject),
            joinedload(Run.scan).joinedload(Scan.imaging_session),
        )
    )
    if verdict is None:
        return query
    if not reviewer:
        raise BadInput(f"the verdict {verdict} of nobody", "a reviewer beside it", "Name the reviewer.")
    query = query.outerjoin(Review, and_(Review.run_id == Run.id, Review.reviewer == reviewer))
    return query.where(Review.id.is_(None) if verdict == "none" else Review.verdict == verdict)


def _cut(session: Session, query: Select[Run], limit: int, cursor: str | None) -> tuple[list[Run], str | None]:
    """Return up to `limit` runs in the order of their job, and the cursor for what follows."""
    if not 1 <= limit <= MAX_PAGE:
        raise BadInput(f"a limit of {limit}", f"1 to {MAX_PAGE}", "Ask for smaller pages and follow next_cursor.")
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
            raise BadInput(f"the cursor {cursor[:40]!r}", "next_cursor of an earlier page", "Start again without one.")
        query = query.where(Run.position > int(cursor))
    rows = list(session.scalars(query.order_by(Run.position).limit(limit + 1)))
    return rows[:limit], str(rows[limit - 1].position) if len(rows) > limit else None


def _find_done(session: Session, run_id: uuid.UUID) -> Run:
    run = find_row(session, Run, run_id)
    if run.status != "done":
        raise NotFound(f"a run that is {run.status}", "one that is done", "Follow its job until it has ended.")
    return run


def _find_review(session: Session, run_id: uuid.UUID, reviewer: str) -> Review:
    find_row(session, Run, run_id)
    review = session.scalar(select(Review).where(Review.run_id == run_id, Review.reviewer == reviewer))
    if review is None:
        raise NotFound(f"no view of {reviewer!r} on this result", "a reviewer who has seen it", "Save a verdict first.")
    return review


def _refuse_other(review: Review, version: int | None) -> None:
    if version is not None and review.version != version:
        raise _changed(f"version {review.version} of the view of {review.reviewer!r}")


def _changed(found: str) -> Conflict:
    return Conflict(found, "the version that was seen", "Read it again and repeat the change on what is there now.")
