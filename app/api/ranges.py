"""The Range header of RFC 9110, section 14, for a single range of bytes."""

import re

from voxelight.models.errors import BadInput

_SINGLE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class NoSuchRange(BadInput):
    """A range that lies outside the content."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Read a Range header.

    Parameters
    ----------
    header : str or None
        `bytes=first-last`, `bytes=first-` or `bytes=-count`.
    size : int, bytes
        Of the whole content.

    Returns
    -------
    tuple of int or None
        Start and stop, in bytes; None for the whole content, which also answers a header that asks for several
        ranges or makes no sense, as the RFC allows.

    Raises
    ------
    NoSuchRange
        The range holds no byte of the content.
    """
    found = _SINGLE.fullmatch(header.strip()) if header else None
    if found is None or found[0] == "bytes=-":
        return None
    first, last = (int(number) if number else None for number in found.groups())
    if first is None:
        start, stop = max(0, size - (last or 0)), size
    elif last is not None and last < first:
        return None
    else:
        start, stop = first, size if last is None else min(last + 1, size)
    if start >= stop:
        raise NoSuchRange(f"the range {header}", f"a range within {size} bytes", "Ask for bytes that are there.")
    return start, stop
