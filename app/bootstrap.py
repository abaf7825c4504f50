"""Settings -> Services: the only place where the parts are put together."""

from voxelight.app.queue import JobQueue
from voxelight.app.services import Services
from voxelight.app.settings import Settings
from voxelight.app.verbs.actions import Actions
from voxelight.app.verbs.arrivals import Arrivals
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
from voxelight.storage.artifacts import BlobStore
from voxelight.storage.database import is_current, open_engine, open_sessions, upgrade
from voxelight.storage.identity import IdentityKey
from voxelight.storage.stores import Stores
from voxelight.storage.uploads import UploadFiles


def open_services(settings: Settings) -> Services:
    """Open the stores of an installation, made and brought up to date where that is due."""
    settings.home.mkdir(parents=True, exist_ok=True)
    engine = open_engine(settings.resolved_database_url)
    queue = JobQueue(settings.resolved_database_url)
    if not is_current(engine):
        queue.create_tables()
        upgrade(engine)
    stores = Stores(
        engine,
        open_sessions(engine),
        BlobStore(settings.resolved_blobs_url, settings.spool, settings.blobs_options),
        weights=settings.weights,
        cache=settings.home / "cache",
    )
    key = IdentityKey(settings.home / "identity.key")
    scans = Scans(stores, settings.upload_limit_bytes, key, settings.prefer_form)
    drops = Drops(scans, settings.spool, settings.upload_limit_bytes)
    files = UploadFiles(settings.uploads)
    arrivals = Arrivals(stores, drops, files)
    vectors = Vectors(stores, settings.home / "vectors")
    return Services(
        settings=settings,
        stores=stores,
        queue=queue,
        datasets=Datasets(stores),
        scans=scans,
        privacy=Privacy(stores, key),
        drops=drops,
        uploads=Uploads(stores, scans, arrivals, files, settings.upload_limit_bytes),
        jobs=Jobs(stores, queue),
        recipes=Recipes(stores),
        results=Results(stores),
        searches=Searches(stores),
        compare=Compare(stores),
        viewer=Viewer(stores),
        corrections=Corrections(stores, settings.upload_limit_bytes),
        actions=Actions(stores, queue),
        exports=Exports(stores, Results(stores), Jobs(stores, queue)),
        reviews=Reviews(stores),
        quality=Quality(stores),
        sheets=Sheets(stores),
        followup=FollowUp(stores),
        vectors=vectors,
        trainings=Trainings(stores),
        deletion=Deletion(stores, vectors, files),
    )
