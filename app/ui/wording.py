"""How numbers, times and states are said on the page."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from voxelight.app.schemas import JobAnswer, MetricAnswer, RecipeAnswer

STATUS_COLOURS = {
    "queued": "gray",
    "pending": "gray",
    "running": "blue",
    "done": "green",
    "failed": "red",
    "cancelled": "orange",
}
STATUS_ICONS = {
    "queued": ":material/schedule:",
    "pending": ":material/schedule:",
    "running": ":material/sync:",
    "done": ":material/check:",
    "failed": ":material/close:",
    "cancelled": ":material/block:",
}
KINDS = {
    "volume": "3-D image",
    "series": "4-D image",
    "betas": "Betas",
    "recording": "Folder of betas",
    "events": "Events table",
    "confounds": "Confounds of a run",
    "sidecar": "Sidecar of a run",
    "picture": "Picture",
    "segment": "Segmentation",
    "reconstruct": "Reconstruction",
    "decode": "Decoding",
    "train-segmenter": "Training of a segmentation",
    "train-decoder": "Training of a decoder",
    "train-linear": "Fit of a linear decoder",
    "glm": "Estimation of betas",
}
DECODING = ("reconstruct", "decode")
STOPS = {
    "tokens": "CLIP tokens",
    "caption": "Caption",
    "unrefined": "Caption and unrefined picture",
    "refined": "Caption and refined picture",
}
PRESETS = {"published": "As published", "fast": "Fast"}
KIND_COLOURS: dict[str, Literal["blue", "violet", "green", "orange"]] = {
    "segment": "blue",
    "reconstruct": "violet",
    "decode": "green",
    "train-segmenter": "orange",
    "train-decoder": "orange",
    "train-linear": "orange",
    "glm": "blue",
}
CONSENTS = {
    "none": "None: not to be decoded",
    "given": "Given by the people who were scanned",
    "public": "Public data, shared for research",
    "simulated": "Simulated: nobody was scanned",
}
ACTIVE = ("queued", "running")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#+\-!|~$:])")
_SHORT_HASH = 12


def plain(text: object) -> str:
    """Return text that markdown shows as it stands, whatever a file is called."""
    return _MARKDOWN.sub(r"\\\1", str(text))


def say_size(size: float) -> str:
    """Return a number of bytes with its unit."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError  # the last unit takes everything


def say_time(when: datetime | None) -> str:
    """Return a time in UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if when else "–"


def say_seconds(seconds: float) -> str:
    """Return a length of time."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def say_precisely(seconds: float) -> str:
    """Return a length of time, with a tenth below ten seconds."""
    return f"{seconds:.1f} s" if seconds < 9.95 else say_seconds(seconds)


def say_pace(job: JobAnswer, now: datetime) -> str:
    """Return where a job stands in its queue, or how long it has run and how much is left, where that can be told."""
    left = (
        "no estimate yet" if job.seconds_left is None else f"about {say_seconds(max(1, job.seconds_left))} of work left"
    )
    if job.status == "queued":
        return f"{say_place(job.place)} on queue {job.queue}, {left}"
    if job.started_at is None:
        return "not started"
    elapsed = say_seconds(max(0.0, ((job.finished_at or now) - job.started_at).total_seconds()))
    if job.status == "running" and job.done + job.failed == job.total:
        return f"gathering what belongs to the job as a whole, running for {elapsed}"
    return f"running for {elapsed}, {left}" if job.status == "running" else f"took {elapsed}"


def say_place(place: int | None) -> str:
    """Return a place in a queue."""
    if place is None:
        return "in line"
    if place == 1:
        return "next in line"
    ending = "th" if 10 < place % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending} in line"


def say_count(job: JobAnswer) -> str:
    """Return how many items are done and how many failed."""
    failed = f", {job.failed} failed" if job.failed else ""
    return f"{job.done} of {job.total} done{failed}"


def say_hash(sha256: str) -> str:
    """Return the first digits of a hash."""
    return sha256[:_SHORT_HASH] if sha256 else "fitted in every run"


def say_weights(recipe: RecipeAnswer) -> str:
    """Return the hash of the weights of a recipe, or where they come from."""
    if recipe.weights_sha256:
        return recipe.weights_sha256
    if recipe.kind == "decode":
        return "random, nothing was learnt" if recipe.random_weights else "published, to be fetched once"
    return "fitted anew in every run"


def say_number(value: float | None) -> str:
    """Return a score or probability."""
    return "–" if value is None else f"{value:z.3g}" if abs(value) < 0.001 else f"{value:.3f}"


def say_score(name: str) -> str:
    """Return the name of a score; what stands behind a dot needs no decoder."""
    score, _, baseline = name.partition(".")
    return f"{say_name(score)} of the baseline: {say_name(baseline).lower()}" if baseline else say_name(score)


def say_many(count: int, noun: str) -> str:
    """Return a number of things."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def say_interval(metric: MetricAnswer) -> str:
    """Return the 95 % interval of a score."""
    if metric.low is None or metric.high is None:
        return "–"
    return f"{say_number(metric.low)} to {say_number(metric.high)}"


def say_name(key: str) -> str:
    """Return a key of the database as words."""
    words = key.replace("_", " ")
    return words[:1].upper() + words[1:]


def say_fact(value: Any) -> str:
    """Return a fact of the intake check."""
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def say_grid(geometry: dict[str, Any]) -> str:
    """Return shape, voxel size and orientation of an image in one line."""
    if not geometry:
        return ""
    return (
        f"{_times(geometry['shape'])} voxels of {_times(geometry['spacing_mm'])} mm, "
        f"stored as {geometry['orientation']}"
    )


def _times(sides: Sequence[float]) -> str:
    return " × ".join(f"{side:.4g}" for side in sides)
