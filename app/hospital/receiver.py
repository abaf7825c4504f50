"""A DICOM node that takes instances (C-STORE) and answers C-ECHO, and offers nothing else; who may send is listed."""

import contextlib
import io
import ipaddress
import logging
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxelight.app.hospital.inbox import Inbox, hash_name, write_whole
from voxelight.models.errors import BadInput, Conflict, Refused

SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND, DUPLICATE, NOT_AUTHORISED = 0x0000, 0xA700, 0xC000, 0x0111, 0x0124
_LEAST_FREE_BYTES = 1 << 30
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listening:
    """Where a receiver listens, and to whom.

    Parameters
    ----------
    host, port : address
    aet : its own title, by which it has to be called
    allow_aet : titles that may call; empty: any, on this machine alone
    allow_peer : addresses or networks that may call; empty: any, on this machine alone
    certificate, private_key : PEM files, for TLS
    authority : PEM file of who signs the certificates of those who call; then each needs one
    associations : at a time
    instance_bytes : largest instance
    """

    host: str = "127.0.0.1"
    port: int = 11112
    aet: str = "VOXELIGHT"
    allow_aet: tuple[str, ...] = ()
    allow_peer: tuple[str, ...] = ()
    certificate: Path | None = None
    private_key: Path | None = None
    authority: Path | None = None
    associations: int = 8
    instance_bytes: int = 2 << 30


def refuse_open(listening: Listening) -> None:
    """Refuse to listen where others than this machine can reach it, unless it is said who may call.

    Raises
    ------
    Refused
        Nobody is listed.
    BadInput
        An address or a title is none, or TLS is told in part.
    """
    networks = list(_networks(listening.allow_peer))
    if any(not 0 < len(aet) <= 16 for aet in (listening.aet, *listening.allow_aet)):
        raise BadInput("an AE title of other length", "1 to 16 letters", "Correct the title.")
    if (listening.certificate is None) != (listening.private_key is None):
        raise BadInput("a certificate or a key alone", "both", "Give --tls-cert and --tls-key.")
    if listening.authority and not listening.certificate:
        raise BadInput("--tls-ca without a certificate", "TLS", "Give --tls-cert and --tls-key too.")
    if not is_loopback(listening.host) and not (listening.allow_aet and networks):
        raise Refused(
            f"the address {listening.host}, which other machines reach, and nobody listed who may send",
            "--allow-aet and --allow-peer, for an address other than 127.0.0.1",
            "List the titles and addresses of the scanners and archives that send here.",
        )


@contextmanager
def receiving(inbox: Inbox, listening: Listening) -> Iterator[int]:
    """Take instances in threads until the block is left; give the port.

    Raises
    ------
    Refused, BadInput
        As `refuse_open`.
    Conflict
        The port is taken.
    """
    from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # made at import

    refuse_open(listening)
    entity = AE(ae_title=listening.aet)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(Verification)
    entity.require_called_aet = True
    entity.require_calling_aet = list(listening.allow_aet)
    entity.maximum_associations = listening.associations
    node = _Node(inbox, listening)
    handlers: list[Any] = [
        (evt.EVT_REQUESTED, node.on_requested),
        (evt.EVT_DATA_RECV, node.on_data),
        (evt.EVT_C_STORE, node.on_store),
        (evt.EVT_C_ECHO, lambda _event: SUCCESS),
    ]
    try:
        server = entity.start_server(
            (listening.host, listening.port), block=False, evt_handlers=handlers, ssl_context=_open_tls(listening)
        )
    except OSError as error:
        raise Conflict(f"port {listening.port}: {error.strerror}", "a free port", "Choose another --port.") from error
    assert server is not None, "one that does not block"
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


class _Node:
    """What is done at each event; threads of several associations are in here at a time."""

    def __init__(self, inbox: Inbox, listening: Listening) -> None:
        self._inbox, self._listening = inbox, listening
        self._networks = list(_networks(listening.allow_peer))
        self._came: dict[int, int] = {}

    def on_requested(self, event: Any) -> None:
        address = ipaddress.ip_address(event.assoc.requestor.address)
        if self._networks and not any(address in network for network in self._networks):
            _log.warning("An association from %s was aborted: it is not among those that may call", address)
            event.assoc.abort()

    def on_data(self, event: Any) -> None:
        """Count what comes, since an instance is held in memory until it is whole."""
        known = id(event.assoc)
        self._came[known] = self._came.get(known, 0) + len(event.data)
        if self._came[known] > self._listening.instance_bytes:
            self._came.pop(known)
            _log.warning(
                "An association was aborted: an instance of more than %d bytes", self._listening.instance_bytes
            )
            event.assoc.abort()

    def on_store(self, event: Any) -> int:
        """Answer that an instance is stored once it is on the disk, and not before."""
        self._came.pop(id(event.assoc), None)
        try:
            content = event.encoded_dataset()
            names = _read_uids(content)
            if names is None or names[2] != event.request.AffectedSOPInstanceUID:
                return CANNOT_UNDERSTAND
            if shutil.disk_usage(self._inbox.series).free < _LEAST_FREE_BYTES + len(content):
                return OUT_OF_RESOURCES
            path = self._inbox.place(names[0], names[1]) / f"{hash_name(names[2])}.dcm"
            if path.exists():
                return SUCCESS if _is_same(path, content) else DUPLICATE
            with contextlib.suppress(FileNotFoundError):
                write_whole(path, content)
                return SUCCESS
            # The folder was taken in between: this begins it anew.
            write_whole(self._inbox.place(names[0], names[1]) / path.name, content)
        except OSError as error:
            _log.error("An instance could not be written: %s", error.strerror)
            return OUT_OF_RESOURCES
        return SUCCESS


def _read_uids(content: bytes) -> tuple[str, str, str] | None:
    """Return the UIDs of study, series and instance; None where it has not all three."""
    from pydicom import dcmread

    try:
        header = dcmread(io.BytesIO(content), stop_before_pixels=True,
                         specific_tags=["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])  # fmt: skip
        found = tuple(str(header.get(name, "") or "") for name in
                      ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))  # fmt: skip
    except Exception:  # whatever is in untrusted bytes
        return None
    return (found[0], found[1], found[2]) if all(found) else None


def _is_same(path: Path, content: bytes) -> bool:
    """Return whether an instance came before as it is; the header of the file itself may differ by who sent it."""
    before = path.read_bytes()
    return before == content or _without_meta(before) == _without_meta(content)


def _without_meta(content: bytes) -> bytes:
    """Return a file from its data set on: the group of meta elements begins with its own length (PS3.10, 7.1)."""
    return content[144 + int.from_bytes(content[140:144], "little") :]


def _networks(peers: tuple[str, ...]) -> Iterator[Any]:
    for peer in peers:
        try:
            yield ipaddress.ip_network(peer, strict=False)
        except ValueError:
            raise BadInput(f"the peer {peer!r}", "an address or a network such as 10.1.0.0/16",
                           "Names are not looked up: give the address.") from None  # fmt: skip


def is_loopback(host: str) -> bool:
    """Return whether an address is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _open_tls(listening: Listening) -> ssl.SSLContext | None:
    if listening.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # BCP 195, as PS3.15 asks for
    try:
        context.load_cert_chain(listening.certificate, listening.private_key)
        if listening.authority:
            context.load_verify_locations(listening.authority)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"a certificate that can't be read ({error})", "PEM files", "Check the three files.") from error
    return context
