"""What stimuli are called becomes part of file names, and two stimuli never share a file."""

from hypothesis import given
from hypothesis import strategies as st

from voxelight.app.pipelines.outputs import file_stem
from voxelight.storage.formats.names import safe_name


@given(st.text(min_size=1, max_size=150))
def test_any_name_gives_a_plain_one(name):
    assert safe_name(f"{file_stem(name)}_reconstruction.png")


def test_names_that_differ_stay_apart():
    names = ["a b", "a-b", "a/b", "a  b", ".a-b", "ä", "ö", "x" * 121, "x" * 122, "…", "—"]
    assert len({file_stem(name) for name in names}) == len(names)
    assert file_stem("c550bc72e0fd") == "c550bc72e0fd"
