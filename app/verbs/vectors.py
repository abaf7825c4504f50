"""Find what is stored by likeness: to words, to a picture, to a result or a scan."""

import uuid
from collections.abc import Callable
from copy import copy
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from voxelight.app import embedding
from voxelight.app.embedder import NetworkEmbedder
from voxelight.app.schemas import NOTICE
from voxelight.app.schemas_vectors import (
    FilledAnswer,
    NearAnswer,
    NearConditions,
    NearRequest,
    NeighboursAnswer,
    SpaceAnswer,
)
from voxelight.app.verbs.answers import find_notice, is_random
from voxelight.models.errors import BadInput, NotFound, VoxelightError
from voxelight.neuro.embed import describe_picture, describe_text
from voxelight.storage.access import find_visible
from voxelight.storage.halfvec import HalfvecIndex
from voxelight.storage.neighbours import (
    Neighbour,
    choose_embeddings,
    count_spaces,
    find_own,
    find_without,
    read_neighbours,
)
from voxelight.storage.queries import find_row
from voxelight.storage.schema import Embedding, EmbeddingSpace, Run, Scan
from voxelight.storage.stores import Stores
from voxelight.storage.vectors import VectorStore, find_space, unpack

MAX_PICTURE_BYTES = 32 << 20
_MOST_OWN = 1_000
_PREFERRED = (embedding.EDGES.name, embedding.CASES.name, embedding.WORDS.name)


class Vectors:
    """Embeddings of pictures, texts and cases, and what is near to what.

    Parameters
    ----------
    stores : where everything lies
    folder : of the index files of this machine
    """

    def __init__(self, stores: Stores, folder: Path) -> None:
        self._stores = stores
        self._index = VectorStore(stores, folder)
        self._graphs = HalfvecIndex(stores.engine)
        self._network = NetworkEmbedder()

    def list_spaces(self) -> list[SpaceAnswer]:
        """Return every space that holds a vector."""
        with self._stores.sessions() as session:
            counted = count_spaces(session)
        return [self._answer_space(space, count) for space, count in counted]

    def find_near(self, request: NearRequest) -> NeighboursAnswer:
        """Return what is nearest to words, a result or a scan.

        Raises
        ------
        NotFound
            There is no such result, scan, space or item, or nothing of it was embedded.
        BadInput
            The space can't be asked so, or the words hold no word.
        Unavailable
            The graph is not there.
        """
        if request.text is not None:
            name = request.space or embedding.WORDS.name
            _refuse_unless(name == embedding.WORDS.name, "words", name, embedding.WORDS.name)
            return self._search(name, describe_text(request.text), request)
        with self._stores.sessions() as session:
            owner, space, query = self._find_query(session, request)
        return self._search(space, query, request, owner)

    def find_near_picture(self, picture: bytes, conditions: NearConditions) -> NeighboursAnswer:
        """Return what is nearest to a picture.

        Parameters
        ----------
        picture : content of a PNG or JPEG file

        Raises
        ------
        BadInput
            It can't be read, or the space takes no pictures.
        NotFound
            Nothing was embedded in the space.
        Unavailable
            The network of the space is not installed, or the graph is not there.
        """
        name = conditions.space or embedding.EDGES.name
        takes = (embedding.EDGES.name, embedding.NETWORK.name)
        _refuse_unless(name in takes, "a picture", name, " or ".join(takes))
        pixels = self._read_picture(picture)
        if name == embedding.NETWORK.name:
            return self._search(name, self._network.embed(pixels), conditions)
        return self._search(name, describe_picture(pixels), conditions)

    def _read_picture(self, content: bytes) -> NDArray[np.float32]:
        if not content or len(content) > MAX_PICTURE_BYTES:
            raise BadInput(
                f"a picture of {len(content)} bytes", f"1 to {MAX_PICTURE_BYTES} bytes", "Send one PNG or JPEG file."
            )
        with self._stores.blobs.incoming() as incoming:
            incoming.write(content)
            incoming.finish()
            name = "picture.png" if content.startswith(b"\x89PNG") else "picture.jpg"
            return self._stores.checks.read_picture(incoming.path, name)

    def embed_run(self, run_id: uuid.UUID) -> int:
        """Embed what a run gave and the volume it was about, and return the number of vectors.

        Decoded pictures go through the network too where it is installed, so this loads torch.
        """
        with self._stores.sessions() as session:
            scan_id = find_row(session, Run, run_id).scan_id
        given = embedding.embed_run(self._stores, run_id, embedding.has_network())
        return given + embedding.embed_case(self._stores, scan_id)

    def fill(self, on_step: Callable[[int, int], None] = lambda _done, _total: None) -> FilledAnswer:
        """Embed every result and scan that has no embedding; one that can't be embedded stops no other."""
        with self._stores.sessions() as session:
            runs, scans, cases = find_without(session)
        network, problems, vectors = embedding.has_network(), [], 0
        due: list[tuple[Callable[..., int], uuid.UUID]] = [
            *((partial(embedding.embed_run, network=network), run) for run in runs),
            *((partial(embedding.embed_scan, network=network), scan) for scan in scans),
            *((embedding.embed_case, scan) for scan in cases),
        ]
        for number, (embed, identity) in enumerate(due, 1):
            try:
                vectors += embed(self._stores, identity)
            except (VoxelightError, OSError, ValueError) as problem:
                problems.append(f"{identity}: {problem}")
            on_step(number, len(due))
        return FilledAnswer(runs=len(runs), scans=len({*scans, *cases}), vectors=vectors, problems=problems)

    def build_graph(self, name: str) -> SpaceAnswer:
        """Build the approximate index of a space.

        Raises
        ------
        NotFound
            There is no such space.
        Unavailable
            The database is no PostgreSQL with pgvector.
        """
        with self._stores.sessions() as session:
            [(space, count)] = [row for row in count_spaces(session) if row[0].id == find_space(session, name).id]
        self._graphs.build(space)
        return self._answer_space(space, count)

    def follow(self) -> None:
        """Bring the index files in line with the rows, id by id."""
        self._index.follow_all()

    def close(self) -> None:
        """End the process beside this one, where there is one."""
        self._network.close()

    def _find_query(self, session: Session, request: NearRequest) -> tuple[uuid.UUID, str, NDArray[np.float32]]:
        if request.result is not None:
            owner = find_row(session, Run, request.result).id
        else:
            assert request.scan is not None
            owner = find_row(session, Scan, request.scan).id
        space = find_space(session, request.space) if request.space else None
        own = find_own(session, owner, space.id if space else None, request.item)
        if not own:
            raise NotFound(
                f"nothing of {owner} that was embedded"
                + (f" in {request.space}" if request.space else "")
                + (f" as {request.item!r}" if request.item else ""),
                "a result or a scan with an embedding",
                "Choose another space or item, or embed what is stored already: voxelight search fill",
            )
        order = {name: place for place, name in enumerate(_PREFERRED)}
        chosen = min(own, key=lambda row: (order.get(row.space.name, len(order)), row.id))
        return owner, chosen.space.name, unpack(chosen.vector)

    def _search(
        self, name: str, query: NDArray[np.float32], conditions: NearConditions, owner: uuid.UUID | None = None
    ) -> NeighboursAnswer:
        if not np.any(query):
            raise BadInput("words without content", "at least one that says something", "Type what you look for.")
        with self._stores.sessions() as session:
            space = find_space(session, name)
            allowed = choose_embeddings(session, conditions.dataset, conditions.role)
            visible = find_visible(session, Embedding)
            if visible is not None:
                allowed = visible if allowed is None else allowed & visible
            own = min(_MOST_OWN, len(find_own(session, owner, space.id, None))) if owner else 0
        wanted = conditions.limit + own  # what was asked about is near to itself, and no answer
        if conditions.method == "graph":
            found = self._graphs.search(space, query, wanted, allowed)
        else:
            found = self._index.search(space, query, wanted, allowed)
        with self._stores.sessions() as session:
            there = read_neighbours(session, [one for one, _ in found])
            items = [
                _answer(there[one], score)
                for one, score in found
                if one in there and there[one].embedding.owner != owner and (score > 0 or space.kind != "text")
            ]
            return NeighboursAnswer(
                space=name,
                method=conditions.method,
                exact=conditions.method == "exact",
                searched=self._count(session, space) if conditions.method == "exact" else 0,
                items=items[: conditions.limit],
            )

    def _count(self, session: Session, space: EmbeddingSpace) -> int:
        """Return how many vectors were compared that show."""
        if find_visible(session, Embedding) is None:
            return len(self._index.follow(space))
        return session.scalar(select(func.count(Embedding.id)).where(Embedding.space_id == space.id)) or 0

    def _answer_space(self, space: EmbeddingSpace, count: int) -> SpaceAnswer:
        tokens = space.name.startswith(embedding.TOKENS)
        asked_by = {
            embedding.EDGES.name: ["picture", "result", "scan"],
            embedding.NETWORK.name: ["picture", "result", "scan"],
            embedding.WORDS.name: ["text", "result", "scan"],
            embedding.CASES.name: ["result", "scan"],
        }
        return SpaceAnswer(
            name=space.name,
            kind=space.kind,  # type: ignore[arg-type]  # as the database checks
            dim=space.dim,
            count=count,
            about=embedding.ABOUT.get(embedding.TOKENS if tokens else space.name, ""),
            asked_by=asked_by.get(space.name, ["result"]),
            graph=self._graphs.is_built(space),
            created_at=space.created_at,
        )


