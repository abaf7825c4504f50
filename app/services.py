"""The verbs that every door speaks, in one place."""

from dataclasses import dataclass

from sqlalchemy import text

from voxelight.app.queue import JobQueue
from voxelight.app.schemas import NOTICE, HealthAnswer
from voxelight.app.settings import Settings
from voxelight.app.verbs.actions import Actions
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
from voxelight.app.verbs.results import Results
from voxelight.app.verbs.reviews import Reviews
from voxelight.app.verbs.scans import Scans
from voxelight.app.verbs.searches import Searches
from voxelight.app.verbs.sheets import Sheets
from voxelight.app.verbs.trainings import Trainings
from voxelight.app.verbs.uploads import Uploads
from voxelight.app.verbs.vectors import Vectors
from voxelight.app.verbs.viewer import Viewer
from voxelight.app.version import find_version
from voxelight.storage.stores import Stores, sweep

__all__ = ["Services", "find_version"]


@dataclass(frozen=True)
class Services:
    """One installation, as its doors and workers see it."""

    settings: Settings
    stores: Stores
    queue: JobQueue
    datasets: Datasets
    scans: Scans
    privacy: Privacy
    drops: Drops
    uploads: Uploads
    jobs: Jobs
    recipes: Recipes
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
        self.vectors.follow()
        return [*self.uploads.sweep(), *sweep(self.stores, older_than_s)]

    def close(self) -> None:
        """Give back every connection."""
        self.uploads.close()
        self.vectors.close()
        self.queue.close()
        self.stores.engine.dispose()
