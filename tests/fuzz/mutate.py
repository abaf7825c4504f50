"""Change sound files a little, the same way for the same seed: bytes, numbers, parts, and what packs them."""

import gzip
import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

_ODD = (
    0,
    1,
    2,
    3,
    7,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)
_MOST = 1 << 18


def mutate(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Return a changed file; what is packed may be changed inside and packed again."""
    if content[:2] == b"\x1f\x8b" and rng.random() < 0.7:
        return _inside_gzip(content, rng, others)
    if content[:4] == b"PK\x03\x04" and rng.random() < 0.6:
        return _inside_zip(content, rng, others)
    if content[:8] == b"\x89PNG\r\n\x1a\n" and rng.random() < 0.6:
        return _inside_png(content, rng)
    return _change(content, rng, others)


def _change(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        rng.choice(_CHANGES)(changed, rng, others)
    return bytes(changed[:_MOST])


def _place(changed: bytearray, rng: random.Random) -> int:
    """Choose a place, in a header more often than behind it."""
    return rng.randrange(min(len(changed), rng.choice((16, 128, 400, 1024, 1 << 20))) or 1)


def _flip(changed: bytearray, rng: random.Random, _others: list[bytes]) -> None:
    if changed:
        changed[_place(changed, rng)] ^= 1 << rng.randrange(8)


def _set_byte(changed: bytearray, rng: random.Random, _others: list[bytes]) -> None:
    if changed:
        changed[_place(changed, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _set_number(changed: bytearray, rng: random.Random, _others: list[bytes]) -> None:
    width, order = rng.choice("bhiq"), rng.choice("<>")
    size = struct.calcsize(width)
    value = (rng.choice(_ODD) * rng.choice((1, 1, -1)) + rng.choice((0, 0, -1, 1))) & ((1 << 8 * size) - 1)
    at = _place(changed, rng) // rng.choice((1, 2, 4)) * rng.choice((1, 2, 4))
    changed[at : at + size] = struct.pack(order + width.upper(), value)


def _set_float(changed: bytearray, rng: random.Random, _others: list[bytes]) -> None:
    value = rng.choice((float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e-40, 0.0, -1.0))
    at = _place(changed, rng) // 4 * 4
    changed[at : at + 4] = struct.pack(rng.choice("<>") + "f", value)


def _cut(changed: bytearray, rng: random.Random, _others: list[bytes]) -> None:
    del changed[_place(changed, rng) :]


def _remove(changed: bytearray, rng: random.Random, _others: list[bytes]) -> None:
    at = _place(changed, rng)
    del changed[at : at + rng.choice((1, 2, 4, 16, 200))]


def _insert(changed: bytearray, rng: random.Random, _others: list[bytes]) -> None:
    at = _place(changed, rng)
    changed[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16, 200)))


def _repeat(changed: bytearray, rng: random.Random, _others: list[bytes]) -> None:
    at = _place(changed, rng)
    changed[at:at] = changed[at : at + rng.choice((2, 8, 64, 512))] * rng.choice((1, 2, 50))


def _splice(changed: bytearray, rng: random.Random, others: list[bytes]) -> None:
    other = rng.choice(others)
    at, start = _place(changed, rng), rng.randrange(len(other))
    changed[at : at + rng.choice((0, 8, 64))] = other[start : start + rng.choice((8, 64, 1024))]


def _change_text(changed: bytearray, rng: random.Random, _others: list[bytes]) -> None:
    """Put another number or word in the place of one, where a file is text."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?|\b\w+\b", bytes(changed[:4096])))
    if found:
        part = rng.choice(found)
        words = (b"-1", b"0", b"1e999", b"NaN", b"null", b"[]", b"{}", b'"', b"9" * 400, b"\xff", b"../../x", b"\0")
        changed[part.start() : part.end()] = rng.choice(words)


_CHANGES: tuple[Callable[[bytearray, random.Random, list[bytes]], None], ...] = (
    _flip, _set_byte, _set_byte, _set_number, _set_number, _set_number, _set_float, _cut, _remove, _insert, _repeat,
    _splice, _change_text,
)  # fmt: skip


def _inside_gzip(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    plain = gzip.decompress(content)[: 1 << 16]
    changed = _change(plain, rng, others)
    extra = rng.choice((0, 0, 0, 1 << 22))
    return gzip.compress(changed + bytes(extra), 1, mtime=0)


def _inside_zip(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info, archive.read(info)[: 1 << 16]) for info in archive.infolist()[:20]]
    number = rng.randrange(len(members))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for place, (info, inner) in enumerate(members):
            new, changed = zipfile.ZipInfo(info.filename), inner
            new.compress_type, new.external_attr, new.create_system = info.compress_type, info.external_attr, 3
            if place == number:
                changed = _change(inner, rng, others) if inner and rng.random() < 0.8 else rng.choice(others)
                if rng.random() < 0.2:
                    new.filename = rng.choice(
                        ("../a.nii", "/a.nii", "a" * 300 + ".nii", "a\n.nii", "b.dcm", "c", "con.png")
                    )
                if rng.random() < 0.1:
                    new.external_attr = rng.choice((0o120777, 0o060666, 0o140777)) << 16
            archive.writestr(new, changed)
    packed = file.getvalue()
    return packed if rng.random() < 0.8 else _change(packed, rng, others)


def _inside_png(content: bytes, rng: random.Random) -> bytes:
    """Change the data of a chunk and its checksum with it, so that the change is not seen by that alone."""
    parts, at = [], 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        parts.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    number = rng.randrange(len(parts))
    kind, data = parts[number]
    if kind == b"IDAT" and rng.random() < 0.5:
        try:
            data = zlib.compress(_change(zlib.decompress(data), rng, [data]))
        except zlib.error:
            data = _change(data or b"\0", rng, [data or b"\0"])
    else:
        data = _change(data or b"\0", rng, [data or b"\0"])
    parts[number] = (rng.choice((kind, kind, kind, b"tRNS", b"iCCP", b"eXIf", b"acTL")), data)
    if rng.random() < 0.2:
        rng.shuffle(parts)
    chunks = (len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
              for kind, data in parts)  # fmt: skip
    return content[:8] + b"".join(chunks)
