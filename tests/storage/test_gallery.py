"""An index built from vectors, beside numpy: exact by default, approximate with its recall stated."""

import numpy as np
import pytest

from voxelight.models.errors import BadInput, Conflict, NotFound
from voxelight.storage import gallery
from voxelight.storage.gallery import Gallery, build_gallery


def make(count=3000, dim=24, seed=0):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(60, dim))
    vectors = centres[random.integers(60, size=count)] + 0.6 * random.normal(size=(count, dim))
    return [f"picture {row}\n{row % 7}.png" for row in range(count)], vectors.astype(np.float32)


def in_blocks(names, vectors, size=700):
    return [(names[at : at + size], vectors[at : at + size]) for at in range(0, len(names), size)]


def nearest(vectors, query, k=10):
    halves = (vectors / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)).astype(np.float16).astype(float)
    scores = halves @ (query / np.linalg.norm(query))
    rows = np.argsort(-scores, kind="stable")[:k]
    return rows, scores[rows]


def test_an_exact_index_answers_as_comparing_everything(tmp_path):
    names, vectors = make()
    facts = build_gallery(tmp_path / "index", "mine", in_blocks(names, vectors))
    assert (facts.method, facts.recall, facts.count, facts.dim, facts.space) == ("exact", 1.0, 3000, 24, "mine")
    opened = Gallery(tmp_path / "index")
    for query in np.random.default_rng(1).normal(size=(20, 24)):
        rows, scores = nearest(vectors, query)
        found = opened.search(query, 10, "mine")
        assert [name for name, _ in found] == [names[row] for row in rows]
        np.testing.assert_allclose([score for _, score in found], scores, atol=1e-6)


def test_above_the_limit_it_is_approximate_and_states_a_recall_that_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "APPROXIMATE_ABOVE", 2_999)
    names, vectors = make()
    facts = build_gallery(tmp_path / "index", "mine", in_blocks(names, vectors))
    assert facts.method == "approximate"
    assert 0.95 <= facts.recall <= 1
    assert facts.probes < facts.lists
    opened, place, hits = Gallery(tmp_path / "index"), {name: row for row, name in enumerate(names)}, []
    for query in vectors[:100]:
        wanted = set(nearest(vectors, query, 11)[0].tolist())
        hits.append(len(wanted & {place[name] for name, _ in opened.search(query, 11)}) / 11)
    assert np.mean(hits) > facts.recall - 0.05


def test_the_method_can_be_chosen(tmp_path):
    names, vectors = make(600)
    approximate = build_gallery(tmp_path / "approximate", "mine", [(names, vectors)], "approximate")
    assert approximate.lists == 15
    assert build_gallery(tmp_path / "exact", "mine", [(names, vectors)], "exact").method == "exact"


def test_what_can_not_be_built_leaves_nothing(tmp_path):
    names, vectors = make(50)
    vectors[40] = 0
    with pytest.raises(BadInput, match="1 vectors that are zero or not finite"):
        build_gallery(tmp_path / "index", "mine", in_blocks(names, vectors, 30))
    with pytest.raises(BadInput, match="no vector"):
        build_gallery(tmp_path / "index", "mine", [])
    assert not list(tmp_path.iterdir())
    vectors[40] = 1
    build_gallery(tmp_path / "index", "mine", [(names, vectors)])
    with pytest.raises(Conflict):
        build_gallery(tmp_path / "index", "mine", [(names, vectors)])


def test_a_wrong_question_is_refused(tmp_path):
    names, vectors = make(50)
    build_gallery(tmp_path / "index", "mine", [(names, vectors)])
    opened = Gallery(tmp_path / "index")
    for query, space in (
        (np.ones(23), None),
        (np.zeros(24), None),
        (np.full(24, np.nan), None),
        (np.ones(24), "other"),
    ):
        with pytest.raises(BadInput):
            opened.search(query, 3, space)
    with pytest.raises(NotFound):
        Gallery(tmp_path / "nothing")
