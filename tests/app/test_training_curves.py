"""Event files of a training, read by TensorBoard itself."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from voxelight.app.curves import Logs, TensorBoardLog
from voxelight.storage.training_log import TrainingLog


def rows(start, stop):
    return [{"step": step, "loss": 1 / (1 + step), "dice left lung": step / 10} for step in range(start, stop)]


def test_tensorboard_reads_the_curve_and_forgets_what_was_taken_up_again(tmp_path):
    board, log = tmp_path / "board", TrainingLog(tmp_path / "log.jsonl")
    Logs([log, TensorBoardLog(board)]).write(rows(0, 8))
    taken_up = Logs([log, TensorBoardLog(board)])
    taken_up.rewind(5)
    taken_up.write([{**row, "loss": 9.0} for row in rows(5, 7)])
    read = EventAccumulator(str(board)).Reload()
    assert set(read.Tags()["scalars"]) == {"loss", "dice/left lung"}
    for tag, name in (("loss", "loss"), ("dice/left lung", "dice left lung")):
        found = {event.step: event.value for event in read.Scalars(tag)}
        assert found == pytest.approx({row["step"]: row[name] for row in log.rows()})
    assert [row["loss"] for row in log.rows()][5:] == [9, 9]
