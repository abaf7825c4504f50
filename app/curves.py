"""Where the curve of a training goes beside its file."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from voxelight.models.errors import Unavailable

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Rows = list[dict[str, float]]


class Log(Protocol):
    """A place for rows, each with its ``step``."""

    def write(self, rows: Rows) -> None:
        """Add rows."""

    def rewind(self, step: int) -> None:
        """Forget the rows from this step on."""


class Logs:
    """Several places at once."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = logs

    def write(self, rows: Rows) -> None:
        """Add rows to each."""
        for log in self._logs:
            log.write(rows)

    def rewind(self, step: int) -> None:
        """Forget the rows from this step on in each."""
        for log in self._logs:
            log.rewind(step)


class TensorBoardLog:
    """Event files that TensorBoard reads.

    Parameters
    ----------
    folder : of the event files of one training

    Raises
    ------
    Unavailable
        The package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import_module("tensorboard")
        except ImportError:
            raise Unavailable("no package tensorboard", "it, to write event files",
                              "Install it: pip install 'voxelight[tensorboard]'.") from None  # fmt: skip
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def write(self, rows: Rows) -> None:
        """Add rows."""
        writer = self._open(None)
        for row in rows:
            for name in row.keys() - {"step"}:
                writer.add_scalar(name.replace(" ", "/", 1), row[name], int(row["step"]))
        writer.flush()

    def rewind(self, step: int) -> None:
        """Let TensorBoard leave out the rows from this step on, which will come again."""
        if self._folder.exists():
            self._open(step)

    def _open(self, purge: int | None) -> "SummaryWriter":
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=purge)
        return self._writer
