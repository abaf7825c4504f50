"""What this installation gives out and later knows again: signed, for one purpose, until a time."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from typing import Any

from voxelight.app.settings import Settings
from voxelight.models.errors import Refused
from voxelight.storage.keys import derive_key, ensure_key

KEY_FILE = "link.key"


def sign(settings: Settings, purpose: str, content: dict[str, Any], seconds: float) -> str:
    """Return a content with its end and an HMAC-SHA256, in characters that an address may hold."""
    packed = _pack({**content, "until": int(time.time() + seconds)})
    return f"{packed}.{_mac(settings, purpose, packed)}"


def read_signed(settings: Settings, purpose: str, text: str) -> dict[str, Any]:
    """Return a content that was signed here for a purpose.

    Raises
    ------
    Refused
        It was not, was changed since, or its time is over.
    """
    packed, _, mac = text.partition(".")
    if not hmac.compare_digest(mac.encode(), _mac(settings, purpose, packed).encode()):
        raise Refused("a signature that is none of this server's", "what it gave out, whole", "Ask for it anew.")
    try:
        content: dict[str, Any] = json.loads(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    except (ValueError, binascii.Error):  # signed by us, so it can't be
        raise Refused("a signed text that can't be read", "what this server gave out", "Ask for it anew.") from None
    if content["until"] < time.time():
        raise Refused("a signature whose time is over", "one in force", "Ask for it anew.")
    return content


def _mac(settings: Settings, purpose: str, packed: str) -> str:
    key = derive_key(ensure_key(settings.keys / KEY_FILE), f"sign {purpose}")
    return hmac.new(key, packed.encode(), hashlib.sha256).hexdigest()


def _pack(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).rstrip(b"=").decode()
