"""Ridge from voxels to more targets than memory holds: the betas are factorised once, the targets pass by in blocks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import Tensor

from voxelight.models.decoders.ridge import RidgeConfig, RidgeDecoder, choose_alphas, find_rescaling, find_rows
from voxelight.models.decoders.ridge_blocks import Reader, Writer
from voxelight.models.decoders.ridge_gram import Gram, Sharing
from voxelight.models.decoders.ridge_solver import Floats, HeldOut, Rows
from voxelight.models.errors import BadInput

OnBlock = Callable[[int, int], None]

_GIB = 2**30
_CHECKED = 4  # columns of a block that are computed once more in float64
_ALLOWED = 5e-3


class StreamOptions(BaseModel):
    """How targets pass by.

    Parameters
    ----------
    precision : of the products with targets; the factorisation is float64 whatever this says
        ``tf32`` rounds factors to ten bits of fraction on GPUs that have it, and is float32 elsewhere.
    block : targets at once
    kept_gib : memory for the matrices that carry targets to held-out predictions; what exceeds it costs another pass
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Literal["float64", "float32", "tf32"] = "float32"
    block: PositiveInt = 16_384
    kept_gib: PositiveFloat = 4.0


@dataclass(frozen=True, eq=False)
class TargetTable:
    """Targets that lie on a disk or in memory.

    Parameters
    ----------
    values : array or memory map (row, target), of any float type
    rows : array (trial,), the row of each trial; left out, they are the trials
        Trials of one stimulus share a row, which saves reading and multiplying it again.
    """

    values: Any
    rows: NDArray[np.intp] | None = None

    @property
    def sharing(self) -> Sharing:
        """Which trials share a row."""
        return Sharing(np.arange(len(self.values)) if self.rows is None else self.rows, len(self.values))


class Streamed(NamedTuple):
    """What a streamed fit gives.

    decoder : its coefficients are a view of `out`
    errors : array (alpha, target), summed squared error of held-out trials; zero where nothing was held out
    float64_error : relative error (Frobenius norm) of coefficients, over the columns that were computed twice
    """

    decoder: RidgeDecoder
    errors: NDArray[np.float64]
    float64_error: float


def fit_streamed(
    betas: Floats,
    table: TargetTable,
    config: RidgeConfig,
    out: NDArray[Any],
    folds: Sequence[Rows] = (),
    device: str = "cpu",
    options: StreamOptions = StreamOptions(),  # noqa: B008
    on_block: OnBlock | None = None,
) -> Streamed:
    """Fit a ridge whose targets and coefficients need not fit in memory.

    With centred betas X, W = (XᵀX + αI)⁻¹Xᵀ Y. The matrix before Y is made once an alpha, in float64, from the smaller
    Gram matrix (Hoerl and Kennard 1970, eq. 2.1; the dual form: Saunders, Gammerman and Vovk 1998), and every block of
    targets is one product with it. Held-out predictions of an alpha are one product with a matrix of their own.

    Parameters
    ----------
    betas : array (trial, voxel), normalised
    table : TargetTable
    config : RidgeConfig
    out : array or memory map (target, voxel), float16 or wider, which is written to
        A row is scaled to its largest magnitude, so that half precision loses nothing; the decoder holds the scales.
    folds : pairs of training rows and held-out rows; needed for several alphas, and for rescaling
    device : e.g. ``cpu`` or ``cuda:0``
    options : StreamOptions
    on_block : called with (blocks done, blocks in all) before each; what it raises ends the fit

    Raises
    ------
    BadInput
        Shapes do not fit, folds are missing, a value is not finite, or the precision is too low for these betas.
    """
    _check(betas, table, config, out, folds)
    fit = _Fit(betas, table, config, folds, torch.device(device), options, on_block or _ignore)
    with _products(options.precision):
        held_out = fit.hold_out() if config.needs_folds else None
        errors = np.zeros((1, len(out))) if held_out is None else held_out.errors
        alphas = choose_alphas(errors, config)
        solution = fit.solve(alphas, out)
    decoder = RidgeDecoder(out.T, solution.intercept, alphas, (len(out),), solution.scale)
    if config.rescale and held_out is not None:
        decoder = decoder.rescaled(find_rescaling(solution.moments, held_out.moments(find_rows(alphas, config))))
    return Streamed(decoder, errors, solution.error)


