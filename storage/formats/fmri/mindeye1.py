"""The containers of MindEye1 (Scotti et al. 2023): one sample a picture, with up to three repeats and the picture.

``webdataset_avg_split/{train,val,test}/*_subj0X_*.tar`` with ``nsdgeneral.npy`` (3, voxel), ``coco73k.npy``,
``num_uniques.npy``, ``trial.npy`` and ``jpg``.
"""

import io
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image

from voxelight.models.errors import BadInput, NotFound
from voxelight.models.values import Stimuli
from voxelight.storage.formats.fmri.faults import refuse_duplicates, refuse_shared_stimuli, refuse_unscaled
from voxelight.storage.formats.fmri.pictures import stack_pictures
from voxelight.storage.formats.fmri.recording import Block, Index, Recording, Rows, SubjectIndex
from voxelight.storage.formats.fmri.space import Space
from voxelight.storage.formats.fmri.trials import name_pictures
from voxelight.storage.formats.fmri.webdataset import Part, list_samples, need
from voxelight.storage.formats.images import square

FOLDER, SPLITS = "webdataset_avg_split", ("train", "val", "test")
_TAR = re.compile(r"(train|val|test)_(subj\d+)_\d+\.tar")


class _Sample(NamedTuple):
    split: str
    picture: int
    repeats: int
    betas: Part
    image: Part


class MindEye1Recording(Recording):
    """Repeats of a picture are trials of their own; where fewer than three were seen, the files repeat one."""

    layout = "mindeye1"

    @cached_property
    def _samples(self) -> dict[str, list[_Sample]]:
        found: dict[str, list[_Sample]] = {}
        root = self.folder / FOLDER if (self.folder / FOLDER).is_dir() else self.folder
        for split in SPLITS:
            tars = sorted((root / split).glob("*.tar"), key=lambda path: (len(path.name), path.name))
            for tar in tars:
                named = _TAR.fullmatch(tar.name)
                if named is None or named[1] != split:
                    raise BadInput(f"{tar.name} in {split}", f"{split}_subj01_0.tar for one", "Keep published names.")
                samples = (_read_sample(split, key, parts) for key, parts in list_samples(tar).items())
                found.setdefault(named[2], []).extend(samples)
        if not found:
            raise NotFound(f"no tar in {root}", "train, val and test with tars", "Check the path.")
        return dict(sorted(found.items()))

    def _list(self) -> Index:
        subjects = tuple(self._list_subject(name, samples) for name, samples in self._samples.items())
        notes = (
            "Repeats that the files fill by repetition are left out, by num_uniques.",
            "`split` is that of the files; val counts as training. Sessions are not kept by this layout.",
        )
        return Index(self.layout, subjects, (self.folder / "SIMULATED").is_file(), notes)

    def _list_subject(self, name: str, samples: list[_Sample]) -> SubjectIndex:
        refuse_duplicates("picture", [(each.split, each.picture) for each in samples], f"the tars of {name}")
        counts = np.array([each.repeats for each in samples])
        ids = np.repeat(name_pictures(np.array([each.picture for each in samples])), counts)
        split = np.repeat(np.array([each.split for each in samples]), counts)
        refuse_shared_stimuli(split, ids, name)
        labels = {"repeat": np.concatenate([np.arange(1, count + 1) for count in counts]).astype(str), "split": split}
        return SubjectIndex(name, ids, labels, ("nsdgeneral",))

    def find_space(self, subject: str | None = None, roi: str | None = None) -> Space:
        """Return all columns; the files don't say where they lie in the brain."""
        one = self.index.find(subject)
        if roi not in (None, *one.rois):
            raise NotFound(f"no region {roi!r} in {self.layout}", ", ".join(one.rois), "Take all voxels.")
        voxels = self._samples[one.subject][0].betas.read_array().shape[1]
        return Space("func1pt8mm", one.rois[0], np.arange(voxels), voxels)

    def _blocks(self, subject: str, rows: Rows, space: Space) -> Iterator[Block]:
        samples = self._samples[subject]
        counts = np.array([each.repeats for each in samples])
        owner = np.repeat(np.arange(len(samples)), counts)[rows]
        repeat = np.concatenate([np.arange(count) for count in counts])[rows]
        for number in np.unique(owner).tolist():
            values = np.asarray(samples[number].betas.read_array())
            if values.ndim != 2 or values.shape[1] != len(space):
                raise BadInput(
                    f"betas of shape {values.shape} in {samples[number].betas.tar.name}",
                    f"(repeat, {len(space)})",
                    "Copy the tars of one subject into one folder.",
                )
            places = np.flatnonzero(owner == number)
            yield places, refuse_unscaled(values[repeat[places]].astype(np.float32), samples[number].betas.tar.name)

    def read_pictures(self, ids: Sequence[str], side: int | None = None) -> Stimuli:
        """Read the JPEG beside the betas."""
        found = {
            name: each.image
            for samples in self._samples.values()
            for name, each in zip(name_pictures(np.array([each.picture for each in samples])), samples, strict=True)
        }
        missing = [name for name in ids if name not in found]
        if missing:
            raise NotFound(f"{len(missing)} stimuli without a sample, {missing[0]} for one", "a jpg each", "Check ids.")
        images = []
        for name in ids:
            with Image.open(io.BytesIO(found[name].read()), formats=("JPEG",)) as opened:
                array = np.asarray(opened.convert("RGB"), dtype=np.float32) / np.float32(255)
            images.append(array if side is None else square(array, side))
        return stack_pictures(images, ids)


def _read_sample(split: str, key: str, parts: dict[str, Part]) -> _Sample:
    need(parts, key, "nsdgeneral.npy", "coco73k.npy", "num_uniques.npy", "jpg")
    picture, repeats = (int(np.ravel(parts[name].read_array())[0]) for name in ("coco73k.npy", "num_uniques.npy"))
    return _Sample(split, picture, min(max(repeats, 1), 3), parts["nsdgeneral.npy"], parts["jpg"])
