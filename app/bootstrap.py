"""Settings -> Services: the only place where the parts are put together."""

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from voxelight.app.queue import JobQueue
from voxelight.app.services import Services
from voxelight.app.settings import Settings
from voxelight.app.verbs.access import Access
from voxelight.app.verbs.actions import Actions
from voxelight.app.verbs.arrivals import Arrivals
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
from voxelight.app.verbs.vectors import Vectors, show_less
from voxelight.app.verbs.viewer import Viewer
from voxelight.app.verbs.workers import Workers
from voxelight.models.errors import BadInput, Unavailable
from voxelight.storage.artifacts import BlobStore
from voxelight.storage.audit import AuditLog
from voxelight.storage.checks import Checks
from voxelight.storage.database import is_current, open_engine, open_sessions, upgrade
from voxelight.storage.identity import IdentityKey
from voxelight.storage.quotas import Quotas
from voxelight.storage.sandbox import Limits, Sandbox
from voxelight.storage.sealed import parse_keys
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
    sessions, log = open_sessions(engine), AuditLog(settings.keys / "audit.key", settings.home / "audit.head")
    log.watch(sessions)
    stores = Stores(
        engine,
        sessions,
        open_blobs(settings),
        weights=settings.weights,
        cache=settings.home / "cache",
        quotas=Quotas(settings.quota_project_bytes, settings.quota_principal_bytes),
        checks=Checks(Sandbox(Limits(settings.intake_memory_bytes, settings.intake_seconds), settings.spool)),
    )
    shared = _Shared(
        settings,
        queue,
        IdentityKey(settings.home / "identity.key"),
        UploadFiles(settings.uploads),
        Vectors(stores, settings.home / "vectors"),
        log,
    )
    reserved = replace(stores, quotas=Quotas())  # an upload has room for what it becomes since it began
    arrivals = Arrivals(stores, shared.open_drops(reserved), shared.files)
    open_verbs = partial(_open_verbs, shared, arrivals)
    return Services(settings=settings, stores=stores, queue=queue, open_verbs=open_verbs, **open_verbs(stores))


@dataclass(frozen=True)
class _Shared:
    """What there is once, whoever asks."""

    settings: Settings
    queue: JobQueue
    key: IdentityKey
    files: UploadFiles
    vectors: Vectors
    log: AuditLog

    def open_scans(self, stores: Stores) -> Scans:
        return Scans(stores, self.settings.upload_limit_bytes, self.key, self.settings.prefer_form)

    def open_drops(self, stores: Stores) -> Drops:
        return Drops(self.open_scans(stores), self.settings.spool, self.settings.upload_limit_bytes)


def _open_verbs(shared: _Shared, arrivals: Arrivals, stores: Stores) -> dict[str, Any]:
    """Put the verbs together; what they show is what the stores show."""
    settings, queue, files = shared.settings, shared.queue, shared.files
    scans, vectors = shared.open_scans(stores), show_less(shared.vectors, stores)
    return {
        "access": Access(stores),
        "audit": Audit(stores, shared.log),
        "datasets": Datasets(stores),
        "scans": scans,
        "privacy": Privacy(stores, shared.key),
        "drops": shared.open_drops(stores),
        "uploads": Uploads(stores, scans, arrivals, files, settings.upload_limit_bytes),
        "jobs": Jobs(stores, queue),
        "recipes": Recipes(stores),
        "recordings": Recordings(Datasets(stores), scans, settings.data_roots),
        "results": Results(stores),
        "searches": Searches(stores),
        "compare": Compare(stores),
        "viewer": Viewer(stores),
        "corrections": Corrections(stores, settings.upload_limit_bytes),
        "actions": Actions(stores, queue),
        "exports": Exports(stores, Results(stores), Jobs(stores, queue)),
        "reviews": Reviews(stores),
        "quality": Quality(stores),
        "sheets": Sheets(stores),
        "followup": FollowUp(stores),
        "vectors": vectors,
        "trainings": Trainings(stores),
        "deletion": Deletion(stores, vectors, files),
        "workers": Workers(stores),
    }


def open_blobs(settings: Settings) -> BlobStore:
    """Open the blob store, with the keys that seal it where there are any.

    Raises
    ------
    Unavailable
        The file of the keys is missing or can't be read.
    BadInput
        A password stands in the address, which ends up in messages of those that read it.
    """
    if re.search(r"://[^/@]*:[^/@]*@", settings.blobs_url):
        raise BadInput(
            "a password in the address of the blob store", "one without", "Put it into VOXELIGHT_BLOBS_OPTIONS."
        )
    text = settings.blob_keys.get_secret_value()
    if not text and settings.blob_key_file:
        try:
            text = settings.blob_key_file.read_text()
        except OSError as error:
            raise Unavailable(
                f"{settings.blob_key_file}, which can't be read ({type(error).__name__})",
                "the keys of the sealed blobs",
                "Restore it from its backup; or make a first key with: voxelight storage rekey --new-key",
            ) from None
    wanted = text or settings.blob_key_file or settings.blobs_sealed_only
    keys = parse_keys(text, settings.blobs_sealed_only) if wanted else None
    return BlobStore(settings.resolved_blobs_url, settings.spool, settings.blobs_options, keys)
