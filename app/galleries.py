"""Build and ask indexes of pictures, in the words of the shell; torch is loaded where a network embeds."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxelight.app.embedding import EDGES, NETWORK, embed_by_network
from voxelight.models.errors import BadInput
from voxelight.neuro.embed import describe_picture
from voxelight.neuro.profiles import GenerationOptions, find_profile, list_profiles
from voxelight.storage.formats.picture_sets import ARRAY_SUFFIXES, open_pictures, read_rows_by_id
from voxelight.storage.gallery import Gallery, GalleryFacts, Method, build_gallery

Embed = Callable[[NDArray[np.float32]], NDArray[np.float32]]
OnRows = Callable[[int, int], None]

_SIDE = 256
_AT_ONCE = 32


def build(
    source: Path,
    folder: Path,
    by: str,
    weights: Path,
    device: str,
    space: str | None = None,
    method: Method | None = None,
    on_rows: OnRows | None = None,
) -> GalleryFacts:
    """Build an index of a folder or an array of pictures, or of vectors.

    Parameters
    ----------
    source : folder of PNG or JPEG files; or ``.npy`` or ``.npz`` of pictures (picture, row, column, channel), or of
        `vectors` (row, dim) with their `ids`
    folder : of the index
    by : what embeds pictures: a space without a profile, or the name of a profile whose image encoder does
    weights : folder of the converted weights
    device : e.g. ``cpu`` or ``cuda:0``
    space : what made the vectors, where they come ready
    method : left out, exact up to a million and approximate above
    on_rows : called with (rows done, rows in all)
    """
    vectors = _find_vectors(source)
    if vectors is not None:
        if space is None:
            raise BadInput(f"vectors in {source.name} of no known space", "a name for it", "Name it with --space.")
        return build_gallery(folder, space, _cut(*vectors, on_rows or _ignore), method)
    if space is not None:
        raise BadInput(f"the space {space} for pictures", "vectors", "Leave --space out: --by says what embeds.")
    name, embed = find_embedder(by, weights, device)
    pictures = open_pictures(source, _SIDE)

    def follow() -> Iterator[tuple[Sequence[str], NDArray[np.float32]]]:
        for start in range(0, len(pictures.ids), _AT_ONCE):
            rows = np.arange(start, min(start + _AT_ONCE, len(pictures.ids)))
            yield pictures.ids[rows].tolist(), embed(pictures.read(rows).images)
            (on_rows or _ignore)(int(rows[-1]) + 1, len(pictures.ids))

    return build_gallery(folder, name, follow(), method)


def find_embedder(by: str, weights: Path, device: str) -> tuple[str, Embed]:
    """Return a space and what brings pictures (picture, row, column, channel) into it.

    Raises
    ------
    BadInput
        Nothing of this name embeds pictures.
    Unavailable
        Weights were not fetched, or a package is missing.
    """
    if by == EDGES.name:
        return by, lambda images: np.stack([describe_picture(image) for image in images])
    if by == NETWORK.name:
        return by, lambda images: np.stack([embed_by_network(image) for image in images])
    if by not in list_profiles():
        known = (EDGES.name, NETWORK.name, *list_profiles())
        raise BadInput(f"{by!r} to embed pictures by", f"one of {', '.join(known)}", "Correct the name.")
    return _load_encoder(by, weights, device)


def search_tokens(index: Path, tokens: Path, count: int) -> list[tuple[str, float]]:
    """Return names and cosines of what is nearest to the first retrieval token of a decoded stimulus.

    Parameters
    ----------
    index : folder of an index of CLIP's pooled embeddings
    tokens : file that a decoding wrote, with `retrieval` (token, dim)
    count : at most as many
    """
    from safetensors.numpy import load

    content = load(tokens.read_bytes())
    if "retrieval" not in content:
        raise BadInput(
            f"{tokens.name} with {', '.join(content)}", "retrieval tokens", "Name tokens of a decoded trial."
        )
    return Gallery(index).search(content["retrieval"][0].astype(np.float32), count)


def search_picture(index: Path, picture: Path, count: int, weights: Path, device: str) -> list[tuple[str, float]]:
    """Return names and cosines of what is nearest to a picture file, embedded as the index was."""
    from voxelight.storage.formats.images import read_stimuli

    gallery = Gallery(index)
    by = gallery.facts.space
    profiles = {_name_space(name): name for name in list_profiles()}
    name, embed = find_embedder(profiles.get(by, by), weights, device)
    return gallery.search(embed(read_stimuli([picture], ["query"], _SIDE).images)[0], count, name)


def _load_encoder(profile_name: str, weights: Path, device: str) -> tuple[str, Embed]:
    import torch

    from voxelight.app.provenance import find_device
    from voxelight.neuro.networks import load_networks

    profile = find_profile(profile_name)
    options = GenerationOptions(dtype="float32")
    networks = load_networks(profile, weights, options, find_device(device), ("image_encoder",))
    encoder: Any = networks.parts["image_encoder"]

    def embed(images: NDArray[np.float32]) -> NDArray[np.float32]:
        colours = np.broadcast_to(images, (*images.shape[:3], 3))
        pixels = torch.from_numpy(np.ascontiguousarray(colours.transpose(0, 3, 1, 2))).to(networks.device)
        with torch.inference_mode():
            pooled: NDArray[np.float32] = encoder.embed(pixels)[1].float().cpu().numpy()
        return pooled

    return _name_space(profile_name), embed


def _name_space(profile: str) -> str:
    return f"{find_profile(profile).space}, pooled"


def _find_vectors(source: Path) -> tuple[NDArray[Any], NDArray[np.str_]] | None:
    """Return vectors and ids of a file that holds them, or None where it holds pictures."""
    if source.is_dir() or source.suffix.lower() not in ARRAY_SUFFIXES:
        return None
    if source.suffix.lower() == ".npz":
        with np.load(source, allow_pickle=False) as archive:
            return read_rows_by_id(source, "vectors") if "vectors" in archive.files else None
    values, ids = read_rows_by_id(source, "vectors")
    return (values, ids) if values.ndim == 2 else None


def _cut(vectors: NDArray[Any], ids: NDArray[np.str_], on_rows: OnRows) -> Iterator[tuple[Sequence[str], NDArray[Any]]]:
    if vectors.ndim != 2:
        raise BadInput(f"vectors of shape {vectors.shape}", "(row, dim)", "Save one vector a row.")
    for start in range(0, len(vectors), 8_192):
        some = slice(start, start + 8_192)
        yield ids[some].tolist(), np.asarray(vectors[some], np.float32)
        on_rows(min(start + 8_192, len(vectors)), len(vectors))


def _ignore(_done: int, _total: int) -> None:
    pass
