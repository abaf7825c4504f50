"""Bodies that go to the disk as they come."""

from collections.abc import AsyncIterator

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from voxelight.storage.artifacts import CHUNK_BYTES, Incoming


async def stream_into(request: Request, incoming: Incoming) -> None:
    """Write the body of a request to a file on its way in."""
    async for chunk in _join(request.stream()):
        await run_in_threadpool(incoming.write, chunk)


async def _join(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Join what the network gives to pieces that are worth a write."""
    joined = bytearray()
    async for chunk in stream:
        joined += chunk
        if len(joined) >= CHUNK_BYTES:
            yield bytes(joined)
            joined.clear()
    if joined:
        yield bytes(joined)
