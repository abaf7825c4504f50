"""Uploads that pause and go on, by tus 1.0 (creation, creation with upload, expiration, termination, checksum)."""

import asyncio
import base64
import binascii
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from email.utils import format_datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from voxelight.app.api.dependencies import PREFIX, Door, Paging
from voxelight.app.api.problems import answer_problem
from voxelight.app.schemas import Page, Wire
from voxelight.app.schemas_uploads import (
    AssignAnswer,
    AssignRequest,
    BatchAnswer,
    UploadAnswer,
    UploadRequest,
)
from voxelight.app.services import Services
from voxelight.app.verbs.naming import assign_names
from voxelight.models.errors import BadInput, VoxelightError
from voxelight.storage.artifacts import CHUNK_BYTES
from voxelight.storage.uploads import CHECKSUMS

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,termination,checksum"
PIECE = "application/offset+octet-stream"
_SILENCE_S = 30.0  # a sender that is gone without a word must not hold its upload for ever
_BODY: dict[str, Any] = {"content": {PIECE: {"schema": {"type": "string", "format": "binary"}}}}
_METADATA = ("dataset", "subject", "session", "batch", "prefer", "volume")


class TusRoute(APIRoute):
    """A route of the protocol: every request and answer names its version."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route with the version checked before and told after."""
        handle = super().get_route_handler()

        async def speak(request: Request) -> Response:
            try:
                answer = _refuse_version(request) or await handle(request)
            except VoxelightError as error:
                answer = answer_problem(error)
            answer.headers["Tus-Resumable"] = VERSION
            return answer

        return speak


class UploadPaging(Paging):
    """Which uploads."""

    dataset: str | None = None


class NewBatch(Wire):
    """An id under which files are sent together."""

    id: uuid.UUID


tus = APIRouter(prefix="/uploads", tags=["uploads"], route_class=TusRoute)
router = APIRouter(prefix="/uploads", tags=["uploads"])
Resumable = Annotated[Literal["1.0.0"], Header(alias="Tus-Resumable", description="version of the protocol")]
Offset = Annotated[int, Header(alias="Upload-Offset", ge=0, lt=2**63)]
Checksum = Annotated[
    str | None, Header(alias="Upload-Checksum", description="sha256 or sha1 and the hash of this piece in base64")
]


