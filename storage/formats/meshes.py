"""Surfaces as STL, one a file, and as binary glTF (GLB), all in one with names and colours; RAS+ mm."""

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.medseg.colours import find_parts
from voxelight.medseg.surface import Surface

_STL_FACE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_HEAD = 80
_ARRAY, _ELEMENTS, _FLOAT, _UINT = 34962, 34963, 5126, 5125


def encode_stl(surface: Surface) -> bytes:
    """Encode a surface as binary STL."""
    corners = surface.vertices[surface.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    faces = np.zeros(len(corners), dtype=_STL_FACE)
    faces["normal"] = normals / np.where(lengths > 0, lengths, 1)
    faces["corners"] = corners
    head = f"Voxelight, RAS mm: {surface.name}. Not for clinical use".encode("ascii", "replace")[:_HEAD]
    return head.ljust(_HEAD, b" ") + struct.pack("<I", len(faces)) + faces.tobytes()


def encode_glb(surfaces: Sequence[Surface]) -> bytes:
    """Encode surfaces as one GLB file (glTF 2.0), a node and a material a label."""
    binary = bytearray()
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []

    def add(array: NDArray[Any], kind: str, target: int, component: int) -> int:
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": array.nbytes, "target": target})
        about = {"bufferView": len(views) - 1, "componentType": component, "type": kind}
        about |= {"count": array.size if kind == "SCALAR" else len(array)}
        if kind == "VEC3":
            about |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
        accessors.append(about)
        binary.extend(array.tobytes())
        return len(accessors) - 1

    meshes: list[dict[str, Any]] = []
    for surface in surfaces:
        place = add(surface.vertices.astype("<f4"), "VEC3", _ARRAY, _FLOAT)
        corners = add(surface.faces.astype("<u4").ravel(), "SCALAR", _ELEMENTS, _UINT)
        primitive = {"attributes": {"POSITION": place}, "indices": corners, "material": len(meshes)}
        meshes.append({"name": surface.name, "primitives": [primitive]})
    document = {
        "asset": {"version": "2.0", "generator": "Voxelight", "extras": {"unit": "mm", "space": "RAS"}},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(meshes)))}],
        "nodes": [{"name": surface.name, "mesh": number} for number, surface in enumerate(surfaces)],
        "meshes": meshes,
        "materials": [_describe_material(surface) for surface in surfaces],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary.extend(b"\0" * (-len(binary) % 4))
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + bytes(binary)
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _describe_material(surface: Surface) -> dict[str, Any]:
    shares = [part / 255 for part in find_parts(surface.number)]
    linear = [((share + 0.055) / 1.055) ** 2.4 if share > 0.04045 else share / 12.92 for share in shares]
    shade = {"baseColorFactor": [*(round(part, 5) for part in linear), 1], "metallicFactor": 0, "roughnessFactor": 0.7}
    return {"name": surface.name, "pbrMetallicRoughness": shade}
