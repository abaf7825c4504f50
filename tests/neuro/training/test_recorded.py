"""What is held out of a training of decoders, that nothing of it leaks, and how it is scored."""

from dataclasses import replace

import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.models.values import Betas, ClipTokens, Stimuli
from voxelight.neuro.simulation import StimuliSet
from voxelight.neuro.splits import Leak
from voxelight.neuro.training.check import check_pictures, score_held_out, tell_distance
from voxelight.neuro.training.recorded import Album, SeenTrials, check_statistics, choose_held_out, prepare_subject
from voxelight.neuro.training.standardise import find_statistics

PICTURES, SESSIONS = 30, 3


@pytest.fixture
def pictures():
    """Thirty pictures, the last of which is the first under another id, in grey and as colour."""
    images = np.random.default_rng(0).uniform(size=(PICTURES, 8, 8, 1)).astype(np.float32)
    images[-1] = images[0]
    return StimuliSet(Stimuli(images, np.array([f"p{number:02}" for number in range(PICTURES)])))


@pytest.fixture
def seen(pictures):
    """Each picture once a session; every third is marked as shared."""
    rng = np.random.default_rng(1)
    shown = np.concatenate([rng.permutation(PICTURES) for _ in range(SESSIONS)])
    labels = {
        "session": np.repeat([f"s{number}" for number in range(SESSIONS)], PICTURES),
        "shared": (shown % 3 == 0).astype(int).astype(str),
    }
    betas = Betas(rng.normal(size=(len(shown), 12)).astype(np.float32), pictures.ids[shown], "01", "v", labels)
    keys = Album(16).add(pictures, betas.stimulus_ids.tolist())
    return SeenTrials(betas, tuple(keys[name] for name in betas.stimulus_ids.tolist()))


def test_two_ids_of_one_picture_are_held_out_together(pictures, seen):
    by_id = dict(zip(seen.betas.stimulus_ids.tolist(), seen.keys, strict=True))
    assert by_id["p00"] == by_id["p29"]
    held_out, told = choose_held_out([seen], "auto", 0.1, 0)
    assert by_id["p29"] in held_out, "p00 is marked, p29 is not"
    assert "10 pictures marked as shared" in told
    prepared = prepare_subject(seen, held_out, "training-rows")
    shown = {seen.betas.stimulus_ids[row] for row in prepared.training.rows.tolist()}
    assert shown.isdisjoint({"p00", "p29", "p03"})
    assert len(prepared.test[by_id["p00"]]) == 2 * SESSIONS


def test_an_album_gives_pictures_of_one_size_and_refuses_what_it_lacks(pictures):
    album = Album(16)
    keys = album.add(pictures, ["p01", "p02"])
    read = album.read([keys["p02"], keys["p01"], keys["p02"]])
    assert read.shape == (3, 3, 16, 16)
    np.testing.assert_array_equal(read[0], read[2])
    np.testing.assert_array_equal(read[0, 0], read[0, 2])
    with pytest.raises(BadInput, match="nowhere"):
        album.add(pictures, ["p01", "nowhere"])


def test_what_a_start_has_seen_is_not_held_out(seen):
    bare = SeenTrials(replace(seen.betas, labels={}), seen.keys)
    known = frozenset(sorted(set(seen.keys))[:20])
    held_out, told = choose_held_out([bare], "auto", 0.2, 5, known)
    assert len(held_out) == 6
    assert held_out.isdisjoint(known)
    assert "drawn by seed 5" in told
    assert choose_held_out([bare], "random", 0.2, 5, known)[0] == held_out
    assert choose_held_out([bare], "random", 0.2, 6, known)[0] != held_out
    with pytest.raises(BadInput, match="20 of which"):
        choose_held_out([bare], "random", 0.5, 0, known)
    with pytest.raises(Leak, match="starts from"):
        choose_held_out([seen], "shared", 0.1, 0, frozenset(seen.keys))
    with pytest.raises(BadInput, match="shared"):
        choose_held_out([bare], "shared", 0.1, 0)


