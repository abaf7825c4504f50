"""Published checkpoints to the parts of a profile: once, whole or not at all, in flat memory."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor

from voxelight.models.checkpoints import find_checkpoint, read_checkpoint
from voxelight.models.errors import BadInput, Conflict, Unavailable
from voxelight.models.layouts import LAYOUTS, Network, describe_network, sort_tensors
from voxelight.models.published import PublishedFile, find_published
from voxelight.models.records import (
    Dtype,
    Fetched,
    Manifest,
    PartRecord,
    StoredFile,
    alone,
    fetched_folder,
    find_fetched,
    find_manifest,
    hash_file,
    require_acceptance,
    storing,
    write_record,
)
from voxelight.models.shards import Entry, plan_shards, write_shard

OnBytes = Callable[[int, int], object]


class ConvertOptions(BaseModel):
    """What a person may choose about a conversion.

    Parameters
    ----------
    dtype : precision of the matrices; vectors (norms, biases) and buffers (schedules) are never rounded
    shard_bytes : size of one file; a single larger tensor has its own
    sizes : part -> configuration of its network, for weights of other sizes than the published ones
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Dtype = "keep"
    shard_bytes: PositiveInt = 2 << 30
    sizes: dict[str, dict[str, Any]] = {}


def find_sources(folder: Path, row: PublishedFile) -> list[Path]:
    """Return the fetched files that a conversion reads: the file itself, then those that it needs.

    Raises
    ------
    Unavailable
        One was not fetched.
    """
    paths = []
    for needed in (row, *map(find_published, row.needs)):
        fetched = find_fetched(folder, needed.name)
        path = fetched_folder(folder, needed.name) / (fetched.stored.file if fetched else needed.file)
        if not path.is_file():
            raise Unavailable(
                f"no file {path}",
                f"{needed.file} of {needed.repository}, licence {needed.licence}",
                f"Run voxelight weights fetch {needed.name}, or name a file that you have.",
            )
        paths.append(path)
    return paths


def convert(
    row: PublishedFile,
    paths: Sequence[Path],
    folder: Path,
    options: ConvertOptions | None = None,
    on_bytes: OnBytes | None = None,
) -> Manifest:
    """Write the parts of a published checkpoint as safetensors, with a manifest.

    Parameters
    ----------
    row : which it is
    paths : the checkpoint, then the files that it needs, in the order of ``row.needs``
    folder : of all weights; the parts go into a folder of the row's name
    options : precision, size of the files, sizes of the networks
    on_bytes : called with (written, in all) after each piece

    Returns
    -------
    what was written; the manifest of an earlier conversion where it is there already

    Raises
    ------
    Refused
        A licence was not agreed to.
    BadInput
        A file is not this checkpoint: damaged, a tensor missing, one too many, or of another shape.
    Conflict
        It was converted before in another way, or is being converted now.
    Unavailable
        The disk is too small, or a file can't be read or written.
    """
    options = options or ConvertOptions()
    _check(row, paths, options)
    rows = [row, *map(find_published, row.needs)]
    accepted = tuple(require_acceptance(folder, needed) for needed in rows)
    with alone(folder, row.name, "being converted"), storing(folder):
        before = find_manifest(folder, row.name)
        if before is not None:
            return _same(before, folder, options)
        if (folder / row.name).exists():
            raise Conflict(f"{folder / row.name} without a manifest", "no such folder", "Move it away and try again.")
        stage = folder / f".converting-{row.name}"
        shutil.rmtree(stage, ignore_errors=True)  # of a conversion that was killed
        stage.mkdir(parents=True)
        try:
            networks = {
                part: describe_network(sizes.network, {**sizes.config, **options.sizes.get(part, {})})
                for part, sizes in row.parts.items()
            }
            tensors = _open(row, paths, networks)
            sources = tuple(_describe(folder, *pair) for pair in zip(rows, map(find_checkpoint, paths), strict=True))
            manifest = Manifest(
                name=row.name,
                dtype=options.dtype,
                time=datetime.now(UTC),
                sources=sources,
                accepted=accepted,
                parts=_write(stage, row, networks, tensors, options, on_bytes),
                vocabulary=_keep_vocabulary(rows, paths, stage),
            )
            write_record(stage / "manifest.json", manifest)
            stage.rename(folder / row.name)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    return manifest


