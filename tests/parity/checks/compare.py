"""How far what we compute lies from what was published."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from checks.files import BrokenFixture


class Disagreement(Exception):
    """What we compute is not what the fixture holds."""


@dataclass(frozen=True)
class Tolerance:
    """Largest error allowed: `absolute + relative * |expected|`."""

    absolute: float
    relative: float

    @classmethod
    def read(cls, facts: dict[str, Any], part: str | None = None) -> "Tolerance":
        """Return the tolerance that a JSON states, or of one part of it where it states several."""
        try:
            stated = facts[part] if part else facts
            return cls(float(stated["atol"]), float(stated["rtol"]))
        except KeyError as error:
            raise BrokenFixture(f"the tolerances {facts} have no entry {error}") from error


@dataclass(frozen=True)
class Figure:
    """Largest errors of one output.

    Parameters
    ----------
    file, output : where it stands
    values : numbers compared
    absolute : largest |found - expected|
    relative : largest |found - expected| / |expected|, over the values that exceed the absolute tolerance
    used : largest share of the tolerance; up to 1 agrees
    problem : why the two cannot be compared, or nothing
    """

    file: str
    output: str
    values: int
    absolute: float
    relative: float
    used: float
    problem: str = ""

    @property
    def agrees(self) -> bool:
        """Whether every value lies within its tolerance."""
        return not self.problem and self.used <= 1

    def as_row(self) -> dict[str, Any]:
        """Return the figure in plain types, to travel between processes."""
        return {**asdict(self), "agrees": self.agrees}

    def __str__(self) -> str:
        what = self.problem or (
            f"largest error {self.absolute:.3g} (relative {self.relative:.3g}), {self.used:.3g} times the tolerance"
        )
        return f"{self.output}: {what}"


def compare(name: tuple[str, str], found: Any, expected: Any, tolerance: Tolerance) -> Figure:
    """Return the errors of one output, whose file and own name are given."""
    got, want = _to_array(found), _to_array(expected)
    if got.shape != want.shape and not got.size == want.size == 1:
        return Figure(*name, want.size, np.inf, np.inf, np.inf, f"found shape {got.shape}; expected {want.shape}")
    got = got.reshape(want.shape)
    whole = want.dtype.kind in "iub"
    if whole != (got.dtype.kind in "iub"):
        return Figure(*name, want.size, np.inf, np.inf, np.inf, f"found {got.dtype}; expected {want.dtype}")
    if not np.array_equal(np.isfinite(got), np.isfinite(want)):
        return Figure(*name, want.size, np.inf, np.inf, np.inf, "not finite in other places than expected")
    got, want = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.where((got == want) | (np.isnan(got) & np.isnan(want)), 0.0, np.abs(got - want))
    size = np.where(np.isfinite(want), np.abs(want), 0.0)
    allowed = 0.0 if whole else tolerance.absolute + tolerance.relative * size
    used = np.divide(
        error, allowed, out=np.where(error > 0, np.inf, 0.0), where=np.broadcast_to(allowed > 0, error.shape)
    )
    large = size > tolerance.absolute
    relative = np.divide(error, size, out=np.zeros_like(error), where=large)
    return Figure(*name, want.size, *(float(values.max(initial=0)) for values in (error, relative, used)))


def _to_array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
    return np.asarray(value)