class _Solution(NamedTuple):
    intercept: NDArray[np.float64]
    scale: NDArray[np.float64]
    moments: tuple[NDArray[np.float64], NDArray[np.float64]]
    error: float


class _Fit:
    """One fit: what stays on the device, and the passes over the targets."""

    def __init__(
        self,
        betas: Floats,
        table: TargetTable,
        config: RidgeConfig,
        folds: Sequence[Rows],
        device: torch.device,
        options: StreamOptions,
        on_block: OnBlock,
    ) -> None:
        self._betas = torch.as_tensor(np.ascontiguousarray(betas)).to(device)
        self._table, self._config, self._folds = table, config, folds
        self._device, self._options, self._on_block = device, options, on_block
        self._dtype = torch.float64 if options.precision == "float64" else torch.float32
        self._sharing = table.sharing
        self._count = int(table.values.shape[1])
        self._weights = torch.as_tensor(self._sharing.counts(), device=device, dtype=self._dtype) / len(betas)

    def hold_out(self) -> HeldOut:
        """Predict held-out trials for every alpha, in as few passes over the targets as memory allows."""
        alphas = self._config.alphas
        trials = sum(len(test) for _, test in self._folds)
        found = HeldOut.start(len(alphas), np.zeros(self._count), trials)
        waiting = [(fold, row) for fold in self._folds for row in range(len(alphas))]
        while waiting:
            kept: list[tuple[int, Tensor, Tensor, Tensor]] = []
            size = 0.0
            while waiting and (not kept or size < self._options.kept_gib * _GIB):
                fold, rows = waiting[0][0], [row for some, row in waiting if some is waiting[0][0]]
                gram = self._gram(fold[0])
                for row in rows:
                    kept.append((row, *self._carry(gram, fold, alphas[row])))
                    size += kept[-1][1].nbytes
                    waiting.pop(0)
                    if size >= self._options.kept_gib * _GIB:
                        break
            self._predict(kept, found)
        return found

    def solve(self, alphas: NDArray[np.float64], out: NDArray[Any]) -> _Solution:
        """Write the coefficients of every target at its alpha, in one pass for each distinct alpha."""
        gram = self._gram(np.arange(len(self._betas)))
        intercept, scale, centre, spread = (np.zeros(self._count) for _ in range(4))
        compared = np.zeros(2)
        for alpha in np.unique(alphas):
            exact = gram.hat(float(alpha), self._sharing)
            rounded = exact.to(self._dtype)
            mean = gram.mean.to(self._dtype)
            with Writer(out) as writer:
                for columns, targets in self._blocks():
                    chosen = np.flatnonzero(alphas[columns] == alpha)
                    if not len(chosen):
                        continue
                    targets = targets if len(chosen) == targets.shape[1] else targets[:, self._index(chosen)]
                    place = columns.start + chosen
                    middle = self._weights @ targets
                    coefficients = rounded @ targets.sub_(middle)
                    compared += _compare(coefficients, exact, targets)
                    size = coefficients.abs().amax(0).clamp(min=torch.finfo(self._dtype).tiny)
                    intercept[place] = _numpy(middle - mean @ coefficients)
                    scale[place], centre[place] = _numpy(size), _numpy(middle)
                    spread[place] = _numpy((self._weights @ targets.square_()).sqrt())
                    writer.write(place, coefficients.div_(size).T)
        error = float(np.sqrt(compared[0] / max(compared[1], 1e-300)))
        if error > _ALLOWED:
            raise BadInput(
                f"coefficients that are {error:.1e} off those of float64",
                f"a relative error below {_ALLOWED:.0e}",
                "Set the precision of the fit to float32 or float64, or raise alpha.",
            )
        return _Solution(intercept, scale, (centre, spread), error)

    def _gram(self, rows: NDArray[np.intp]) -> Gram:
        return Gram(self._betas[self._index(rows)].double())

    def _carry(self, gram: Gram, fold: Rows, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return the matrix from targets to held-out predictions, the rows that it takes, and those of the truth."""
        train, test = (self._sharing.select(rows) for rows in fold)
        used, place = np.unique(train.rows, return_inverse=True)
        carried = gram.smoother(alpha, self._betas[self._index(fold[1])].double(), Sharing(place, len(used)))
        return carried.to(self._dtype), self._index(used), self._index(test.rows)

    def _predict(self, kept: list[tuple[int, Tensor, Tensor, Tensor]], found: HeldOut) -> None:
        for columns, targets in self._blocks():
            shift = self._weights @ targets
            targets.sub_(shift)
            found.shift[columns] = _numpy(shift)
            for row, carried, used, test in kept:
                predicted = carried @ targets[used]
                sums, squares = predicted.sum(0), predicted.square().sum(0)
                errors = predicted.sub_(targets[test]).square_().sum(0)
                found.add(row, columns, _numpy(errors), _numpy(sums), _numpy(squares))

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the targets (row, target) on the device, the next block being read meanwhile."""
        reader = Reader(self._table.values, self._options.block, self._device)
        for number, (columns, block) in enumerate(reader):
            self._on_block(number, len(reader))
            targets = block.to(self._dtype, copy=True)
            if not bool(torch.isfinite(targets.sum())):
                raise BadInput(
                    f"targets {columns.start} to {columns.stop - 1} with values that are not finite",
                    "finite values",
                    "Make these targets again; half precision overflows above 65504.",
                )
            yield columns, targets

    def _index(self, rows: NDArray[Any]) -> Tensor:
        return torch.as_tensor(rows, device=self._device)


def _compare(coefficients: Tensor, exact: Tensor, targets: Tensor) -> NDArray[np.float64]:
    """Return the squares of the error of a few columns and of what they should be, summed."""
    few = slice(0, _CHECKED)
    reference = exact @ targets[:, few].double()
    squares = [float(part.square().sum()) for part in (coefficients[:, few].double() - reference, reference)]
    return np.asarray(squares)


@contextmanager
def _products(precision: str) -> Iterator[None]:
    """Let GPUs round the factors of float32 products inside the block, or not, whatever holds outside."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _check(betas: Floats, table: TargetTable, config: RidgeConfig, out: NDArray[Any], folds: Sequence[Rows]) -> None:
    if config.needs_folds and not folds:
        raise BadInput(
            f"{len(config.alphas)} alphas, {'' if config.rescale else 'no '}rescaling, and no folds",
            "folds of the training rows",
            "Split the training rows by the unit that is held out.",
        )
    trials = len(table.values) if table.rows is None else len(table.rows)
    if betas.ndim != 2 or len(betas) != trials or out.shape != (table.values.shape[1], betas.shape[1]):
        raise BadInput(
            f"betas {betas.shape}, targets of {trials} trials and {table.values.shape[1]} numbers, room {out.shape}",
            "betas (trial, voxel), a target for each trial, room (target, voxel)",
            "Check that betas, targets and what is written belong together.",
        )
    if table.rows is not None and not 0 <= int(table.rows.min()) <= int(table.rows.max()) < len(table.values):
        raise BadInput(
            f"rows {table.rows.min()} to {table.rows.max()} of {len(table.values)} targets",
            "rows of the table",
            "Check that the stimuli are counted from 0.",
        )
    if not np.isfinite(betas).all():
        raise BadInput("betas that are NaN or infinite", "finite values", "Repair voxels without variance.")


def _numpy(values: Tensor) -> NDArray[np.float64]:
    return values.double().cpu().numpy()


def _ignore(_done: int, _total: int) -> None:
    pass
