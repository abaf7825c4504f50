"""Change files where that reaches code not reached before (atheris, libFuzzer), and give them to a door of the intake.

python tests/fuzz/guided.py nifti --runs 5000

It ends at the first surprise, whose file it leaves in the folder that it names.
"""

import argparse
import os
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import atheris

with atheris.instrument_imports(include=["voxelight.storage", "nibabel", "pydicom", "PIL", "tifffile", "zipfile"]):
    import inside
    from corpus import FORMATS, write_corpus

    import voxelight.storage.formats.deidentify
    import voxelight.storage.formats.dicom.bundle
    import voxelight.storage.formats.dicom.clean
    import voxelight.storage.formats.dicom.volume
    import voxelight.storage.formats.fmri.examine
    import voxelight.storage.formats.fmri.hdf5_table
    import voxelight.storage.formats.itk
    import voxelight.storage.formats.tiff  # noqa: F401

from voxelight.storage.confine import limit_files, limit_resources

_NAMES = {"nifti": ("a.nii", "a.nii.gz"), "dicom": ("a.dcm", "a.dcm.zip"), "hdf5": ("betas.h5",), "zip": ("a.zip",),
          "picture": ("a.png", "a.jpg", "a.tif"), "json": ("a_bold.json",),
          "other": ("b.mat", "a.nrrd", "a.mha", "a_events.tsv")}  # fmt: skip
_MAGIC = {b"\x1f\x8b": ".nii.gz", b"PK": ".zip", b"\xff\xd8": ".jpg", b"\x89P": ".png", b"II": ".tif", b"MM": ".tif",
          b"NR": ".nrrd", b"Ob": ".mha", b"MA": ".mat"}  # fmt: skip


def name_for(kind: str, content: bytes) -> str:
    """Return the name under which a file gets beyond the look at its first bytes."""
    suffix = _MAGIC.get(content[:2], "")
    return next((name for name in _NAMES[kind] if suffix and name.endswith(suffix)), _NAMES[kind][-1 if suffix else 0])


def main() -> None:
    """Fuzz one format; libFuzzer ends the process, so the counts are printed every 500 files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=FORMATS)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=8)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="guided-"))
    seeds = write_corpus(folder / "corpus")
    (folder / inside.INPUTS).mkdir()
    os.chdir(folder)
    limit_files(folder, [Path(__file__).resolve().parent])
    limit_resources(1 << 30, 3600, 1 << 30)
    counts: Counter[str] = Counter()

    def take(content: bytes) -> None:
        told = inside.take_one(asked.kind, name_for(asked.kind, content), content, folder)
        counts[told["outcome"]] += 1
        if sum(counts.values()) % 500 == 0:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(asked.kind, dict(counts), f"{memory} MB", flush=True)
        if told["outcome"] == "unforeseen":
            raise AssertionError(told["why"])

    how = [f"-runs={asked.runs}", f"-seed={asked.seed}", "-max_len=65536", "-timeout=20", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *how, str(seeds[asked.kind][0].parent)], take)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
