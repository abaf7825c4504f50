"""Pictures to look at: grids of what was seen beside every sample that was decoded, and label maps over their image."""

from collections.abc import Iterator
from typing import Any

from voxelight.app.exports.entries import Contents, Entry, Member, folder_of, list_maps, path_part, read_map, short
from voxelight.app.schemas import DECODING, ArtifactAnswer, JobAnswer, ResultAnswer

_ROOT = "pictures"
_A_GRID = 12
_JOB_ROLES = ("contact_sheet", "relevance")


class PicturesFormat:
    """PNG: a grid for every dozen decoded stimuli, overlays and sheets of label maps, the pictures of a job."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._waiting: list[Entry] = []
        self._drawn: dict[str, int] = {}

    def add(self, entry: Entry) -> Iterator[Member]:
        """Give the pictures of one result; decoded ones wait until a grid is full."""
        if entry.result.kind == "segment":
            for file in entry.find("overlay"):
                path = f"{_ROOT}/{folder_of(entry.result)}/{path_part(file.name)}"
                yield Member(path, self._contents.stream(file))
            for file, name, _ in list_maps(entry):
                path = f"{_ROOT}/{folder_of(entry.result)}/{name}_sheet.png"
                yield Member(path, [draw_cuts(self._contents, entry, file)])
            return
        if entry.result.kind not in DECODING:
            return
        if self._waiting and self._waiting[0].result.job != entry.result.job:
            yield from self._draw()
        self._waiting.append(entry)
        if len(self._waiting) >= _A_GRID:
            yield from self._draw()

    def add_job(self, job: JobAnswer) -> Iterator[Member]:
        """Give the pictures that belong to a job as a whole."""
        for file in job.artifacts:
            if file.role in _JOB_ROLES:
                folder = _name_folder(job.dataset, job.recipe, short(job.id))
                yield Member(f"{folder}/{path_part(file.name)}", self._contents.stream(file))

    def finish(self) -> Iterator[Member]:
        """Give the last grid."""
        yield from self._draw()

    def _draw(self) -> Iterator[Member]:
        waiting, self._waiting = self._waiting, []
        rows = [row for entry in waiting for row in list_stages(self._contents, entry)]
        if not rows:
            return
        from voxelight.neuro.draw import draw_stages
        from voxelight.storage.formats.images import encode_png

        result = waiting[0].result
        folder = _name_folder(result.dataset, result.recipe, short(result.job))
        for start in range(0, len(rows), _A_GRID):
            some = rows[start : start + _A_GRID]
            title = f"Seen and decoded by {result.recipe}"
            drawn = draw_stages(some, result.simulated, result.random_weights, title, most=_A_GRID)
            self._drawn[folder] = self._drawn.get(folder, 0) + 1
            yield Member(f"{folder}/grid-{self._drawn[folder]:03d}.png", [encode_png(drawn)])


def draw_cuts(contents: Contents, entry: Entry, file: ArtifactAnswer) -> bytes:
    """Return a label map on its image cut by cut, as PNG; the person's left is on the left."""
    from voxelight.medseg.sheets import draw_sheet
    from voxelight.storage.formats.images import encode_png

    with contents.open_file(entry.scan_sha256, entry.result.scan) as path:
        volume, _ = contents.checks.read_image(path)
    return encode_png(draw_sheet(volume, read_map(contents, entry, file)))


def list_stages(contents: Contents, entry: Entry) -> list[Any]:
    """Return what was seen and every sample that was decoded, one row a stimulus, as `draw_stages` takes it."""
    from voxelight.neuro.draw import DecodedStages
    from voxelight.storage.formats.images import decode_png

    result = entry.result
    seen, decoded = entry.find("stimulus"), entry.find("reconstruction")
    if not decoded:
        return []
    if result.kind == "decode":
        pictures = {"seen": decode_png(contents.read(seen[0]))} if seen else {}
        pictures |= {f"estimate {n}": decode_png(contents.read(file)) for n, file in enumerate(decoded, 1)}
        retrieved = entry.find("retrieved")[:3]
        pictures |= {f"retrieved {n}": decode_png(contents.read(file)) for n, file in enumerate(retrieved, 1)}
        return [DecodedStages(result.item, pictures, _join_captions(result))]
    by_artifact = {each.artifact: each.stimulus for each in result.decoded}
    return [
        DecodedStages(
            by_artifact.get(file.id, result.item),
            ({"seen": decode_png(contents.read(seen[n]))} if n < len(seen) else {})
            | {"estimate": decode_png(contents.read(file))},
        )
        for n, file in enumerate(decoded)
    ]


def _join_captions(result: ResultAnswer) -> str:
    return " | ".join(each.caption for each in result.decoded if each.caption)


def _name_folder(dataset: str, recipe: str, job: str) -> str:
    return f"{_ROOT}/{path_part(dataset)}/{path_part(recipe)}-{job}"