def show_less(vectors: Vectors, stores: Stores) -> Vectors:
    """Return the same before stores that show less; the index files follow all rows, and answers are narrowed."""
    narrowed = copy(vectors)
    narrowed._stores = stores
    return narrowed


def _answer(near: Neighbour, score: float) -> NearAnswer:
    visit, job = near.scan.imaging_session, near.run.job if near.run else None
    picture = near.file if near.file and near.file.blob.media_type.startswith("image/") else None
    thumbnail = f"/api/v1/scans/{near.scan.id}/thumbnail" if near.scan.thumbnail_sha256 else None
    return NearAnswer(
        score=score,
        role=near.embedding.role,
        item=near.embedding.item,
        result=near.run.id if near.run else None,
        job=job.id if job else None,
        recipe=job.recipe if job else "",
        kind=job.kind if job else near.scan.kind,
        scan=near.scan.id,
        scan_name=near.scan.name,
        dataset=visit.subject.dataset.name,
        subject=visit.subject.label,
        session=visit.label,
        caption=near.decoded.caption if near.decoded else "",
        labels=near.segmentation.volumes_ml if near.segmentation else {},
        artifact=near.file.id if near.file else None,
        picture_url=f"/api/v1/artifacts/{picture.id}" if picture else thumbnail,
        simulated=visit.subject.dataset.simulated,
        random_weights=bool(job and is_random(job.model)),
        notice=find_notice(job) if job else NOTICE,
    )


def _refuse_unless(holds: bool, question: str, space: str, expected: str) -> None:
    if not holds:
        raise BadInput(
            f"{question} for the space {space}", f"the space {expected}", "Leave the space out, or choose that one."
        )
