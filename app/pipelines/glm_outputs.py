"""The betas of a finished estimation: as a data set of the installation, with maps and a page of their quality."""

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sqlalchemy import select

from voxelight.app.pipelines.glm_inputs import RunFiles
from voxelight.app.pipelines.outputs import PNG, file_stem
from voxelight.app.schemas import ScanRequest
from voxelight.app.verbs.scans import Scans
from voxelight.models.errors import Conflict
from voxelight.models.values import Betas
from voxelight.neuro.glm.choices import Choices
from voxelight.neuro.glm.options import GlmOptions
from voxelight.neuro.glm.page import Section, write_page
from voxelight.neuro.glm.pictures import draw_map, draw_scores
from voxelight.neuro.glm.quality import Quality, assess
from voxelight.neuro.glm.session import responses_of
from voxelight.storage.formats.fmri.maps_back import fill_space, write_map, write_series
from voxelight.storage.formats.fmri.space import Space
from voxelight.storage.formats.fmri.trials import count_repeats
from voxelight.storage.formats.nifti import turn
from voxelight.storage.glm_choices import decode_table
from voxelight.storage.identity import IdentityKey
from voxelight.storage.queries import find_dataset, select_scans
from voxelight.storage.results import JobOutcome, OutputFile, Score, read_output
from voxelight.storage.schema import Dataset, ImagingSession, Job, Scan, Subject
from voxelight.storage.stores import Stores

NIFTI, HTML, JSON = "application/gzip", "text/html", "application/json"
_TOGETHER = "all"  # visit that betas of several sessions are stored under
_STIMULI = "stimuli"
_UNLIMITED = 1 << 50