def _check(row: PublishedFile, paths: Sequence[Path], options: ConvertOptions) -> None:
    if not row.parts:
        raise BadInput(
            f"{row.name}, which gives no part", "weights that a profile uses", f"{row.note} Name other weights."
        )
    if len(paths) != 1 + len(row.needs):
        files = ", ".join([row.name, *row.needs])
        raise BadInput(f"files: {len(paths)}", f"{1 + len(row.needs)}, those of {files}", "Name them in this order.")
    unknown = set(options.sizes) - set(row.parts)
    if unknown:
        raise BadInput(f"sizes of {', '.join(sorted(unknown))}", f"of {', '.join(row.parts)}", "Correct the sizes.")


def _open(row: PublishedFile, paths: Sequence[Path], networks: Mapping[str, Network]) -> dict[str, dict[str, Tensor]]:
    root = LAYOUTS[row.layout].root
    rows = (row, *map(find_published, row.needs))
    opened = [
        read_checkpoint(path, root) for needed, path in zip(rows, paths, strict=True) if needed.layout != "vocabulary"
    ]
    return sort_tensors(row.layout, opened, networks)


def _describe(folder: Path, row: PublishedFile, path: Path) -> Fetched:
    """Say where a file came from, and refuse one that is not what was published or fetched."""
    size = path.stat().st_size
    fetched = find_fetched(folder, row.name)
    own = fetched is not None and path.resolve() == (fetched_folder(folder, row.name) / fetched.stored.file).resolve()
    sha256 = hash_file(path)
    known = fetched.stored.sha256 if fetched and own else row.sha256
    if known and sha256 != known:
        raise Conflict(
            f"{path} with sha256 {sha256}",
            f"sha256 {known}",
            f"The file was changed or damaged: remove it, then run voxelight weights fetch {row.name}.",
        )
    if fetched and own:
        return fetched
    stored = StoredFile(file=path.name, sha256=sha256, size=size)
    return Fetched(name=row.name, repository="", revision="", stored=stored, time=datetime.now(UTC))


def _write(
    stage: Path,
    row: PublishedFile,
    networks: Mapping[str, Network],
    tensors: Mapping[str, Mapping[str, Tensor]],
    options: ConvertOptions,
    on_bytes: OnBytes | None,
) -> dict[str, PartRecord]:
    plans = {
        part: plan_shards(part, _choose(options.dtype, network, tensors[part]), options.shard_bytes)
        for part, network in networks.items()
    }
    total = sum(entry.size for plan in plans.values() for shard in plan.values() for entry in shard)
    free = shutil.disk_usage(stage).free
    if free < total:
        raise Unavailable(
            f"{free / 1e9:.1f} GB free at {stage.parent}",
            f"{total / 1e9:.1f} GB for {row.name}",
            "Make room, or name another folder with VOXELIGHT_WEIGHTS.",
        )
    written = 0

    def _count(size: int) -> None:
        nonlocal written
        written += size
        if on_bytes:
            on_bytes(written, total)

    metadata = {"licence": row.licence, "weights": row.name}
    return {
        part: PartRecord(
            network=row.parts[part].network,
            config={**row.parts[part].config, **options.sizes.get(part, {})},
            tensors=len(networks[part].shapes),
            elements=sum(tensor.numel() for tensor in tensors[part].values()),
            files=tuple(write_shard(stage / file, shard, metadata, _count) for file, shard in plan.items()),
        )
        for part, plan in plans.items()
    }


def _choose(dtype: Dtype, network: Network, tensors: Mapping[str, Tensor]) -> list[Entry]:
    """Round matrices only: norms, biases and schedules are small, and suffer from it."""
    entries = []
    for key in network.shapes:
        tensor = tensors[key]
        kept = dtype == "keep" or tensor.ndim < 2 or key not in network.parameters or not tensor.is_floating_point()
        entries.append(Entry(key, tensor, tensor.dtype if kept else getattr(torch, dtype)))
    return entries


def _keep_vocabulary(rows: Sequence[PublishedFile], paths: Sequence[Path], stage: Path) -> StoredFile | None:
    for row, path in zip(rows, paths, strict=True):
        if row.layout == "vocabulary":
            kept = Path(shutil.copyfile(path, stage / "vocab.txt"))
            return StoredFile(file=kept.name, sha256=hash_file(kept), size=kept.stat().st_size)
    return None


def _same(before: Manifest, folder: Path, options: ConvertOptions) -> Manifest:
    sizes = {part: {**record.config, **options.sizes.get(part, {})} for part, record in before.parts.items()}
    if before.dtype != options.dtype or sizes != {part: record.config for part, record in before.parts.items()}:
        raise Conflict(
            f"{before.name} converted with dtype {before.dtype}",
            f"dtype {options.dtype} and the same sizes",
            f"Use it as it is, or remove the folder {folder / before.name} and convert again.",
        )
    return before
