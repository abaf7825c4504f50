import stat
import zipfile

import pytest

from voxelight.models.errors import BadInput
from voxelight.storage.formats import archives
from voxelight.storage.formats.archives import list_members, opened_zip


def members(path, **limits):
    with opened_zip(path, **limits) as archive:
        return [info.filename for info in list_members(archive)]


def make(path, *named, mode: int = 0, method: int = zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in named:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, method
            archive.writestr(info, content)
    return path


def test_members_come_in_order_without_litter(tmp_path):
    path = make(
        tmp_path / "a.zip",
        *(("b/2.dcm", b"2"), ("b/1.dcm", b"1"), ("__MACOSX/b/._1.dcm", b"x"), (".hidden/1", b"x")),
        *(("b/Thumbs.db", b"x"), ("b/.DS_Store", b"x"), ("folder/", b"")),
    )
    assert members(path) == ["b/1.dcm", "b/2.dcm"]


@pytest.mark.parametrize("name", ["../a", "b/../../a", "/etc/passwd", "C:/a", "..\\a"])
def test_a_name_that_leads_out_is_refused(name, tmp_path):
    with pytest.raises(BadInput, match="leads out of the archive"):
        members(make(tmp_path / "a.zip", (name, b"x")))


def test_links_bombs_crowds_and_damage_are_refused(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="a link"):
        members(make(tmp_path / "link.zip", ("a", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777))
    with pytest.raises(BadInput, match="unpacks to 3 MiB"):
        members(make(tmp_path / "large.zip", ("a", bytes(3 << 20))), max_bytes=2 << 20)
    monkeypatch.setattr(archives, "_FREE_BYTES", 1 << 20)
    with pytest.raises(BadInput, match="made to exhaust the disk"):
        members(make(tmp_path / "bomb.zip", ("a", bytes(3 << 20))))
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    with pytest.raises(BadInput, match="4 files"):
        members(make(tmp_path / "many.zip", *((str(n), b"") for n in range(4))))
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04" + b"damaged" * 30)
    with pytest.raises(BadInput, match="can't be read"):
        members(tmp_path / "no.zip")


def test_an_encrypted_archive_is_refused(tmp_path):
    path = make(tmp_path / "a.zip", ("a", b"x"))
    content = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + place] |= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match="encrypted"):
        members(path)


def test_a_member_gives_no_more_than_it_claims(tmp_path):
    path = make(tmp_path / "a.zip", ("a", bytes(1 << 20)))
    content = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = content.index(magic) + place
        content[start : start + 4] = (100).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(BadInput, match="can't be read"), opened_zip(path) as archive:
        assert len(archive.read("a")) <= 100
