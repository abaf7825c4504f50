"""Names and media types of the files that a pipeline gives."""

import hashlib
import re

PNG = "image/png"
TENSORS = "application/vnd.safetensors"


def file_stem(name: str) -> str:
    """Return a name as part of a file name; what a file system may refuse is replaced, and names stay distinct."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:120]
    return stem if stem == name else f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")
