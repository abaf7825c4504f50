"""What decoders are trained to predict: it never changes, so it is computed once a picture and read from then on."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxelight.models.errors import BadInput, Unavailable

OnStep = Callable[[int, int], None]
Encode = Callable[[Tensor, Sequence[str]], Tensor]
"""``(pictures (b, 3, h, w) in [0, 1] on the device, their keys) -> targets (b, ...)``."""

CAPTION_BYTES = 512
BATCHES_A_PART = 16
_SHOWN = 3


class Table(Protocol):
    """Arrays of one shape under keys, `storage.targets.TargetTable` for one."""

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return the keys that nothing is kept under, each once."""

    def write(self, keys: Sequence[str], values: NDArray[Any]) -> None:
        """Keep values (key, ...), all of them or none."""

    def read(self, keys: Sequence[str]) -> NDArray[Any]:
        """Return values (key, ...)."""


class Pictures(Protocol):
    """Where pictures come from."""

    def read(self, keys: Sequence[str]) -> NDArray[Any]:
        """Return pictures (key, 3, h, w), uint8, or floating in [0, 1]."""


class Targets(Protocol):
    """Where a training reads what it is to predict."""

    def read(self, kind: str, keys: Sequence[str], step: int) -> Tensor:
        """Return targets (key, ...) of a kind, ``tokens`` for one, for a step; on any device."""

    def check(self, kinds: Sequence[str], keys: Sequence[str]) -> None:
        """Refuse a training whose targets aren't all there, before its first step."""


def hash_picture(picture: NDArray[Any]) -> str:
    """Return the sha256 of a picture's type, shape and pixels, which is its key."""
    little = np.ascontiguousarray(picture, dtype=picture.dtype.newbyteorder("<"))
    return hashlib.sha256(f"{little.dtype.str} {little.shape}\n".encode() + little.tobytes()).hexdigest()


def hash_keys(keys: Sequence[str]) -> str:
    """Return the sha256 of keys in their order, by which a checkpoint knows its data."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


class CachedTargets:
    """Targets out of tables that `compute_targets` filled.

    Parameters
    ----------
    tables : of ``tokens``, ``latent`` and ``maps``, as many of them as the training needs
    augmented : tables of maps of augmented pictures, each with other draws; steps take turns
        The published training draws anew for every step, and so can cache none.
    """

    def __init__(self, tables: Mapping[str, Table], augmented: Sequence[Table] = ()) -> None:
        self._tables = {kind: [table] for kind, table in tables.items()}
        if augmented:
            self._tables["maps_aug"] = list(augmented)

    def read(self, kind: str, keys: Sequence[str], step: int) -> Tensor:
        """Return targets (key, ...), in the type that they are kept in, on the CPU."""
        tables = self._tables[kind]
        return torch.from_numpy(tables[step % len(tables)].read(keys))

    def check(self, kinds: Sequence[str], keys: Sequence[str]) -> None:
        """Refuse where a table, or a picture in it, is missing.

        Raises
        ------
        Unavailable
            The text names the kind and counts the pictures.
        """
        for kind in kinds:
            tables = self._tables.get(kind, [])
            for lost in [table.missing(keys) for table in tables] or [list(dict.fromkeys(keys))]:
                if lost:
                    shown = ", ".join(key[:12] for key in lost[:_SHOWN])
                    raise Unavailable(
                        f"no {kind} of {len(lost)} pictures ({shown}...)",
                        f"{kind} of all {len(set(keys))} pictures of the training",
                        "Compute the targets first; what is there is not computed again.",
                    )


class ComputedTargets:
    """Targets computed anew for every step, as published; it is what caching is measured against.

    Parameters
    ----------
    pictures : where they come from
    encoders : of each kind
    device : of the encoders
    """

    def __init__(self, pictures: Pictures, encoders: Mapping[str, Encode], device: str) -> None:
        self._pictures, self._encoders, self._device = pictures, encoders, device

    def read(self, kind: str, keys: Sequence[str], step: int) -> Tensor:
        """Return targets (key, ...) on the encoders' device."""
        return _encode(self._encoders[kind], self._pictures, keys, self._device)

    def check(self, kinds: Sequence[str], keys: Sequence[str]) -> None:
        """Refuse where an encoder is missing.

        Raises
        ------
        Unavailable
            The text names the kind.
        """
        for kind in kinds:
            if kind not in self._encoders:
                raise Unavailable(f"no encoder for {kind}", f"one of each of {', '.join(kinds)}", "Hand it in.")


def compute_targets(
    keys: Sequence[str],
    pictures: Pictures,
    encoders: Mapping[str, tuple[Encode, Table]],
    device: str,
    batch: int = 16,
    on_step: OnStep | None = None,
) -> dict[str, int]:
    """Fill tables with the targets of pictures; those that are there already are left as they are.

    An interrupted run is taken up where its last part ended, of `BATCHES_A_PART` batches.

    Parameters
    ----------
    keys : of the pictures
    pictures : where they come from
    encoders : kind -> its encoder and its table, which belongs to the encoder's weights
    device : of the encoders
    batch : pictures at once
    on_step : called with (pictures done, pictures in all) before each batch; what it raises ends it

    Returns
    -------
    kind -> pictures that were computed

    Raises
    ------
    BadInput
        An encoder gives what isn't finite in the table's precision.
    """
    missing = {kind: table.missing(keys) for kind, (_, table) in encoders.items()}
    total, done = sum(map(len, missing.values())), 0
    for kind, lost in missing.items():
        encode, table = encoders[kind]
        waiting: list[NDArray[Any]] = []
        for start in range(0, len(lost), batch):
            if on_step is not None:
                on_step(done, total)
            part = lost[start : start + batch]
            waiting.append(_to_half(_encode(encode, pictures, part, device), kind))
            done += len(part)
            if len(waiting) == BATCHES_A_PART or start + batch >= len(lost):
                kept = start + len(part)
                table.write(lost[kept - sum(map(len, waiting)) : kept], np.concatenate(waiting))
                waiting = []
    return {kind: len(lost) for kind, lost in missing.items()}


def encode_captions(captions: Sequence[str]) -> NDArray[np.uint8]:
    """Return captions as rows (caption, byte) that a table can keep: UTF-8, zeros behind.

    Raises
    ------
    BadInput
        One is too long.
    """
    rows = np.zeros((len(captions), CAPTION_BYTES), np.uint8)
    for row, caption in zip(rows, captions, strict=True):
        content = caption.encode()
        if len(content) > CAPTION_BYTES:
            raise BadInput(f"a caption of {len(content)} bytes", f"at most {CAPTION_BYTES}", "Shorten it.")
        row[: len(content)] = np.frombuffer(content, np.uint8)
    return rows


def decode_captions(rows: NDArray[np.uint8]) -> list[str]:
    """Return the captions of `encode_captions`."""
    return [row.tobytes().rstrip(b"\0").decode() for row in rows]


@torch.no_grad()
def _encode(encode: Encode, pictures: Pictures, keys: Sequence[str], device: str) -> Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(pictures.read(keys))).to(device)
    return encode(pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float(), keys)


def _to_half(values: Tensor, kind: str) -> NDArray[Any]:
    """Return values as they are kept: floats in half precision, which holds tokens to 3 digits."""
    kept: NDArray[Any] = (values.half() if values.is_floating_point() else values).cpu().numpy()
    if values.is_floating_point() and not np.isfinite(kept).all():
        raise BadInput(f"{kind} that are infinite or no number in half precision", "finite ones",
                       "Look at the encoder's weights and at the pictures.")  # fmt: skip
    return kept
