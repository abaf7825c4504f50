"""Whose a series is, by pseudonyms that follow from the key of the installation; and whether it is here already."""

from collections.abc import Sequence

from voxelight.app.hospital.pseudonyms import name_person, name_visit
from voxelight.app.schemas import ScanAnswer
from voxelight.app.services import Services
from voxelight.app.verbs.answers import answer_scan
from voxelight.models.errors import NotFound
from voxelight.storage.identity import IdentityKey
from voxelight.storage.identity_links import has_links, read_link
from voxelight.storage.queries import find_dataset, select_scans
from voxelight.storage.schema import Scan


class Persons:
    """Pseudonyms: the same patient gets the same label every time, and nobody without the key can tell whose it is.

    Parameters
    ----------
    services : whose key it is
    """

    def __init__(self, services: Services) -> None:
        self._stores = services.stores
        self._key = IdentityKey(services.settings.home / "identity.key")
        with self._stores.sessions() as session:
            self._key.ensure(has_links(session))

    def name_person(self, issuer: str, number: str) -> str:
        """Return the label of a patient."""
        return name_person(self._key, issuer, number)

    def name_visit(self, study_uid: str) -> str:
        """Return the label of the session that a study is."""
        return name_visit(self._key, study_uid)

    def find_series(self, dataset: str, subject: str, series_uid: str) -> list[ScanAnswer]:
        """Return the scans that a series became."""
        with self._stores.sessions() as session:
            kept = find_dataset(session, dataset)
            named = series_uid if kept.keeps_headers else self._key.hash_uid(series_uid)
            scans = session.scalars(select_scans(kept.id, subject=subject).where(Scan.kind == "volume"))
            return [answer_scan(scan) for scan in scans if scan.facts.get("series_uid") == named]

    def count_unknown(self, dataset: str, series_uid: str, instances: Sequence[str]) -> int:
        """Return how many instances are none of those that a series was taken in with.

        Where headers are kept there is no list of them, and all count as unknown.
        """
        with self._stores.sessions() as session:
            try:
                found = read_link(session, self._key, find_dataset(session, dataset).id, self._key.hash_uid(series_uid))
            except NotFound:
                return len(instances)
        known = set(found.uids.values())
        return sum(instance not in known for instance in instances)
