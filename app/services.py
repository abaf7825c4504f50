"""The verbs that every door speaks, in one place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import text

from voxelight.app.queue import JobQueue
from voxelight.app.roles import Guarded, Verbs, refuse_without
from voxelight.app.schemas import NOTICE, HealthAnswer
from voxelight.app.settings import Settings
from voxelight.app.verbs.access import Access
from voxelight.app.verbs.actions import Actions
from voxelight.app.verbs.audit import Audit
from voxelight.app.verbs.compare import Compare
from voxelight.app.verbs.corrections import Corrections
from voxelight.app.verbs.datasets import Datasets
from voxelight.app.verbs.deletion import Deletion
from voxelight.app.verbs.drops import Drops
from voxelight.app.verbs.exports import Exports
from voxelight.app.verbs.followup import FollowUp
from voxelight.app.verbs.jobs import Jobs
from voxelight.app.verbs.privacy import Privacy
from voxelight.app.verbs.quality import Quality
from voxelight.app.verbs.recipes import Recipes
from voxelight.app.verbs.recordings import Recordings
from voxelight.app.verbs.results import Results
from voxelight.app.verbs.reviews import Reviews
from voxelight.app.verbs.scans import Scans
from voxelight.app.verbs.searches import Searches
from voxelight.app.verbs.sheets import Sheets
from voxelight.app.verbs.trainings import Trainings
from voxelight.app.verbs.uploads import Uploads
from voxelight.app.verbs.vectors import Vectors
from voxelight.app.verbs.viewer import Viewer
from voxelight.app.verbs.workers import Workers
from voxelight.app.version import find_version
from voxelight.storage.access import INSTALLATION, Principal, bind
from voxelight.storage.stores import Stores, sweep

__all__ = ["VERBS", "Services", "find_version"]
_PARTS = ("settings", "stores", "queue", "open_verbs", "principal")


@dataclass(frozen=True)
class Services:
    """One installation, as its doors and workers see it.

    Parameters
    ----------
    settings, stores, queue : of the installation
    open_verbs : the verbs by name, before other stores; a row can't be seen that those do not show
    principal : on whose behalf the verbs act; None: the shell and the workers, who may do everything
    """

    settings: Settings
    stores: Stores
    queue: JobQueue
    open_verbs: Callable[[Stores], Mapping[str, Any]]
    access: Access
    datasets: Datasets
    scans: Scans
    privacy: Privacy
    drops: Drops
    uploads: Uploads
    jobs: Jobs
    recipes: Recipes
    recordings: Recordings
    results: Results
    searches: Searches
    compare: Compare
    viewer: Viewer
    corrections: Corrections
    actions: Actions
    exports: Exports
    reviews: Reviews
    quality: Quality
    sheets: Sheets
    followup: FollowUp
    vectors: Vectors
    trainings: Trainings
    deletion: Deletion
    workers: Workers
    audit: Audit
    principal: Principal | None = None

    def act_as(self, principal: Principal) -> "Services":
        """Return the same installation as a principal may use it: what it may not do is refused, the rest not there."""

        def open_for(narrowed: Principal) -> Mapping[str, Any]:
            return self.open_verbs(replace(self.stores, sessions=bind(self.stores.sessions, narrowed)))

        verbs = Verbs(principal, open_for)
        guarded: dict[str, Any] = {name: Guarded(name, verbs) for name in VERBS}
        stores = replace(self.stores, sessions=bind(self.stores.sessions, principal))
        return replace(self, **guarded, stores=stores, principal=principal)

    def check_health(self) -> HealthAnswer:
        """Ask the database, and say what waits."""
        with self.stores.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        return HealthAnswer(
            status="ok",
            version=find_version(),
            database=self.stores.engine.dialect.name,
            queued=self.jobs.count_queued(),
            notice=NOTICE,
        )

    def sweep(self, older_than_s: float = 86_400) -> list[str]:
        """Reclaim what no row names."""
        if self.principal is not None:
            refuse_without(self.principal, INSTALLATION)
        self.vectors.follow()
        return [*self.uploads.sweep(), *sweep(self.stores, older_than_s)]

    def close(self) -> None:
        """Give back every connection; those who act on behalf of somebody have none of their own."""
        if self.principal is not None:
            return
        self.uploads.close()
        self.vectors.close()
        self.stores.checks.close()
        self.stores.engine.dispose()


VERBS = tuple(field.name for field in fields(Services) if field.name not in _PARTS)
