"""Links that open one file for some minutes without a key: for a viewer, a download, or another program.

A link is the address of the file with a signature over that address, its query, its end and who made it. It reads, and
opens what that account may see at the time, by the key that asked for it: one that is over ends its links.
"""

import re
import time
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode

from voxelight.app.schemas_links import LinkAnswer, LinkRequest
from voxelight.app.services import Services
from voxelight.app.settings import Settings
from voxelight.app.signing import read_signed, sign
from voxelight.models.errors import BadInput, Refused
from voxelight.storage.access import Principal
from voxelight.storage.accounts import find_holder

PARAMETER = "link"
_PURPOSE = "link"
_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_FILES = re.compile(
    rf"/api/v1/(?:artifacts/{_ID}|scans/{_ID}/(?:content|image|thumbnail)|exports/[a-z]+\.[a-z]+)", re.ASCII
)


def make_link(settings: Settings, principal: Principal | None, request: LinkRequest) -> LinkAnswer:
    """Sign the address of a file.

    Raises
    ------
    BadInput
        The address is none of a file.
    """
    path, _, query = request.path.partition("?")
    if not _FILES.fullmatch(path) or any(name == PARAMETER for name, _ in parse_qsl(query)):
        raise BadInput(
            f"the address {path[:120]!r}", "one of an artifact, a scan or an export", "Take it from `url` of an answer."
        )
    content = {"path": path, "query": query}
    if principal is not None:
        content |= {"who": principal.name, "key": principal.key}
    signed = urlencode({PARAMETER: sign(settings, _PURPOSE, content, request.seconds)})
    until = datetime.fromtimestamp(int(time.time() + request.seconds), UTC)
    return LinkAnswer(url=f"{path}?{f'{query}&' if query else ''}{signed}", until=until)


def split_link(query: str) -> tuple[str, str]:
    """Return a query without the signature of a link, and the signature; empty where there is none."""
    parts = query.split("&") if query else []
    signed = [part.partition("=")[2] for part in parts if part.partition("=")[0] == PARAMETER]
    return "&".join(part for part in parts if part.partition("=")[0] != PARAMETER), signed[0] if len(
        signed
    ) == 1 else ""


def open_link(services: Services, signed: str, method: str, path: str, query: str) -> Services:
    """Return the services as who made a link may use them.

    Raises
    ------
    Refused
        The link is for something else, was changed, or its time is over.
    Unauthenticated
        The account or the key that made it is over.
    """
    content = read_signed(services.settings, _PURPOSE, signed)
    if method not in ("GET", "HEAD") or (content["path"], content["query"]) != (path, query):
        raise Refused("a link to something else", "the address that it was made for", "Ask for a link to this one.")
    if services.settings.auth == "none":
        return services
    if "who" not in content:
        raise Refused("a link from before accounts were asked for", "one of an account", "Ask for it anew.")
    with services.stores.sessions.begin() as session:
        return services.act_as(find_holder(session, content["who"], content["key"]))
