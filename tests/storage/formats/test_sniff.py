"""Letters are opcodes of old pickles too: a table must not be taken for one, nor one for a table."""

import pickle

import pytest

from voxelight.storage.formats.sniff import sniff

TABLES = [
    "stim_file\nface.png\nhouse.png\n",
    "stim_file\na.png\nb.png\n",
    "category\tstim_file\nface\ta.png\nhouse\tb.png\n",
    "condition\n1\n2\n",
    "onset\tduration\tstim_file\n0\t1\ta.png\n",
]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_of_events_is_text(table, tmp_path):
    file = tmp_path / "events.tsv"
    file.write_text(table)
    assert sniff(file) == "text"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [{"a": [1, 2]}, ["face", "house"], print])
def test_a_pickle_of_any_protocol_is_told(value, protocol, tmp_path):
    file = tmp_path / "events.tsv"
    file.write_bytes(pickle.dumps(value, protocol))
    assert sniff(file) == "pickle"
