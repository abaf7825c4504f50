import uuid


def burned(header, place):
    header.BurnedInAnnotation = "YES"


def test_series_are_listed_with_what_keeps_them_out(ask, shell, write_dicom, tmp_path):
    write_dicom(tmp_path / "a")
    for path in write_dicom(tmp_path / "b", seed=1)[2:4]:
        path.unlink()
    found = ask("dicom", "list", tmp_path / "a", tmp_path / "b")
    assert [(each["files"], each["shape"]) for each in found] == [(6, [12, 10, 6]), (4, None)]
    assert "2 of 6 slices are missing" in found[1]["problem"]["found"]
    said = shell("dicom", "list", tmp_path).stdout
    assert "12x10x6" in said
    assert "Doe" not in said
    (tmp_path / "empty").mkdir()
    assert "no DICOM image" in shell("dicom", "list", tmp_path / "empty", code=2).stderr


def test_held_scans_are_listed_released_and_rejected(ask, shell, write_dicom, tmp_path):
    for seed in (0, 1):
        write_dicom(tmp_path / "in", change=burned, seed=seed)
    shell("datasets", "create", "ward")
    shell("ingest", tmp_path / "in", "--dataset", "ward")
    first, second = ask("dicom", "held", "--dataset", "ward")["items"]
    why = ("--author", "Dr. A", "--reason", "looked at it")
    assert ask("dicom", "release", first["id"], *why)["held"] == ""
    assert ask("dicom", "reject", second["id"], *why)["scan"].startswith("ward/01/01/003_MR")
    assert ask("dicom", "held")["items"] == []
    shell("dicom", "release", first["id"], *why, code=4)
    shell("dicom", "release", first["id"], "--author", "", "--reason", "x", code=2)
    shell("dicom", "release", uuid.uuid4(), *why, code=3)


def test_relinking_needs_the_key_and_something_to_relink(shell, tmp_path):
    why = ("--out", tmp_path / "out", "--author", "Dr. A", "--reason", "surgery")
    said = shell("dicom", "relink", uuid.uuid4(), *why, code=6).stderr
    assert "identity.key" in said
    assert not (tmp_path / "out").exists()


def test_a_clinical_data_set_is_made(ask):
    assert ask("datasets", "create", "clinic", "--keeps-headers")["keeps_headers"] is True
