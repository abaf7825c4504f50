"""Pictures with one class each: a folder of Parquet files and the names of the classes."""

import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxelight.models.errors import BadInput
from voxelight.neuro.tiny.pictures import Pictures

NAMES = "classes.json"
_COLUMNS = ("key", "image", "label")
_LAYOUT = f"*.parquet with the columns {', '.join(_COLUMNS)}, and {NAMES}"
_SOURCE = (
    "Get Tiny ImageNet (Le and Yang 2015, Stanford CS231N; ImageNet's terms: no commerce) and write it in "
    "this layout, as docs/tiny.md says, or name another folder."
)


def read_class_pictures(folder: Path, only: Sequence[str] | None = None) -> Pictures:
    """Read the pictures of a folder.

    Parameters
    ----------
    folder : Parquet files with the columns ``key`` (text, each once), ``image`` (an encoded picture) and ``label`` (row
        of the names), all pictures squares of one size; and ``classes.json``, a list of objects with a ``name``
    only : keys of the pictures that are read, where not all are

    Returns
    -------
    Pictures, RGB, in the order of files and rows, or that of `only`

    Raises
    ------
    BadInput
        The folder, a column, a name or one of `only` is missing, or a picture can't be read or has another size.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    paths = sorted(folder.glob("*.parquet"))
    if not paths or not (folder / NAMES).is_file():
        raise BadInput(f"no pictures with classes in {folder}", _LAYOUT, _SOURCE)
    try:
        chosen = None if only is None else [("key", "in", list(only))]
        tables = [read_table(path, columns=list(_COLUMNS), filters=chosen) for path in paths]
        names = tuple(str(row["name"]) for row in json.loads((folder / NAMES).read_text(encoding="utf-8")))
        keys, images, labels = (
            [value for table in tables for value in table.column(name).to_pylist()] for name in _COLUMNS
        )
    except (ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"a folder {folder} that can't be read ({error})", _LAYOUT, _SOURCE) from error
    place = {key: row for row, key in enumerate(keys)}
    missing = [key for key in only or () if key not in place]
    if missing or not keys:
        raise BadInput(f"{folder} without {len(missing)} of the pictures, {missing[:1]}", "all of them", _SOURCE)
    found = Pictures(_decode(images, keys), np.asarray(labels, np.int64), tuple(keys), names)
    return found if only is None else found.take([place[key] for key in only])


def _decode(images: Sequence[bytes], keys: Sequence[str]) -> NDArray[np.uint8]:
    def decode(image: bytes, key: str) -> NDArray[np.uint8]:
        try:
            return np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).transpose(2, 0, 1)
        except OSError as error:
            raise BadInput(f"the picture {key}, damaged ({error})", "an encoded picture", "Copy it again.") from error

    with ThreadPoolExecutor() as threads:
        pixels = list(threads.map(decode, images, keys))
    sizes = {picture.shape[1:] for picture in pixels}
    if len(sizes) > 1:
        raise BadInput(f"pictures of {len(sizes)} sizes", "squares of one size", "Scale them first.")
    return np.stack(pixels)
