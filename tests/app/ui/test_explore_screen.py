"""Explore and deletion on the page, without a browser."""

import io

import numpy as np
import pytest
from sqlalchemy import update

from voxelight.app.schemas import ScanRequest
from voxelight.models.errors import NotFound
from voxelight.storage.formats.images import encode_png
from voxelight.storage.schema import Job


def texts(app):
    return " ".join(element.value for element in [*app.markdown, *app.caption])


def test_an_empty_installation_says_what_to_do(visit):
    app = visit("explore")
    assert not app.exception
    assert "Nothing to explore yet" in texts(app)


def test_words_find_results_and_files(visit, services, segmented):
    services.vectors.embed_run(segmented.id)
    app = visit("explore", text="anterior posterior")
    assert not app.exception
    assert "**words**" in texts(app)
    assert "anterior: 1.23 ml" in texts(app)
    assert "brain.nii" in texts(app)
    app = visit("explore", text="xylophone")
    assert "Nothing is like that" in texts(app)


def test_a_picture_finds_itself(visit, services, dataset):
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    content = encode_png(picture)
    services.scans.ingest(io.BytesIO(content), ScanRequest(name="seen.png", dataset=dataset))
    app = visit("explore")
    app.segmented_control(key="way").set_value("picture").run()
    app.file_uploader(key="picture").upload("dropped.png", content, "image/png").run()
    assert not app.exception
    assert "seen.png" in texts(app)
    assert "1.000" in texts(app)
    app.file_uploader(key="picture").upload("dropped.png", b"no picture", "image/png").run()
    assert "What to do" in app.error[0].value


def test_more_like_this_goes_on_from_a_result(visit, services, decoded):
    run = services.jobs.list_runs(decoded.id)[0]
    app = visit("explore", result=str(run.id))
    assert not app.exception
    assert "edges\\-and\\-colours" in texts(app)
    assert "RANDOM WEIGHTS" in texts(app)
    more = next(button for button in app.button if button.label == "More like this")
    more.click().run()
    assert not app.exception
    assert app.text_input(key="result").value
    app.text_input(key="result").set_value("nothing").run()
    assert "the id of a result" in app.error[0].value


def test_a_result_is_deleted_once_its_id_is_typed(visit, services, segmented):
    with services.stores.sessions.begin() as session:
        session.execute(update(Job).values(status="done"))
    app = visit("results")
    key = f"delete-result-{segmented.id}-"
    app.toggle(key=f"{key}-wanted").set_value(True).run()
    assert "This goes for good" in texts(app)
    app.text_input(key=f"{key}-confirm").set_value("wrong")
    app.button(key=f"{key}-send").click().run()
    assert services.results.show(segmented.id), "a wrong word deletes nothing"
    app.run()
    assert "confirm=" in app.error[0].value, "it stays when the page runs again by itself"
    app.text_input(key=f"{key}-confirm").set_value(str(segmented.id))
    app.text_input(key=f"{key}-author").set_value("Ada")
    app.button(key=f"{key}-send").click().run()
    assert not app.exception
    with pytest.raises(NotFound):
        services.results.show(segmented.id)
    assert "Deleted result" in app.success[0].value
    [receipt] = services.deletion.list_receipts().items
    assert receipt.author == "Ada"
