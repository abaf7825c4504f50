"""Who asks, and what rows that shows: a session bound to a principal is narrowed to its projects in every question.

A session says who asks by `session.info["principal"]`; one without shows everything, as to the shell and the workers.
SQLAlchemy adds the criteria of `_Sight` wherever a table stands in a statement, in subqueries, joins and aliases too,
of SELECT, UPDATE and DELETE alike. Text and plain connections are not seen by it: `tests/architecture` knows them all.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, FromClause, event, exists, literal, select
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker, with_loader_criteria

from voxelight.models.errors import NotFound, Refused
from voxelight.storage.schema import (
    DEFAULT_PROJECT,
    ROLES,
    Account,
    Action,
    ApiKey,
    Artifact,
    AuditEvent,
    Correction,
    CurvePoint,
    Dataset,
    Embedding,
    EmbeddingSpace,
    IdentityLink,
    ImagingSession,
    Job,
    JobEvent,
    Membership,
    Metric,
    Model,
    Project,
    QueueEntry,
    Receipt,
    Reconstruction,
    ResultWord,
    Review,
    Run,
    SavedSearch,
    Scan,
    Segmentation,
    Subject,
    Upload,
)

SCOPES = {"viewer": "read", "operator": "write", "reviewer": "review", "admin": "admin"}  # what a role needs of a key
INSTALLATION = "installation"  # may do what concerns no project: accounts, projects, keys of others
ANYBODY = "anybody"  # who has an account, in a project or not
_KEY, _ALL = "principal", "everything"


@dataclass(frozen=True)
class Principal:
    """Who asks.

    Parameters
    ----------
    name : of the account
    admin : of the whole installation, so that every project shows
    roles : project -> role
    scopes : what of it may be used, as a key narrows it
    key : prefix of the key that was shown; empty where there was none
    """

    name: str
    admin: bool = False
    roles: Mapping[str, str] = field(default_factory=dict)
    scopes: frozenset[str] = frozenset(SCOPES.values())
    key: str = ""

    def may(self, role: str) -> bool:
        """Return whether something that needs a role may be done anywhere."""
        if role == ANYBODY:
            return True
        if role == INSTALLATION:
            return self.admin and SCOPES["admin"] in self.scopes
        return SCOPES[role] in self.scopes and (self.admin or any(_reaches(own, role) for own in self.roles.values()))

    def narrow(self, role: str) -> "Principal":
        """Return the principal as it stands before what needs a role: in those projects alone where it has that."""
        if self.admin or role == ANYBODY:
            return self
        return replace(self, roles={project: own for project, own in self.roles.items() if _reaches(own, role)})

    @property
    def sight(self) -> "tuple[Any, ...]":
        """Options for a statement, which narrow it to what the principal may see."""
        return () if self.admin else _find_criteria(tuple(sorted(self.roles)))

    @property
    def sight_for_changes(self) -> "tuple[Any, ...]":
        """The same for UPDATE and DELETE."""
        return () if self.admin else _find_criteria(tuple(sorted(self.roles)), reads=False)


def _reaches(own: str, role: str) -> bool:
    return ROLES.index(own) >= ROLES.index(role)


def bind(sessions: sessionmaker[Session], principal: Principal) -> sessionmaker[Session]:
    """Return a maker of sessions that show what a principal may see."""
    bound = copy(sessions)
    bound.kw = {**sessions.kw, "info": {**(sessions.kw.get("info") or {}), _KEY: principal}}
    return bound


def find_owner(session: Session) -> str:
    """Return the name of who asks; empty: the shell or a worker."""
    principal = find_principal(session)
    return principal.name if principal else ""


def find_principal(session: Session) -> Principal | None:
    """Return who asks; None: the shell or a worker, before whom nothing is hidden."""
    return session.info.get(_KEY)


@contextmanager
def seeing_everything(session: Session) -> Iterator[None]:
    """Let a session see all rows for a block that must know them: whether another project names the same file."""
    before = session.info.get(_ALL, False)
    session.info[_ALL] = True
    try:
        yield
    finally:
        session.info[_ALL] = before


def choose_project(session: Session, asked: str | None) -> str:
    """Return the project that something new belongs to.

    Raises
    ------
    NotFound
        There is no such project, or it does not show.
    Refused
        None is named, and several would do or none.
    """
    principal = find_principal(session)
    if asked is None:
        if principal is None or principal.admin or DEFAULT_PROJECT in principal.roles:
            return DEFAULT_PROJECT
        if len(principal.roles) == 1:
            return next(iter(principal.roles))
        names = ", ".join(sorted(principal.roles))
        raise Refused("no project", f"one of {names}" if names else "a project", "Name the project.")
    if session.scalar(select(Project.id).where(Project.name == asked)) is None:
        names = ", ".join(session.scalars(select(Project.name).order_by(Project.name).limit(5)))
        raise NotFound(f"no project {asked!r}", f"one of {names}" if names else "a project", "Correct the name.")
    return asked


def own_key(session: Session, key: str | None) -> str | None:
    """Return an idempotency key as it is stored: nobody else's is the same."""
    principal = find_principal(session)
    if key is None or principal is None:
        return key
    return hashlib.sha256(f"{principal.name}\0{key}".encode()).hexdigest()


def find_visible(session: Session, table: type[Any]) -> ColumnElement[bool] | None:
    """Return what holds for the rows of a table that show, for a question that another session asks; None: all do."""
    principal = find_principal(session)
    if principal is None or principal.admin:
        return None
    return _find_conditions(tuple(sorted(principal.roles)))[table]


