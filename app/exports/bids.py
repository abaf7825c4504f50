"""Results as a BIDS derivative data set: label maps under its names, decoded pictures in a folder of their own."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from voxelight.app.exports.citations import describe_licence, list_citations
from voxelight.app.exports.entries import Contents, Corrected, Entry, Member, folder_of, path_part
from voxelight.app.schemas import DECODING_NOTICE, NOTICE, ArtifactAnswer, JobAnswer
from voxelight.app.version import find_version
from voxelight.medseg.recipes import find_recipe
from voxelight.models.errors import NotFound
from voxelight.storage.formats.names import image_stem

BIDS_VERSION = "1.10.0"
_ROOT = "bids"
_DECODED = "decoded"
# Entities that a structural image may have beside subject and session, in the order of the standard.
_ENTITIES = ("acq", "ce", "rec", "run", "echo", "part")
_SUFFIX = re.compile(r"[A-Za-z0-9]+")
_PICTURES = ("stimulus", "reconstruction", "unrefined", "blurry", "retrieved", "caption")


class BidsFormat:
    """Members of a derivative data set, as BIDS 1.10 has it."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._subjects: dict[str, str] = {}
        self._placed: set[str] = set()  # who has files that BIDS has names for
        self._taken: dict[str, str] = {}
        self._entries = 0
        self._cited: dict[str, None] = {}
        self._licences: dict[str, None] = {}

    def add(self, entry: Entry) -> Iterator[Member]:
        """Give the files of one result."""
        self._entries += 1
        self._cited |= dict.fromkeys(list_citations(entry))
        self._licences |= dict.fromkeys(describe_licence(entry))
        yield from self._add_label_maps(entry) if entry.result.kind == "segment" else self._add_decoded(entry)

    def add_job(self, job: JobAnswer) -> Iterator[Member]:
        """Nothing of a job as a whole has a name in BIDS."""
        yield from ()

    def finish(self) -> Iterator[Member]:
        """Give what describes the data set."""
        if not self._entries:
            return
        description = {
            "Name": "Results of Voxelight",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "License": "; ".join(self._licences) or "not stated",
            "HowToAcknowledge": "Cite what is listed in ReferencesAndLinks.",
            "ReferencesAndLinks": list(self._cited),
            "GeneratedBy": [{"Name": "voxelight", "Version": find_version(), "Description": NOTICE}],
        }
        yield self._text("dataset_description.json", _json(description))
        yield self._text("README.md", _README)
        if self._placed:
            rows = "".join(f"{name}\n" for name in sorted(self._placed))
            yield self._text("participants.tsv", f"participant_id\n{rows}")
        yield self._text(".bidsignore", f"{_DECODED}\n")

    def _add_label_maps(self, entry: Entry) -> Iterator[Member]:
        for file in entry.find("label_map"):
            yield from self._add_label_map(entry, file, None)
        for number, corrected in enumerate(entry.corrections, 1):
            yield from self._add_label_map(entry, corrected.artifact, corrected, f"Corrected{number:02d}")

    def _add_label_map(
        self, entry: Entry, file: ArtifactAnswer, corrected: Corrected | None, mark: str = ""
    ) -> Iterator[Member]:
        result = entry.result
        path = self._name(entry, find_bids_label(result.recipe) + mark)
        yield Member(f"{_ROOT}/{path}_dseg.nii.gz", self._contents.stream(file))
        labels = sorted((int(number), name) for number, name in result.labels.items())
        rows = "".join(f"{number}\t{name}\n" for number, name in [(0, "background"), *labels])
        yield self._text(f"{path}_dseg.tsv", f"index\tname\n{rows}")
        yield self._text(f"{path}_dseg.json", _json(_describe(entry, file, corrected)))

    def _add_decoded(self, entry: Entry) -> Iterator[Member]:
        folder = f"{_DECODED}/{self._subject(entry)}/{folder_of(entry.result).partition('/')[2]}"
        files = [file for role in _PICTURES for file in entry.find(role)]
        for file in files:
            yield Member(f"{_ROOT}/{folder}/{path_part(file.name)}", self._contents.stream(file))
        told = {
            "Stimulus": entry.result.item,
            "Decoded": [each.model_dump(mode="json", exclude={"artifact"}) for each in entry.result.decoded],
            "Metrics": [metric.model_dump(mode="json") for metric in entry.result.metrics],
            "Simulated": entry.result.simulated,
            "RandomWeights": entry.result.random_weights,
            "Provenance": entry.result.provenance,
            "Notice": entry.result.notice,
        }
        yield self._text(f"{folder}/decoded.json", _json(told))

    def _subject(self, entry: Entry) -> str:
        """Return a person's name in BIDS; two people never share one."""
        key = f"{entry.result.dataset}/{entry.result.subject}"
        if key not in self._subjects:
            name = f"sub-{_alnum(entry.result.subject)}"
            others = self._subjects.values()
            self._subjects[key] = f"{name}{_digest(key)}" if name in others else name
        return self._subjects[key]

    def _name(self, entry: Entry, segmentation: str) -> str:
        result, subject = entry.result, self._subject(entry)
        self._placed.add(subject)
        session = f"ses-{_alnum(result.session)}"
        named = "_".join(f"{entity}-{value}" for entity, value in find_entities(result.scan).items())
        path = f"{subject}/{session}/anat/{subject}_{session}_{named}{'_' if named else ''}seg-{segmentation}"
        owner = f"{result.id}{segmentation}"
        if self._taken.setdefault(path, owner) != owner:  # the same scan by the same recipe in another job
            path += _digest(str(result.id))
            self._taken[path] = owner
        return path

    @staticmethod
    def _text(path: str, text: str) -> Member:
        return Member(f"{_ROOT}/{path}", [text.encode()])