@tus.post("", status_code=201, openapi_extra={"requestBody": _BODY})
async def create_upload(
    services: Door,
    request: Request,
    response: Response,
    resumable: Resumable,
    length: Annotated[int, Header(alias="Upload-Length", ge=0, lt=2**63, description="bytes of the whole file")],
    metadata: Annotated[
        str,
        Header(
            alias="Upload-Metadata",
            max_length=4000,
            description="filename, dataset, subject, session, batch: each with its value in base64",
        ),
    ],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> UploadAnswer:
    """Begin an upload; a body is its first piece, or the whole of a small file."""
    upload = await run_in_threadpool(services.uploads.create, _read_metadata(metadata, length), idempotency_key)
    # A body is of use only to an upload that is new: one that was begun before with this key goes on by PATCH.
    if request.headers.get("content-type") == PIECE and upload.status == "open" and not upload.offset:
        try:
            await _append(services, upload.id, 0, request, None)
        except BaseException:
            if idempotency_key is None:  # nobody could ask for it: its id was never told
                await run_in_threadpool(services.uploads.cancel, upload.id)
            raise
        upload = await run_in_threadpool(services.uploads.show, upload.id)
    response.headers.update(_describe(upload))
    response.headers["Location"] = f"{PREFIX}/uploads/{upload.id}"
    return upload


@tus.head("/{upload_id}", response_class=Response)
def ask_offset(services: Door, upload_id: uuid.UUID, resumable: Resumable) -> Response:
    """Say in `Upload-Offset` how far an upload is."""
    upload = services.uploads.show(upload_id)
    return Response(headers=_describe(upload) | {"Upload-Length": str(upload.size), "Cache-Control": "no-store"})


@tus.patch("/{upload_id}", status_code=204, response_class=Response, openapi_extra={"requestBody": _BODY})
async def append_piece(
    services: Door,
    upload_id: uuid.UUID,
    request: Request,
    resumable: Resumable,
    offset: Offset,
    checksum: Checksum = None,
) -> Response:
    """Send the next piece of an upload, which begins at `Upload-Offset`; what came stays when the connection breaks."""
    if (found := request.headers.get("content-type")) != PIECE:
        return answer_problem(BadInput(f"a body of the type {found}", PIECE, "Send it as that."), 415)
    await _append(services, upload_id, offset, request, _read_checksum(checksum))
    upload = await run_in_threadpool(services.uploads.show, upload_id)
    return Response(status_code=204, headers=_describe(upload))


@tus.delete("/{upload_id}", status_code=204, response_class=Response)
def cancel_upload(services: Door, upload_id: uuid.UUID, resumable: Resumable) -> Response:
    """Forget an upload; scans that it became stay."""
    services.uploads.cancel(upload_id)
    return Response(status_code=204)


@router.options("", status_code=204, response_class=Response)
def say_protocol(services: Door) -> Response:
    """Say what of the protocol is spoken, and how large a file may be."""
    limits = {"Tus-Max-Size": str(services.uploads.limit_bytes), "Tus-Checksum-Algorithm": ",".join(CHECKSUMS)}
    return Response(
        status_code=204,
        headers={"Tus-Resumable": VERSION, "Tus-Version": VERSION, "Tus-Extension": EXTENSIONS} | limits,
    )


@router.get("")
def list_uploads(services: Door, asked: Annotated[UploadPaging, Query()]) -> Page[UploadAnswer]:
    """List uploads of the last days, newest first: those under way, and what became of the others."""
    return services.uploads.list(asked.dataset, asked.limit, asked.cursor)


@router.post("/assign")
def assign_places(asked: AssignRequest) -> AssignAnswer:
    """Tell by a pattern where files belong by their names; nothing is stored."""
    rows = assign_names(asked.names, asked.pattern, asked.rename, asked.subject, asked.session)
    good = [row for row in rows if not row.problem]
    return AssignAnswer(rows=rows, assigned=len(good), subjects=len({row.subject for row in good}))


@router.post("/batches", status_code=201)
def begin_batch() -> NewBatch:
    """Give an id for files that are sent together: loose DICOM files and archives wait until it is closed."""
    return NewBatch(id=uuid.uuid4())


@router.get("/batches/{batch}")
def show_batch(services: Door, batch: uuid.UUID) -> BatchAnswer:
    """Say how far the files of a batch are, and what they became."""
    return services.uploads.show_batch(batch)


@router.post("/batches/{batch}/close")
def close_batch(services: Door, batch: uuid.UUID) -> BatchAnswer:
    """Take in what waits in a batch: DICOM files as one scan a series, archives by what they hold."""
    return services.uploads.close_batch(batch)


@router.get("/{upload_id}")
def show_upload(services: Door, upload_id: uuid.UUID) -> UploadAnswer:
    """Show how far an upload is, and once it is whole what it became."""
    return services.uploads.show(upload_id)


async def _append(
    services: Services, upload_id: uuid.UUID, offset: int, request: Request, checksum: tuple[str, bytes] | None
) -> None:
    async with contextmanager_in_threadpool(services.uploads.append(upload_id, offset, checksum)) as piece:
        async for chunk in _join(request.stream()):
            await run_in_threadpool(piece.write, chunk)


async def _join(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Join what the network gives to pieces that are worth a write; what came before the connection broke comes too."""
    joined = bytearray()
    broken: Exception | None = None
    try:
        while True:
            async with asyncio.timeout(_SILENCE_S):
                joined += await anext(stream)
            if len(joined) >= CHUNK_BYTES:
                yield bytes(joined)
                joined.clear()
    except StopAsyncIteration:
        pass
    except TimeoutError:
        found = f"no byte for {_SILENCE_S:.0f} s"
        broken = BadInput(found, "a body without long gaps", "Ask with HEAD how far it came, and go on there.")
    except ClientDisconnect as error:
        broken = error
    if joined:
        yield bytes(joined)
    if broken:
        raise broken


def _refuse_version(request: Request) -> Response | None:
    found = request.headers.get("tus-resumable")
    if found == VERSION:
        return None
    problem = BadInput(f"Tus-Resumable: {found}", VERSION, "Send this header; a client of tus 1.0 does.")
    return answer_problem(problem, 412, {"Tus-Version": VERSION})


def _describe(upload: UploadAnswer) -> dict[str, str]:
    return {
        "Upload-Offset": str(upload.offset),
        "Upload-Expires": format_datetime(upload.expires_at, usegmt=True),
    }


def _read_metadata(header: str, length: int) -> UploadRequest:
    """Read the pairs of key and value; keys of other clients, a media type for one, are left alone."""
    pairs: dict[str, str] = {}
    for pair in header.split(","):
        key, _, value = pair.strip().partition(" ")
        try:
            pairs[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise BadInput(f"{key[:40]!r} in Upload-Metadata", "a key and its value in base64", "Encode it.") from None
    known = {key: pairs[key] for key in _METADATA if pairs.get(key)}
    try:
        return UploadRequest.model_validate({**known, "name": pairs.get("filename", ""), "size": length})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = str(first["loc"][0]).replace("name", "filename")
        raise BadInput(
            f"{key} {str(first['input'])[:80]!r} in Upload-Metadata", first["msg"], "Correct it and try again."
        ) from None


def _read_checksum(header: str | None) -> tuple[str, bytes] | None:
    if header is None:
        return None
    algorithm, _, value = header.partition(" ")
    try:
        if algorithm in CHECKSUMS:
            return algorithm, base64.b64decode(value, validate=True)
    except binascii.Error:
        pass
    raise BadInput(f"Upload-Checksum: {header[:80]}", f"{' or '.join(CHECKSUMS)} and the hash in base64", "Correct it.")
