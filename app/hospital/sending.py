"""Label maps that go back to an archive, with the identity of their study, once their job is done."""

import json
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from voxelight.app.schemas_privacy import RelinkRequest
from voxelight.app.services import Services
from voxelight.models.errors import BadInput, NotFound, Unavailable, VoxelightError
from voxelight.storage.formats.streams import replacing
from voxelight.storage.joblog import add_event

_TRIES, _FIRST_WAIT_S, _LONGEST_WAIT_S = 20, 5.0, 600.0
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Peer:
    """An archive that takes instances: its AE title, its address, and the title by which we call ourselves."""

    aet: str
    host: str
    port: int
    calling: str = "VOXELIGHT"

    def __str__(self) -> str:
        return f"{self.aet}@{self.host}:{self.port}"


def read_peer(text: str, calling: str) -> Peer:
    """Read AET@host:port.

    Raises
    ------
    BadInput
        It is none.
    """
    aet, _, address = text.partition("@")
    host, _, port = address.rpartition(":")
    if not (0 < len(aet) <= 16 and host and port.isdecimal() and 0 < int(port) < 65536):
        raise BadInput(f"the peer {text[:60]!r}", "AET@host:port", "Name title, host and port of the archive.")
    return Peer(aet, host, int(port), calling)


def send_files(files: Sequence[Path], peer: Peer) -> int:
    """Store DICOM files at a peer (C-STORE), and return how many it took.

    Raises
    ------
    Unavailable
        It can't be reached, or didn't take one.
    """
    from pydicom import dcmread
    from pynetdicom import AE, build_context

    entity = AE(ae_title=peer.calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
    instances = [dcmread(path) for path in files]
    kinds = {(each.SOPClassUID, each.file_meta.TransferSyntaxUID) for each in instances}
    association = entity.associate(
        peer.host, peer.port, ae_title=peer.aet, contexts=[build_context(sop, syntax) for sop, syntax in sorted(kinds)]
    )
    if not association.is_established:
        raise Unavailable(f"no association with {peer}", "an archive that takes instances", "Check title and address.")
    try:
        for instance in instances:
            status = association.send_c_store(instance)
            # Warnings (Bxxx) mean that it was stored (PS3.4, B.2.3).
            if not status or not (status.Status == 0 or status.Status & 0xF000 == 0xB000):
                code = f"{status.Status:#06x}" if status else "no answer"
                raise Unavailable(
                    f"{code} from {peer}", "an answer that it was stored", "Ask whoever runs the archive."
                )
    except (ValueError, RuntimeError) as error:
        raise Unavailable(f"{type(error).__name__} on the way to {peer}", "a transfer", "Try again.") from error
    finally:
        association.release()
    return len(instances)


class Outbox:
    """What is to be sent once its job is done: a file a job, which outlives this process.

    Parameters
    ----------
    services : the installation
    folder : of these files
    refused : where what can't be sent is noted
    tell : is told what happens
    """

    def __init__(self, services: Services, folder: Path, refused: Path, tell: Callable[[str], None]) -> None:
        self._services, self._folder, self._refused, self._tell = services, folder, refused, tell
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def add(self, job_id: uuid.UUID, peer: Peer) -> None:
        """Have the label maps of a job sent."""
        self._write(job_id, {"peer": asdict(peer), "tries": 0, "after": 0.0})

    def step(self) -> None:
        """Send what is due; what fails is tried again, each time later."""
        for path in sorted(self._folder.glob("*.json")):
            told, job_id = json.loads(path.read_text("utf-8")), uuid.UUID(path.stem)
            if told["after"] > time.time():
                continue
            try:
                if self._send(job_id, Peer(**told["peer"])):
                    path.unlink()
            except NotFound as error:  # the job was deleted
                self._give_up(path, str(error))
            except VoxelightError as error:
                self._try_later(path, told, str(error))

    def _send(self, job_id: uuid.UUID, peer: Peer) -> bool:
        job = self._services.jobs.show(job_id)
        if job.status in ("queued", "running"):
            return False
        privacy = self._services.privacy
        request = RelinkRequest(
            author=f"receiver {peer.calling}", reason=f"to be stored at {peer}", key=SecretStr(privacy.read_key())
        )
        with tempfile.TemporaryDirectory(dir=self._services.settings.spool) as folder:
            files = privacy.relink_all(job_id, request, Path(folder))
            sent = send_files(files, peer) if files else 0
        said = f"{sent} label maps stored at {peer}" if sent else f"Nothing to store at {peer}: the job is {job.status}"
        with self._services.stores.sessions.begin() as session:
            add_event(session, job_id, f"{said}.")
        self._tell(f"job {job_id}: {said}")
        return True

    def _try_later(self, path: Path, told: dict[str, Any], why: str) -> None:
        tries = told["tries"] + 1
        if tries >= _TRIES:
            self._give_up(path, why)
            return
        wait = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (tries - 1))
        self._tell(f"job {path.stem} not sent, again in {wait:.0f} s: {why}")
        self._write(uuid.UUID(path.stem), told | {"tries": tries, "after": time.time() + wait})

    def _give_up(self, path: Path, why: str) -> None:
        with replacing(self._refused / f"sending-{path.name}") as file:
            file.write(json.dumps({"job": path.stem, "reason": why}).encode())
        path.unlink()
        self._tell(f"job {path.stem} not sent, given up: {why}")

    def _write(self, job_id: uuid.UUID, told: dict[str, Any]) -> None:
        with replacing(self._folder / f"{job_id}.json") as file:
            file.write(json.dumps(told).encode())
