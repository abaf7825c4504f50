import stat
import threading
import uuid

import pytest

from voxelight.app.hospital.pseudonyms import name_person
from voxelight.models.errors import NotFound, Refused, Unavailable
from voxelight.storage.identity import IdentityKey, SeriesIdentity
from voxelight.storage.identity_links import has_links, read_link, sweep_links, write_link
from voxelight.storage.schema import Dataset, IdentityLink


@pytest.fixture
def key(tmp_path) -> IdentityKey:
    made = IdentityKey(tmp_path / "identity.key")
    made.ensure(has_links=False)
    return made


def test_a_key_is_made_once_and_read_by_its_owner_alone(key):
    assert stat.S_IMODE(key.path.stat().st_mode) == 0o600
    content = key.path.read_text()
    IdentityKey(key.path).ensure(has_links=True)
    assert key.path.read_text() == content
    assert len(key.read_text()) == 64
    assert [path.name for path in key.path.parent.iterdir()] == ["identity.key"], "nothing is left beside it"


def test_processes_that_make_it_at_once_agree_on_one(tmp_path):
    keys = [IdentityKey(tmp_path / "identity.key") for _ in range(12)]
    threads = [threading.Thread(target=key.ensure, args=(False,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({key.read_text() for key in keys}) == 1


def test_a_missing_key_is_not_replaced_where_something_was_sealed_with_it(tmp_path):
    lost = IdentityKey(tmp_path / "identity.key")
    with pytest.raises(Unavailable, match="a new key would open none of them"):
        lost.ensure(has_links=True)
    assert not lost.path.exists()
    with pytest.raises(Unavailable, match=r"no key .*identity.key"):
        lost.hash_uid("1.2.3")


@pytest.mark.parametrize("content", ["", "not a key", "ab" * 16])
def test_a_damaged_key_is_told(content, tmp_path):
    (tmp_path / "identity.key").write_text(content)
    with pytest.raises(Unavailable, match="backup"):
        IdentityKey(tmp_path / "identity.key").ensure(has_links=False)


def test_what_is_sealed_opens_in_its_place_with_its_key_alone(key, tmp_path):
    sealed = key.seal({"PatientName": "Doe^Jane"}, "a place")
    assert b"Doe" not in sealed
    assert key.open(sealed, "a place") == {"PatientName": "Doe^Jane"}
    assert key.seal({"PatientName": "Doe^Jane"}, "a place") != sealed
    other = IdentityKey(tmp_path / "other.key")
    other.ensure(has_links=False)
    for who, what, where in ((other, sealed, "a place"), (key, sealed, "b"), (key, sealed[:-1] + b"x", "a place")):
        with pytest.raises(Refused, match="does not open"):
            who.open(what, where)


def test_shifts_are_one_a_subject_spread_over_ten_years_and_never_none(key):
    dataset = uuid.uuid4()
    shifts = [key.shift_days(dataset, str(number)) for number in range(400)]
    assert shifts == [key.shift_days(dataset, str(number)) for number in range(400)]
    assert max(shifts) < 0
    assert min(shifts) >= -3652
    assert len(set(shifts)) > 350
    assert shifts[0] != key.shift_days(uuid.uuid4(), "0")


def test_links_are_sealed_merged_and_swept(services, key):
    uid = key.hash_uid("1.2.3")
    first = SeriesIdentity(uid, {"2.25.1": "1.2.3"}, {"PatientName": "Doe^Jane"}, -40)
    with services.stores.sessions.begin() as session:
        dataset = Dataset(name="ward")
        session.add(dataset)
        session.flush()
        assert not has_links(session)
        write_link(session, key, dataset.id, first)
        write_link(session, key, dataset.id, SeriesIdentity(uid, {"2.25.2": "1.2.4"}, {"PatientName": "Doe^Jane"}, -40))
        [row] = session.query(IdentityLink)
        assert b"Doe" not in row.sealed
        assert "1.2.3" not in row.keyed_hash
        assert read_link(session, key, dataset.id, uid).uids == {"2.25.1": "1.2.3", "2.25.2": "1.2.4"}
        with pytest.raises(NotFound, match="no identity link"):
            read_link(session, key, dataset.id, key.hash_uid("9"))
        assert sweep_links(session, dataset.id) == 1
        assert not has_links(session)


def test_a_made_up_uid_does_not_give_the_label_of_a_person(key):
    label = name_person(key, "HOSP", "4711")
    assert label != name_person(key, "HOSP", "4712")
    assert label[1:] not in f"{int(key.hash_uid('patient/HOSP/4711').rpartition('.')[2]):032x}"