class Finished:
    """All that a finished estimation gave.

    Parameters
    ----------
    stores, job : where it ran
    files : its runs, in order
    runs : item -> id of the run that holds its betas
    spaces : subject -> voxels
    choices : (subject, session) -> what was chosen
    """

    def __init__(
        self,
        stores: Stores,
        job: Job,
        files: Sequence[RunFiles],
        runs: Mapping[str, uuid.UUID],
        spaces: Mapping[str, Space],
        choices: Mapping[tuple[str, str], Choices],
    ) -> None:
        self._stores, self._job, self._files, self._runs = stores, job, files, runs
        self._spaces, self._choices = spaces, choices
        self._model = GlmOptions(**job.model.config)
        self._scans = Scans(stores, _UNLIMITED, IdentityKey(stores.cache.parent / "identity.key"))

    def write(self) -> JobOutcome:
        """Register the data set and return maps, page and scores; done again, it adds what is missing."""
        self._ensure_dataset()
        outputs: list[OutputFile] = []
        scores: list[Score] = []
        sections = [self._introduce()]
        for subject, space in self._spaces.items():
            betas, columns = self._collect(subject)
            with TemporaryDirectory(dir=self._stores.cache) as folder:
                self._store(subject, betas, columns, space, Path(folder))
                quality = assess(betas, self._job.seed)
                maps = self._find_maps(subject, quality)
                outputs += _write_maps(subject, maps, space, Path(folder))
            described = self._describe(subject, betas, quality, maps, space)
            outputs += [OutputFile("map_picture", f"sub-{file_stem(subject)}_{name}.png", PNG, content)
                        for name, content in zip(maps, described[0].pictures.values(), strict=True)]  # fmt: skip
            sections += described
            scores += _score(subject, quality)
        title = f"Betas of {self._job.dataset.name} by {self._job.recipe}"
        page = write_page(title, sections, self._job.dataset.simulated).encode()
        told = {"dataset": self._job.params["output"], "simulated": self._job.dataset.simulated,
                "notes": [note for section in sections for note in section.notes],
                "sections": {section.title: dict(section.rows) for section in sections}}  # fmt: skip
        outputs += [OutputFile("report", "betas.html", HTML, page),
                    OutputFile("scores", "betas.json", JSON, json.dumps(told, indent=2).encode())]  # fmt: skip
        return JobOutcome(files=tuple(outputs), scores=tuple(scores))

    def _ensure_dataset(self) -> None:
        source, name, mark = self._job.dataset, self._job.params["output"], f"Job {self._job.id}."
        with self._stores.sessions.begin() as session:
            there = session.scalar(select(Dataset).where(Dataset.name == name))
            if there is not None and mark not in there.source:
                raise Conflict(f"a data set named {name!r}, made meanwhile", "a new name", "Copy the job, with a name.")
            if there is None:
                made = f"Single-trial betas of {source.name}, estimated by {self._job.recipe}. {mark} {source.source}"
                session.add(Dataset(
                    name=name, project=source.project, consent=source.consent, consent_note=source.consent_note,
                    purpose=source.purpose, licence=source.licence,
                    source=made.strip(), simulated=source.simulated, keeps_headers=source.keeps_headers,
                ))  # fmt: skip

    def _collect(self, subject: str) -> tuple[Betas, dict[str, list[str]]]:
        """Return the betas of a subject, and the columns of their table of events."""
        tables, rows = [], []
        for files in (files for files in self._files if files.subject == subject):
            tables.append(decode_table(read_output(self._stores, self._runs[files.key], "betas")))
            trials = json.loads(read_output(self._stores, self._runs[files.key], "trials"))
            for place, stimulus in enumerate(trials["stimulus"]):
                known = {name: column[place] for name, column in trials["labels"].items()}
                rows.append(
                    {"onset": repr(trials["onset"][place]), "duration": repr(trials["duration"][place]),
                     "stimulus": stimulus, "session": files.session, "run": f"{files.session}-{files.name}",
                     "trial_type": known.get("category", "n/a"), "group": known.get("group", "n/a")}
                )  # fmt: skip
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        columns = {name: cells for name, cells in columns.items() if set(cells) != {"n/a"}}
        ids = np.array(columns["stimulus"])
        labels = {name: np.array(columns[name]) for name in ("session", "run")}
        return (
            Betas(np.concatenate(tables), ids, subject, "brain", labels, self._job.dataset.simulated),
            columns | {"repeat": count_repeats(ids).tolist()},
        )

    def _store(
        self, subject: str, betas: Betas, columns: Mapping[str, Sequence[str]], space: Space, folder: Path
    ) -> None:
        """Store betas, mask and events as scans of the new data set, beside the pictures of the old one."""
        stem = f"sub-{file_stem(subject)}"
        sessions = sorted(set(columns["session"]))
        visit = sessions[0] if len(sessions) == 1 else _TOGETHER
        lines = ["\t".join(columns), *("\t".join(row) for row in zip(*columns.values(), strict=True))]
        (folder / f"{stem}_events.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_map(folder / f"{stem}_mask.nii.gz", np.ones(len(space)), space)
        write_series(folder / f"{stem}_betas.nii.gz", betas.values, space)
        for ending in ("mask.nii.gz", "events.tsv", "betas.nii.gz"):
            name = f"{stem}_{ending}"
            request = ScanRequest(name=name, dataset=self._job.params["output"], subject=subject, session=visit)
            if not self._has(subject, visit, name):
                self._scans.ingest_path(folder / name, request)
        self._link_pictures(subject)

    def _has(self, subject: str, visit: str, name: str) -> bool:
        with self._stores.sessions() as session:
            dataset = find_dataset(session, self._job.params["output"])
            query = select_scans(dataset.id, subject=subject).where(ImagingSession.label == visit, Scan.name == name)
            return session.scalar(query) is not None

    def _link_pictures(self, subject: str) -> None:
        """Name the pictures of the old data set in the new one: those of the subject, else all."""
        with self._stores.sessions.begin() as session:
            old = self._job.dataset_id
            pictures = list(session.scalars(select_scans(old, ("picture",), subject)))
            pictures = pictures or list(session.scalars(select_scans(old, ("picture",))))
            owner = session.scalar(
                select(Subject).join(Dataset).where(
                    Dataset.name == self._job.params["output"], Subject.label == subject
                )
            )  # fmt: skip
            assert owner is not None
            there = ImagingSession.subject_id == owner.id, ImagingSession.label == _STIMULI
            visit = session.scalar(select(ImagingSession).where(*there))
            if visit is not None or not pictures:
                return
            visit = ImagingSession(subject_id=owner.id, label=_STIMULI)
            kept = ("name", "kind", "geometry", "facts", "warnings", "deid_status", "held", "blob_sha256",
                    "thumbnail_sha256")  # fmt: skip
            own = {picture.name: picture for picture in pictures}
            session.add_all(
                Scan(imaging_session=visit, **{name: getattr(picture, name) for name in kept})
                for picture in own.values()
            )

    def _find_maps(self, subject: str, quality: Quality) -> dict[str, np.ndarray]:
        maps = {name: getattr(quality, name) for name in ("reliability", "explainable", "ncsnr")}
        found = {name: values for name, values in maps.items() if values is not None}
        visits = [visit for visit in self._choices if visit[0] == subject]
        for visit in visits:
            end = "" if len(visits) == 1 else f"_ses-{file_stem(visit[1])}"
            choices = self._choices[visit]
            peaks = np.array([hrf.peak_s for hrf in responses_of(self._model)])
            found |= {f"hrf-index{end}": choices.response.astype(float), f"hrf-peak{end}": peaks[choices.response],
                      f"r2{end}": choices.r2, f"fraction{end}": choices.fraction}  # fmt: skip
        return found

    def _introduce(self) -> Section:
        rows = {"Recipe": self._job.recipe, "Job": str(self._job.id), "Data set of betas": self._job.params["output"],
                "Runs": str(len(self._files)), "Confounds": ", ".join(self._job.params["options"].get("confounds", ()))
                or "six of motion, where a table gives them"}  # fmt: skip
        model = {name: str(value) for name, value in self._model.model_dump().items() if name != "fractions"}
        return Section("Estimation", rows | model, tuple(self._job.params["notes"]))

    def _describe(
        self, subject: str, betas: Betas, quality: Quality, maps: Mapping[str, np.ndarray], space: Space
    ) -> list[Section]:
        rows = {"Trials": str(len(betas.values)), "Stimuli": str(len(set(betas.stimulus_ids.tolist()))),
                "Stimuli repeated": str(quality.repeated), "Voxels": str(len(space))}  # fmt: skip
        if quality.reliability is not None and quality.explainable is not None:
            rows |= {"Median reliability": f"{np.median(quality.reliability):.3f}",
                     "Voxels of reliability above 0.3": str(int((quality.reliability > 0.3).sum())),
                     "Median noise ceiling (share of variance)": f"{np.median(quality.explainable):.3f}"}  # fmt: skip
        pictures = {_TITLES[name.partition("_")[0]] + name.partition("_")[2].replace("_", " "): draw_map(
            _to_volume(values, space), f"{_TITLES[name.partition('_')[0]]}, {subject}", name, _LIMITS.get(name)
        ) for name, values in maps.items()}  # fmt: skip
        sections = [Section(f"Subject {subject}", rows, (quality.alignment.line(),), pictures)]
        for visit, choices in self._choices.items():
            if visit[0] == subject:
                first = next(files for files in self._files if (files.subject, files.session) == visit)
                design = {f"Design of {first.name}": read_output(self._stores, self._runs[first.key], "design")}
                sections.append(_describe_session(visit, choices, design))
        return sections


_TITLES = {
    "reliability": "Reliability of averages over repeats",
    "explainable": "Noise ceiling: share of variance that can be explained",
    "ncsnr": "Signal to noise (ncsnr)",
    "hrf-index": "Number of the response in the library",
    "hrf-peak": "Peak of the response, s",
    "r2": "Variance explained in the runs themselves",
    "fraction": "Fraction to which betas were shrunk",
}
_LIMITS = {"reliability": (0.0, 1.0), "explainable": (0.0, 1.0), "fraction": (0.0, 1.0)}


def _describe_session(visit: tuple[str, str], choices: Choices, design: Mapping[str, bytes]) -> Section:
    rows = {"Estimated by": choices.estimate, "Noise components": str(choices.count),
            "Voxels that gave them": str(int(choices.pool.sum())),
            "Voxels with a response": f"{int((choices.gain >= 3).sum())} of {len(choices.gain)}",
            "Median fraction": f"{np.median(choices.fraction):.2f}"}  # fmt: skip
    title = f"Session {visit[1]} of {visit[0]}"
    curve = {"Prediction of held-out runs": draw_scores(choices.count_scores, choices.count, title)}
    return Section(title, rows, choices.notes, {**design, **(curve if len(choices.count_scores) else {})})


def _to_volume(values: np.ndarray, space: Space) -> np.ndarray:
    assert space.grid is not None
    whole = fill_space(values, space, np.nan)[0].reshape(space.grid.shape)
    return turn(whole, space.grid)


def _write_maps(subject: str, maps: Mapping[str, np.ndarray], space: Space, folder: Path) -> list[OutputFile]:
    files = []
    for name, values in maps.items():
        finite = np.nan_to_num(values, posinf=float(np.finfo(np.float32).max))
        [path] = write_map(folder / f"sub-{file_stem(subject)}_{name}.nii.gz", finite, space)
        files.append(OutputFile(f"map_{name}"[:40], path.name, NIFTI, path.read_bytes()))
    return files


def _score(subject: str, quality: Quality) -> list[Score]:
    if quality.reliability is None or quality.explainable is None:
        return []
    aligned = quality.alignment
    return [
        Score("reliability", float(np.median(quality.reliability)), subject, detail={"of": "median over voxels"}),
        Score("noise_ceiling", float(np.median(quality.explainable)), subject, detail={"of": "median over voxels"}),
        Score("repeat_agreement", aligned.reliability or 0.0, subject,
              detail={"null_mean": aligned.null_mean, "p": aligned.p, "pairs": aligned.pairs}),
    ]  # fmt: skip
