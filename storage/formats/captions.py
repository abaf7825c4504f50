"""Captions by picture, as JSON: those of BrainHub, of COCO, and plain ones."""

import json
from pathlib import Path
from typing import Any

from voxelight.models.errors import BadInput

_HOW = 'Write {"picture": ["a caption", ...]}, COCO\'s annotations, or a list of image_id and caption.'


def read_caption_sets(path: Path) -> dict[str, list[str]]:
    """Read captions by picture.

    Parameters
    ----------
    path : JSON of picture -> caption or captions; or COCO's ``annotations``, or a list, of ``image_id`` and ``caption``

    Raises
    ------
    BadInput
        It is no such file, or a picture has an empty caption.
    """
    try:
        told = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}, which can't be read ({error})", "JSON with captions", _HOW) from error
    found: dict[str, list[str]] = {}
    for picture, text in _list(told, path):
        found.setdefault(picture, []).append(text)
    empty = [picture for picture, texts in found.items() if not all(text.strip() for text in texts)]
    if not found or empty:
        raise BadInput(
            f"{path} with {len(found)} pictures, {len(empty)} of them with an empty caption", "words for each", _HOW
        )
    return found


def read_decoded_captions(path: Path) -> dict[str, str]:
    """Read one caption a picture; see `read_caption_sets`.

    Raises
    ------
    BadInput
        A picture has several.
    """
    found = read_caption_sets(path)
    several = [picture for picture, texts in found.items() if len(texts) > 1]
    if several:
        raise BadInput(
            f"{path} with several captions of {len(several)} pictures, such as {several[0]}",
            "one decoded caption a picture",
            "Choose one caption a picture before scoring, without looking at the references.",
        )
    return {picture: texts[0] for picture, texts in found.items()}


def _list(told: Any, path: Path) -> list[tuple[str, str]]:
    if isinstance(told, dict) and isinstance(told.get("annotations"), list):
        told = told["annotations"]
    if isinstance(told, list):
        rows: list[tuple[Any, Any]] = [
            (row.get("image_id"), row.get("caption")) for row in told if isinstance(row, dict)
        ]
    elif isinstance(told, dict):
        rows = [
            (picture, text)
            for picture, texts in told.items()
            for text in (texts if isinstance(texts, list) else [texts])
        ]
    else:
        rows = []
    if not rows or not all(picture is not None and isinstance(text, str) for picture, text in rows):
        raise BadInput(f"{path} of another make", "captions by picture", _HOW)
    return [(str(picture), text) for picture, text in rows]
