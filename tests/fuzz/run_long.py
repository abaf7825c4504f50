"""Give very many changed files to the intake, and count what becomes of them.

python tests/fuzz/run_long.py --inputs 100000 --seed 8 --out counts.json
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
# Also for the server of the sandbox, which imports the doors from here.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))

from corpus import FORMATS, write_corpus  # noqa: E402
from inside import LOG  # noqa: E402

from voxelight.storage.sandbox import Limits, Sandbox, Stopped  # noqa: E402

_MODULES = ("inside", "voxelight.storage.formats.deidentify", "voxelight.storage.formats.dicom.bundle", "SimpleITK",
            "voxelight.storage.formats.dicom.clean", "voxelight.storage.formats.dicom.volume", "pydicom.pixels",
            "voxelight.storage.formats.tiff", "voxelight.storage.formats.itk", "h5py",
            "voxelight.storage.formats.fmri.examine", "voxelight.storage.formats.fmri.hdf5_table")  # fmt: skip


MEMORY_BYTES, SECONDS = 1 << 30, 120.0


class Counts:
    """What became of the files of one format."""

    def __init__(self) -> None:
        self.tried = self.memory = 0
        self.seconds = 0.0
        self.outcomes: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.unforeseen: dict[str, list[int]] = {}
        self.ended: dict[str, list[int]] = {}
        self.slowest = self.largest = -1

    def add(self, number: int, told: dict[str, Any]) -> None:
        self.tried += 1
        self.outcomes[told["outcome"]] += 1
        if told["outcome"] == "refused":
            self.refusals[told.get("why", "none of its parts")] += 1
        if told["outcome"] == "unforeseen":
            self.unforeseen.setdefault(told["why"], []).append(number)
        if told["seconds"] > self.seconds:
            self.seconds, self.slowest = told["seconds"], number
        if told["memory"] > self.memory:
            self.memory, self.largest = told["memory"], number

    def end(self, number: int, why: str) -> None:
        """Note a file at which the child ended."""
        self.tried += 1
        self.outcomes["ended"] += 1
        self.ended.setdefault(why, []).append(number)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data; of numbers of files the first few."""
        few = lambda found: {why: [len(numbers), *numbers[:5]] for why, numbers in sorted(found.items())}  # noqa: E731
        return {
            "tried": self.tried, "outcomes": dict(self.outcomes), "slowest_s": round(self.seconds, 3),
            "slowest": self.slowest, "largest_mb": round(self.memory / 1e6), "largest": self.largest,
            "unforeseen": few(self.unforeseen), "ended": few(self.ended),
            "refusals": dict(self.refusals.most_common(12)),
        }  # fmt: skip


class Logged(Sandbox):
    """A sandbox that keeps the log of its last child, whatever became of that one."""

    log = ""

    @contextmanager
    def opened_folder(self) -> Iterator[Path]:
        """As the sandbox does."""
        self.log = ""
        with super().opened_folder() as folder:
            try:
                yield folder
            finally:
                with suppress(FileNotFoundError):
                    self.log = (folder / LOG).read_text()


def run(work: Path, kind: str, seeds: list[Path], seed: int, spans: list[range]) -> Counts:
    """Give ranges of numbered files to one door; a child that ends is followed by another, behind where it ended."""
    counts = Counts()
    with closing(Logged(Limits(MEMORY_BYTES, SECONDS), work)) as sandbox:
        for span in spans:
            first = span.start
            while first < span.stop:
                given = {"kind": kind, "seeds": [str(path) for path in seeds], "seed": seed}
                why = ask(sandbox, given | {"first": first, "last": span.stop}, kind, [*seeds, HERE])
                lines = [line for line in sandbox.log.splitlines() if line.endswith("}")]
                for place, line in enumerate(lines):
                    counts.add(first + place, json.loads(line))
                first += len(lines)
                if first < span.stop:
                    counts.end(first, why)
                    first += 1
    return counts


def ask(sandbox: Logged, given: dict[str, Any], kind: str, reads: list[Path]) -> str:
    """Return why a child ended before its time, empty where it did not."""
    try:
        with sandbox.run("inside:take_many", given, kind, reads, _MODULES):
            return ""
    except Stopped as error:
        return error.found


def look_around(folder: Path) -> list[tuple[str, int]]:
    """Return what lies below a folder with its sizes, what children work in left out."""
    return sorted((str(path), path.stat().st_size) for path in folder.rglob("*") if "checked-" not in str(path))


def fuzz(formats: list[str], inputs: int, seed: int, at_once: int, batch: int) -> dict[str, Any]:
    """Give about so many files to the intake, the same share to each format, and return the counts."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
        work = Path(folder, "work")
        work.mkdir()
        seeds = write_corpus(Path(folder, "corpus"))
        before = look_around(Path(folder))
        each = -(-inputs // len(formats))
        spans = {kind: [range(at, min(at + batch, each)) for at in range(0, each, batch)] for kind in formats}
        began = time.monotonic()
        due = {kind: pool.submit(run, work, kind, seeds[kind], seed, spans[kind]) for kind in formats}
        counts = {}
        for kind, found in due.items():
            counts[kind] = found.result().as_dict()
            print(kind, json.dumps(counts[kind], indent=1), flush=True)
        return {
            "seed": seed, "inputs": sum(each["tried"] for each in counts.values()), "formats": counts,
            "seconds": round(time.monotonic() - began), "written_elsewhere": look_around(Path(folder)) != before,
        }  # fmt: skip


def main() -> int:
    """Run, print and write the counts; 1 where a child ended early, a reader was surprised or a file lies elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=FORMATS)
    parser.add_argument("--at-once", type=int, default=1, help="children at once")
    parser.add_argument("--batch", type=int, default=250, help="files in one child")
    parser.add_argument("--out", type=Path, help="file for the counts, as JSON")
    asked = parser.parse_args()
    found = fuzz(asked.formats, asked.inputs, asked.seed, asked.at_once, asked.batch)
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "formats"}))
    outcomes: Counter[str] = Counter()
    for each in found["formats"].values():
        outcomes.update(each["outcomes"])
    print(dict(outcomes))
    return int(found["written_elsewhere"] or outcomes["ended"] > 0 or outcomes["unforeseen"] > 0)


if __name__ == "__main__":
    sys.exit(main())