def test_the_first_sessions_are_trained_on_and_all_are_tested(seen):
    held_out, _ = choose_held_out([seen], "shared", 0.1, 0)
    prepared = prepare_subject(seen, held_out, "training-rows-per-session", sessions=1)
    assert {prepared.training.sessions[row] for row in prepared.training.rows.tolist()} == {"s0"}
    assert {seen.sessions[row] for rows in prepared.test.values() for row in rows.tolist()} == {"s0", "s1", "s2"}
    alone = prepare_subject(seen, held_out, "training-rows", sessions=1)
    expected = seen.betas.values[alone.training.rows]
    np.testing.assert_allclose(alone.statistics.mean[0], expected.mean(0), rtol=1e-5)
    assert prepare_subject(seen, held_out, "as-stored").training.voxels is seen.betas.values
    with pytest.raises(BadInput, match="held-out trials contribute"):
        prepare_subject(seen, held_out, "own-session")


@pytest.mark.parametrize("normalisation", ["training-rows", "training-rows-per-session"])
def test_statistics_that_know_held_out_rows_are_caught(seen, normalisation):
    held_out, _ = choose_held_out([seen], "shared", 0.1, 0)
    prepared = prepare_subject(seen, held_out, normalisation)
    assert check_statistics(seen, prepared, held_out, normalisation).status == "held"
    every = np.arange(len(seen.keys))
    sessions = seen.sessions if normalisation.endswith("session") else None
    leaky = replace(prepared, statistics=find_statistics(seen.betas.values, every, sessions))
    with pytest.raises(Leak, match="noise in the held-out rows"):
        check_statistics(seen, leaky, held_out, normalisation)


def test_a_picture_that_is_another_one_by_its_tokens_is_refused():
    rng = np.random.default_rng(0)
    tokens = {name: rng.normal(size=(2, 8)).astype(np.float32) for name in ("a", "b", "c", "d")}
    tokens["d"] = tokens["a"] + np.float32(0.01)

    def read(keys):
        return np.stack([tokens[key] for key in keys])

    guards, distance = check_pictures(["a", "b"], ["c"], read, "test", meaningful=True)
    assert [guard.status for guard in guards] == ["held"] * 3
    cosine = [float(tokens["c"].ravel() @ tokens[k].ravel()) / np.linalg.norm(tokens["c"]) / np.linalg.norm(tokens[k])
              for k in "ab"]  # fmt: skip
    assert distance[0] == pytest.approx(1 - max(cosine), abs=1e-6)
    with pytest.raises(Leak, match="token cosine"):
        check_pictures(["a", "b"], ["c", "d"], read, "test", meaningful=True)
    with pytest.raises(Leak, match="stimulus a"):
        check_pictures(["a", "b"], ["a", "c"], read, "test", meaningful=True)
    guards, distance = check_pictures(["a", "b"], ["c", "d"], read, "test", meaningful=False)
    assert guards[2].status == "not checked"
    assert distance is None


def test_scores_of_held_out_pictures_stand_beside_their_null(seen):
    held_out, _ = choose_held_out([seen], "shared", 0.1, 0)
    prepared = prepare_subject(seen, held_out, "training-rows")
    count, rng = len(prepared.test), np.random.default_rng(2)
    tokens = rng.normal(size=(count, 3, 5)).astype(np.float32)
    shown = ClipTokens(tokens, "test")
    good = ClipTokens(tokens + 0.5 * rng.normal(size=tokens.shape).astype(np.float32), "test")
    wrong = ClipTokens(np.roll(tokens, 1, axis=0), "test")
    right, none = ({score.name: score for score in score_held_out(each, shown, prepared, 0)} for each in (good, wrong))
    assert right["two_way_tokens"].value > 0.95
    assert right["two_way_tokens"].detail["p"] == pytest.approx(1 / 1000)
    assert right["retrieval_image_of_brain"].value == 1
    assert right["retrieval_image_of_brain"].detail["published_as"] == "brain retrieval (bwd)"
    assert none["retrieval_brain_of_image"].value == 0
    assert none["retrieval_brain_of_image"].detail["p"] > 0.2
    for score in right.values():
        assert score.low - 1e-9 <= score.value <= score.high + 1e-9
        assert score.detail["q"] >= score.detail["p"]
        assert "permuted within" in score.detail["null"]
    # The picture of two ids was shown twice as often, and has no other to change places with.
    assert right["retrieval_image_of_brain"].detail["null_mean"] == pytest.approx((1 + 1) / count, abs=0.03)
    curve = tell_distance(good, shown, np.linspace(0, 1, count))
    assert curve is not None
    assert len(curve["x"]) == len(curve["y"]) == 2
    assert tell_distance(ClipTokens(tokens[:4], "test"), ClipTokens(tokens[:4], "test"), np.arange(4.0)) is None
