"""The curve of a training in a file."""

import csv

from voxelight.storage.training_log import TrainingLog


def test_rows_are_read_as_they_were_written(tmp_path):
    log = TrainingLog(tmp_path / "new" / "log.jsonl")
    assert log.rows() == []
    log.rewind(0)
    log.write([{"step": 0, "loss": 0.1 + 0.2}, {"step": 1, "loss": 1e-300}])
    log.write([{"step": 2, "loss": 3.0, "tau": 0.004}])
    assert log.rows() == [
        {"step": 0, "loss": 0.1 + 0.2},
        {"step": 1, "loss": 1e-300},
        {"step": 2, "loss": 3.0, "tau": 0.004},
    ]
    assert [row["step"] for row in log.rows(since=2)] == [2]


def test_what_will_be_written_again_is_forgotten_with_a_line_cut_off(tmp_path):
    log = TrainingLog(tmp_path / "log.jsonl")
    log.write([{"step": step, "loss": 1.0} for step in range(6)])
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    assert len(log.rows()) == 6
    log.rewind(4)
    log.write([{"step": 4, "loss": 2.0}])
    assert [(row["step"], row["loss"]) for row in log.rows()] == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2)]


def test_a_table_has_a_column_for_whatever_any_row_has(tmp_path):
    log = TrainingLog(tmp_path / "log.jsonl")
    log.write([{"step": 0, "loss": 1.5}, {"step": 1, "tau": 0.25}])
    log.export_csv(tmp_path / "log.csv")
    with (tmp_path / "log.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"step": "0", "loss": "1.5", "tau": ""},
            {"step": "1", "loss": "", "tau": "0.25"},
        ]
