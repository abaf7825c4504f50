"""An archive that speaks DICOMweb (PS3.18): query by QIDO-RS, retrieve by WADO-RS, store by STOW-RS."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from voxelight.app.hospital.inbox import Inbox, hash_name, write_whole
from voxelight.app.hospital.receiver import is_loopback
from voxelight.app.settings import Settings
from voxelight.models.errors import BadInput, NotFound, Refused, Unavailable

_TIMEOUT_S = 60.0
COLUMNS = {
    "StudyDate": "00080020",
    "Modality": "00080060",
    "ModalitiesInStudy": "00080061",
    "StudyDescription": "00081030",
    "SeriesDescription": "0008103E",
    "PatientName": "00100010",
    "PatientID": "00100020",
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
}


class Archive:
    """An archive at an address; what is asked of it and what it answers is written nowhere.

    Parameters
    ----------
    settings : with the address and the credentials
    url : instead of that of the settings

    Raises
    ------
    BadInput
        There is no address, or it holds a password.
    Refused
        Credentials would go over the network in the clear.
    """

    def __init__(self, settings: Settings, url: str = "") -> None:
        from dicomweb_client.api import DICOMwebClient

        self._address = url or settings.dicomweb_url
        _refuse_address(self._address, bool(settings.dicomweb_user or settings.dicomweb_token.get_secret_value()))
        self._client = DICOMwebClient(self._address.rstrip("/"), session=_open_session(settings), timeout=_TIMEOUT_S)
        self._client.set_http_retry_params(retry=False)

    def query(self, what: str, filters: Mapping[str, str], limit: int = 50) -> list[dict[str, str]]:
        """Return studies or series with what is known of each, by keyword.

        Parameters
        ----------
        what : ``studies`` or ``series``
        filters : keyword -> value; ``*`` and ranges of dates as PS3.4 has them
        limit : of rows
        """
        search = self._client.search_for_studies if what == "studies" else self._client.search_for_series
        with self._telling():
            found = search(search_filters=dict(filters), limit=limit, fields=list(COLUMNS))
        return [{name: _read(row.get(tag, {})) for name, tag in COLUMNS.items()} for row in found]

    def retrieve(self, inbox: Inbox, study: str, series: str = "") -> tuple[int, int]:
        """Bring the instances of a study, or of one series of it, into an inbox; return series and instances.

        Raises
        ------
        NotFound
            The archive has none.
        """
        wanted = [series] if series else [row["SeriesInstanceUID"] for row in self._list_series(study)]
        count = 0
        for each in wanted:
            with self._telling():
                for instance in self._client.iter_series(study, each):
                    path = inbox.place(study, each) / f"{hash_name(str(instance.SOPInstanceUID))}.dcm"
                    write_whole(path, _encode(instance))
                    count += 1
        if not count:
            raise NotFound("no instance of this study", "the UID of a study in the archive", "Query for it first.")
        return len(wanted), count

    def store(self, files: Sequence[Path]) -> int:
        """Store DICOM files and return how many the archive took.

        Raises
        ------
        Unavailable
            It refused one; the text says by which reason.
        """
        from pydicom import dcmread

        instances = [dcmread(path) for path in files]
        with self._telling():
            answer = self._client.store_instances(instances)
        failed = answer.get("FailedSOPSequence", [])
        if failed:
            code = int(failed[0].get("FailureReason", 0))
            raise Unavailable(
                f"{len(failed)} of {len(files)} instances refused by the archive, reason {code:#06x}",
                "an archive that takes them",
                "Ask whoever runs it; PS3.18, table I.2-2 lists the reasons.",
            )
        return len(answer.get("ReferencedSOPSequence", []))

    def _list_series(self, study: str) -> list[dict[str, str]]:
        with self._telling():
            found = self._client.search_for_series(study_instance_uid=study, fields=["SeriesInstanceUID"])
        return [{"SeriesInstanceUID": _read(row.get(COLUMNS["SeriesInstanceUID"], {}))} for row in found]

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn errors of the transport into ours, without addresses, headers and bodies, which may name a person."""
        import requests

        try:
            yield
        except requests.HTTPError as error:
            code = error.response.status_code if error.response is not None else 0
            if code in (401, 403):
                raise Refused(f"{code} from the archive", "credentials that it takes",
                              "Set VOXELIGHT_DICOMWEB_USER and _PASSWORD, or _TOKEN.") from None  # fmt: skip
            if code == 404:
                raise NotFound("404 from the archive", "a study that it has", "Query for it first.") from None
            raise Unavailable(f"{code} from the archive", "an answer", "Ask whoever runs it.") from None
        except (requests.RequestException, OSError) as error:
            raise Unavailable(
                f"no answer from {urlsplit(self._address).hostname} ({type(error).__name__})",
                "an archive that speaks DICOMweb",
                "Check the address: it ends in /dicom-web for Orthanc.",
            ) from None


def _open_session(settings: Settings) -> Any:
    import requests

    session = requests.Session()
    session.trust_env = False  # no .netrc, and no proxy that nobody named here
    token = settings.dicomweb_token.get_secret_value()
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    elif settings.dicomweb_user:
        session.auth = (settings.dicomweb_user, settings.dicomweb_password.get_secret_value())
    if settings.dicomweb_ca:
        session.verify = str(settings.dicomweb_ca)
    return session


def _refuse_address(address: str, secret: bool) -> None:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(
            "no address of an archive", "http(s)://host/dicom-web", "Give --url, or set VOXELIGHT_DICOMWEB_URL."
        )
    if parts.username or parts.password:
        raise BadInput("a password in the address", "one in a setting",
                       "Set VOXELIGHT_DICOMWEB_USER and VOXELIGHT_DICOMWEB_PASSWORD.")  # fmt: skip
    if secret and parts.scheme == "http" and not is_loopback(parts.hostname):
        raise Refused("credentials over http", "https", "Use the https address of the archive.")


def _encode(instance: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    instance.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _read(element: Mapping[str, Any]) -> str:
    """Return the value of an element of DICOM JSON (PS3.18, F.2)."""
    values = element.get("Value", [])
    return "/".join(str(value.get("Alphabetic", "")) if isinstance(value, dict) else str(value) for value in values)
