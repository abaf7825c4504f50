"""Label maps as surfaces: STL a label, and one GLB with all of them; and what other programs call and colour them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from voxelight.app.exports.entries import Contents, Entry, Member, Problems, folder_of, list_maps, path_part, read_map
from voxelight.app.schemas import JobAnswer
from voxelight.models.errors import BadInput

if TYPE_CHECKING:
    from voxelight.models.values import LabelMap


class SurfacesFormat:
    """One STL file a label, and one GLB file a label map."""

    _ROOT = "surfaces"

    def __init__(self, contents: Contents, problems: Problems) -> None:
        self._contents = contents
        self._problems = problems

    def add(self, entry: Entry) -> Iterator[Member]:
        """Give the surfaces of one result."""
        if entry.result.kind != "segment":
            return
        for file, name, _ in list_maps(entry):
            try:
                label_map = read_map(self._contents, entry, file)
                yield from self._draw(f"{self._ROOT}/{folder_of(entry.result)}/{name}", label_map)
            except BadInput as error:
                self._problems.note(f"{self._ROOT}: {entry.result.item}, {name}", error)

    def _draw(self, stem: str, label_map: "LabelMap") -> Iterator[Member]:
        from voxelight.medseg.surface import make_surfaces
        from voxelight.storage.formats.meshes import encode_glb, encode_stl

        surfaces = make_surfaces(label_map)
        for surface in surfaces:
            yield Member(f"{stem}_{surface.number:03d}-{path_part(surface.name)}.stl", [encode_stl(surface)])
        if surfaces:
            yield Member(f"{stem}.glb", [encode_glb(surfaces)])

    def add_job(self, job: JobAnswer) -> Iterator[Member]:
        """Nothing belongs to a job as a whole."""
        yield from ()

    def finish(self) -> Iterator[Member]:
        """Nothing is left."""
        yield from ()


class ColoursFormat:
    """One colour table a recipe and set of labels for 3D Slicer, and one for ITK-SNAP."""

    _ROOT = "colours"

    def __init__(self) -> None:
        self._seen: dict[str, dict[int, str]] = {}

    def add(self, entry: Entry) -> Iterator[Member]:
        """Note the labels of one result."""
        if entry.result.kind == "segment":
            names = {int(number): name for number, name in entry.result.labels.items()}
            stem = path_part(entry.result.recipe)
            same = [key for key, known in self._seen.items() if key.partition("~")[0] == stem and known == names]
            if not same:
                taken = sum(key.partition("~")[0] == stem for key in self._seen)
                self._seen[f"{stem}~{taken + 1}" if taken else stem] = names
        yield from ()

    def add_job(self, job: JobAnswer) -> Iterator[Member]:
        """Nothing belongs to a job as a whole."""
        yield from ()

    def finish(self) -> Iterator[Member]:
        """Give the tables."""
        from voxelight.storage.formats.colour_tables import encode_itk_snap, encode_slicer

        for key, names in self._seen.items():
            stem = key.replace("~", "-")
            yield Member(f"{self._ROOT}/{stem}.ctbl", [encode_slicer(names).encode()])
            yield Member(f"{self._ROOT}/{stem}_itk-snap.txt", [encode_itk_snap(names).encode()])
