import pytest

from voxelight.models.errors import BadInput
from voxelight.storage.formats.tables import read_columns, read_rows


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_columns_read_alike_whatever_program_wrote_them(newline, mark, tmp_path):
    path = tmp_path / "events.tsv"
    path.write_bytes((mark + newline.join(["onset\tname", "1\tMünchen", "", '2\t"a\tb"', ""])).encode())
    assert read_columns(path) == {"onset": ["1", "2"], "name": ["München", "a\tb"]}


def test_commas_separate_in_csv_only(tmp_path):
    (tmp_path / "a.csv").write_text("1,2\n3,4\n")
    (tmp_path / "a.tsv").write_text("1,2\n3,4\n")
    assert read_rows(tmp_path / "a.csv") == [["1", "2"], ["3", "4"]]
    assert read_rows(tmp_path / "a.tsv") == [["1,2"], ["3,4"]]


@pytest.mark.parametrize(
    ("name", "payload", "words"),
    [
        ("a.txt", b"1\n", "plain text under the name a.txt"),
        ("a.tsv", b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        ("a.tsv", b'a\t"b\n', "can't be read as a table"),
        ("a.tsv", b"a\t\n1\t2\n", "none blank"),
    ],
)
def test_what_is_no_table_is_refused(name, payload, words, tmp_path):
    (tmp_path / name).write_bytes(payload)
    with pytest.raises(BadInput, match=words):
        read_columns(tmp_path / name)


def test_a_table_beyond_the_limit_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr("voxelight.storage.formats.tables.MAX_TABLE_BYTES", 10)
    (tmp_path / "a.tsv").write_text("stimulus\n" + "a\n" * 10)
    with pytest.raises(BadInput, match=r"29 bytes.*at most 10 bytes"):
        read_rows(tmp_path / "a.tsv")
