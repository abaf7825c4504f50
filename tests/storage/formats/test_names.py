import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voxelight.models.errors import BadInput
from voxelight.storage.formats.names import MAX_NAME_BYTES, safe_name

BAD = {
    "": "empty",
    "   ": "empty",
    "../a.nii": "another folder",
    "a/b.nii": "another folder",
    "/etc/passwd": "another folder",
    "..\\a.nii": "another folder",
    "C:\\a.nii": "another folder",
    "..": "begins with a dot",
    ".hidden": "begins with a dot",
    "a\0.nii": "invisible",
    "a\n.nii": "invisible",
    "a\u202egz.iin": "invisible",
    "\ud800.nii": "invisible",
    "a\u2028.nii": "line breaks",
    "a:b.nii": "holds one of",
    "a?.nii": "holds one of",
    "a.nii ": "begins or ends with a space",
    "a.nii.": "ends with a dot",
    "CON": "device",
    "nul.nii.gz": "device",
    "Lpt1.png": "device",
    "x" * (MAX_NAME_BYTES + 1): "bytes long",
    "é" * (MAX_NAME_BYTES // 2 + 1): "bytes long",
}


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_a_name_that_is_a_trick_is_refused(name):
    with pytest.raises(BadInput, match=BAD[name]) as caught:
        safe_name(name)
    assert str(caught.value).isascii(), "the refusal itself shows no trick"


@pytest.mark.parametrize(
    "name", ["sub-01_T1w.nii.gz", "Scan 3 (copy).nii", "脑.nii.gz", "a..b.png", "console.nii", "x" * 200]
)
def test_a_plain_name_stays_as_it_is(name):
    assert safe_name(name) == name


@given(st.text(max_size=260))
@example("a/../b")
def test_whatever_passes_is_one_plain_component(tmp_path_factory, name):
    try:
        passed = safe_name(name)
    except BadInput:
        return
    folder = tmp_path_factory.getbasetemp()
    assert passed == name
    assert (folder / passed).resolve().parent == folder.resolve()
    assert not passed.startswith(".")
    assert all(unicodedata.category(letter)[0] != "C" for letter in passed)
