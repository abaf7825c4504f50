import pytest

from voxelight.models.errors import BadInput
from voxelight.storage.formats.groups import read_groups


def test_persons_and_folds(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("fold,case,person,note\n1,a,p,x\n0,b,q,\n1,c,p,\n")
    found = read_groups(path)
    assert found.person_of == {"a": "p", "b": "q", "c": "p"}
    assert found.folds == (("b",), ("a", "c"))
    tabs = tmp_path / "groups.tsv"
    tabs.write_text("case\tperson\na\tp\n", encoding="utf-8-sig")
    assert read_groups(tabs).folds == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("case,who\na,p\n", "columns"),
        ("case,person\na,\n", "filled"),
        ("case,person\na,p\na,q\n", "twice"),
        ("", "none"),
    ],
)
def test_a_table_with_holes_is_refused(tmp_path, text, told):
    path = tmp_path / "groups.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=told):
        read_groups(path)