@event.listens_for(Session, "do_orm_execute")
def _narrow(state: ORMExecuteState) -> None:
    principal: Principal | None = state.session.info.get(_KEY)
    if principal is None or principal.admin or state.session.info.get(_ALL):
        return
    if state.is_select:
        state.statement = state.statement.options(*principal.sight)
    elif state.is_update or state.is_delete:
        state.statement = state.statement.options(*principal.sight_for_changes)


@lru_cache(maxsize=256)  # to put them together takes 20 times as long as a query
def _find_criteria(projects: tuple[str, ...], reads: bool = True) -> tuple[Any, ...]:
    return tuple(
        with_loader_criteria(table, condition, include_aliases=True, propagate_to_loaders=False)
        for table, condition in _find_conditions(projects).items()
        if reads or table not in _READ_ONLY
    )


# A model and a space show to whoever has something of it, but are one row for all: any may count itself in.
_READ_ONLY = (Model, EmbeddingSpace)


@lru_cache(maxsize=256)
def _find_conditions(projects: tuple[str, ...]) -> dict[type[Any], ColumnElement[bool]]:
    """Return for every table what holds for its rows in some projects; EXISTS, which leaves the plan as it was."""
    see = _Sight(projects)
    tables: dict[Callable[[Any], ColumnElement[bool]], tuple[Any, ...]] = {
        see.dataset: (Subject.dataset_id, Job.dataset_id, Upload.dataset_id, IdentityLink.dataset_id),
        see.subject: (ImagingSession.subject_id,),
        see.visit: (Scan.imaging_session_id,),
        see.scan: (Embedding.scan_id,),
        see.job: (Run.job_id, Artifact.job_id, Metric.job_id, JobEvent.job_id, Action.job_id, QueueEntry.job_id),
        see.run: (
            *(Segmentation.run_id, Reconstruction.run_id, Review.run_id, Correction.run_id),
            *(ResultWord.run_id, CurvePoint.run_id),
        ),
        see.project: (Dataset.project, SavedSearch.project, Receipt.project, Project.name, Membership.project),
        see.model: (Model.id,),
        see.space: (EmbeddingSpace.id,),
        see.nothing: (Account.id, ApiKey.id, AuditEvent.seq),
    }
    return {column.class_: condition(column) for condition, columns in tables.items() for column in columns}


class _Sight:
    """Conditions on a column by which a row hangs on another; what they look through has names of its own."""

    def __init__(self, projects: tuple[str, ...]) -> None:
        self._projects = projects

    def project(self, column: Any) -> ColumnElement[bool]:
        found: ColumnElement[bool] = column.in_(self._projects)
        return found

    def nothing(self, column: Any) -> ColumnElement[bool]:
        found: ColumnElement[bool] = column.is_(None)
        return found

    def dataset(self, column: Any) -> ColumnElement[bool]:
        of = Dataset.__table__.alias()
        return self._exists(of, of, of.c.id == column)

    def subject(self, column: Any) -> ColumnElement[bool]:
        subject, of = Subject.__table__.alias(), Dataset.__table__.alias()
        return self._exists(subject.join(of, of.c.id == subject.c.dataset_id), of, subject.c.id == column)

    def visit(self, column: Any) -> ColumnElement[bool]:
        visit, tree, of = self._visits()
        return self._exists(tree, of, visit.c.id == column)

    def scan(self, column: Any) -> ColumnElement[bool]:
        visit, tree, of = self._visits()
        scan = Scan.__table__.alias()
        return self._exists(tree.join(scan, scan.c.imaging_session_id == visit.c.id), of, scan.c.id == column)

    def job(self, column: Any) -> ColumnElement[bool]:
        job, tree, of = self._jobs()
        return self._exists(tree, of, job.c.id == column)

    def run(self, column: Any) -> ColumnElement[bool]:
        job, tree, of = self._jobs()
        run = Run.__table__.alias()
        return self._exists(tree.join(run, run.c.job_id == job.c.id), of, run.c.id == column)

    def model(self, column: Any) -> ColumnElement[bool]:
        job, tree, of = self._jobs()
        return self._exists(tree, of, job.c.model_id == column)

    def space(self, column: Any) -> ColumnElement[bool]:
        visit, tree, of = self._visits()
        scan, vector = Scan.__table__.alias(), Embedding.__table__.alias()
        tree = tree.join(scan, scan.c.imaging_session_id == visit.c.id).join(vector, vector.c.scan_id == scan.c.id)
        return self._exists(tree, of, vector.c.space_id == column)

    def _exists(self, tree: FromClause, of: Any, hangs: ColumnElement[bool]) -> ColumnElement[bool]:
        return exists(select(literal(1)).select_from(tree).where(hangs, self.project(of.c.project)))

    @staticmethod
    def _visits() -> tuple[Any, Any, Any]:
        visit, subject, of = (each.__table__.alias() for each in (ImagingSession, Subject, Dataset))
        tree = visit.join(subject, subject.c.id == visit.c.subject_id).join(of, of.c.id == subject.c.dataset_id)
        return visit, tree, of

    @staticmethod
    def _jobs() -> tuple[Any, Any, Any]:
        job, of = Job.__table__.alias(), Dataset.__table__.alias()
        return job, job.join(of, of.c.id == job.c.dataset_id), of
