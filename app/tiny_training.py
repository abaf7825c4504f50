"""A training of the `tiny` profile on disk: weights, curve and record of each stage, and the files that ship."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save

from voxelight.models.errors import NotFound
from voxelight.models.training.loop import Hooks, LoopOptions
from voxelight.neuro.tiny.descent import Sitting, State
from voxelight.neuro.tiny.pack import FILES, SAMPLE, halve, list_words
from voxelight.storage.artifacts import hash_file
from voxelight.storage.checkpoints import CheckpointFolder
from voxelight.storage.formats.streams import replacing
from voxelight.storage.training_log import TrainingLog

SHIPPED = "shipped"
_OPTIONS = LoopOptions(checkpoint_s=60, log_steps=25)
_FIGURES, _POINTS = "figures.jsonl", 100


class TrainingFolder:
    """Where the stages of a training are kept.

    Parameters
    ----------
    folder : made where it is missing
    facts : written into every record, such as the device
    watch : called before each step with (stage, steps done, steps in all)
    """

    def __init__(
        self,
        folder: Path,
        facts: Mapping[str, Any] | None = None,
        watch: Callable[[str, int, int], None] = lambda *_: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._facts, self._watch = folder, dict(facts or {}), watch
        self._started: dict[str, float] = {}

    def find(self, stage: str) -> State | None:
        """Return the weights of a stage that is finished, or None."""
        path = self._weights(stage)
        return load_file(path) if path.is_file() else None

    def missing(self) -> list[str]:
        """Return the stages that ship something and are not finished."""
        return [stage for stage in FILES.values() if not self._weights(stage).is_file()]

    def keep(self, stage: str, state: State, record: dict[str, Any]) -> None:
        """Keep weights, after the record of what they were made from."""
        curve = self.log(stage).rows()
        shown = curve[:: max(1, len(curve) // _POINTS)]
        seconds = round(time.perf_counter() - self._started[stage], 1)  # of this run, where it was taken up
        told = {**record, **self._facts, "steps": len(curve), "seconds": seconds, "curve": shown}
        _write(self.folder / f"{stage}.json", json.dumps(told, indent=1).encode())
        _write(self._weights(stage), save(state))

    def sit(self, stage: str, steps: int) -> Sitting:
        """Return what a run of a stage is given: checkpoints, curve and interruption."""
        self._started[stage] = time.perf_counter()
        self._watch(stage, 0, steps)
        hooks = Hooks(
            CheckpointFolder(self.folder / f"{stage}-checkpoints"),
            self.log(stage),
            lambda done, total: self._watch(stage, done, total),
        )
        return Sitting(hooks, _OPTIONS)

    def log(self, stage: str) -> TrainingLog:
        """Return the curve of a stage."""
        return TrainingLog(self.folder / f"{stage}-curve.jsonl")

    def tell(self, figures: Mapping[str, Any]) -> None:
        """Add figures to those of the training."""
        with (self.folder / _FIGURES).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(dict(figures)) + "\n")

    def ship(self, names: Sequence[str], sample: tuple[State, dict[str, list[str]]]) -> list[Path]:
        """Write what stages gave as the files that ship, with their hashes.

        Parameters
        ----------
        names : of the classes
        sample : of `voxelight.neuro.tiny.pack.take_sample`

        Raises
        ------
        NotFound
            A stage is not finished.
        """
        if missing := self.missing():
            raise NotFound(f"no weights of {', '.join(missing)}", "those of all stages", "Run these stages first.")
        out = self.folder / SHIPPED
        out.mkdir(exist_ok=True)
        betas, ids = sample
        contents = {f"{SAMPLE}.safetensors": save(betas), f"{SAMPLE}.json": _encode(ids)}
        contents["tiny-words.json"] = _encode(list_words(names))
        for name, stage in FILES.items():
            contents[f"{name}.safetensors"] = save(halve(load_file(self._weights(stage)), stage))
        for name, content in contents.items():
            _write(out / name, content)
        hashes = {name: hash_file(out / name) for name in sorted(contents)}
        _write(out / "sha256.json", _encode(hashes))
        return [out / name for name in sorted(contents)]

    def _weights(self, stage: str) -> Path:
        return self.folder / f"{stage}.safetensors"


def _encode(content: Any) -> bytes:
    return f"{json.dumps(content, indent=1)}\n".encode()


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)