def find_entities(name: str) -> dict[str, str]:
    """Return the entities of a scan's name that its derivatives keep; a name that has none is kept as ``acq``."""
    *pairs, suffix = image_stem(name).split("_")
    found = dict(pair.split("-", 1) for pair in pairs if pair.count("-") == 1)
    fits = len(found) == len(pairs) > 0 and all(_SUFFIX.fullmatch(value) for value in found.values())
    if not (fits and _SUFFIX.fullmatch(suffix)):
        return {"acq": _alnum(image_stem(name))}
    kept = {entity: found[entity] for entity in _ENTITIES if entity in found}
    if suffix not in ("T1w", "dseg"):  # contrasts of one session would else share a name
        kept = {"acq": found.get("acq", "") + suffix} | {key: value for key, value in kept.items() if key != "acq"}
    return kept


def find_bids_label(recipe: str) -> str:
    """Return what BIDS calls the label maps of a recipe: its own word, else the letters and digits of its name."""
    with suppress(NotFound):
        return find_recipe(recipe).bids_label or _alnum(recipe)
    return _alnum(recipe)


def _describe(entry: Entry, file: ArtifactAnswer, corrected: Corrected | None) -> dict[str, Any]:
    result = entry.result
    told: dict[str, Any] = {
        "SpatialReference": "orig",
        "Manual": corrected is not None,
        "Description": f"Labels by the recipe {result.recipe} on the grid of {result.scan}. {NOTICE}",
        "SourceName": result.scan,
        "SourceSha256": entry.scan_sha256,
        "Sha256": file.sha256,
        "LabelNames": result.labels,
        "Simulated": result.simulated,
        "Provenance": result.provenance,
    }
    if corrected is None:
        return told | {"VolumesMl": result.volumes_ml}
    made = {"Author": corrected.author, "Note": corrected.note, "CorrectedAt": corrected.made_at.isoformat()}
    return told | made


def _alnum(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text) or _digest(text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


_README = f"""# Results of Voxelight

{NOTICE}

`sub-*/` holds label maps on the grid of the image that was segmented, one `seg-` for each recipe; `Corrected` in it
marks what a person drew over one. Each has a table of its labels (`_dseg.tsv`) and its provenance (`_dseg.json`).

`{_DECODED}/` holds what was decoded from brain activity: pictures, captions and what was retrieved, with scores and
provenance in `decoded.json`. BIDS has no names for these, so `.bidsignore` leaves them out. {DECODING_NOTICE}
"""
