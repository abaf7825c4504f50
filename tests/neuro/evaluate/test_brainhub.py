"""The benchmark of captions on real captions of COCO."""

import json

import numpy as np
import pytest

from voxelight.models.errors import BadInput
from voxelight.neuro.evaluate.brainhub import run_benchmark
from voxelight.storage.formats.captions import read_caption_sets, read_decoded_captions


@pytest.fixture(scope="module")
def told(shared_data):
    """Five captions each of forty pictures; the fifth stands for a decoder that reads minds well."""
    found = read_caption_sets(shared_data / "coco_mini" / "annotations" / "captions_train2017.json")
    return {picture: texts[:5] for picture, texts in sorted(found.items())[:40]}


@pytest.fixture(scope="module")
def found(told):
    decoded = {picture: texts[4] for picture, texts in told.items()}
    references = {picture: texts[:4] for picture, texts in told.items()}
    return run_benchmark(decoded, references, slow=False)


def test_a_person_is_far_above_what_needs_no_brain(found):
    decoded = {result.name: result.value for result in found.decoded}
    shuffled, constant, person = found.controls
    assert set(decoded) == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l_coco", "cider"}
    assert decoded["cider"] > 5 * max(shuffled.values["cider"], constant.values["cider"])
    assert person.values["cider"] > 5 * shuffled.values["cider"]
    assert shuffled.values["bleu_1"] > 0.2, "the floor that the controls are there to show"
    low, high = found.intervals["cider"]
    assert low < decoded["cider"] < high
    assert 0 <= found.no_better < 0.3
    assert set(shuffled.spread) == set(decoded)


def test_only_the_whole_benchmark_compares(found, told):
    assert not found.complete
    assert "don't compare" in found.notes[0]
    many = {f"{number:04d}": told[list(told)[number % 40]] for number in range(982)}
    assert {len(texts) for texts in many.values()} == {5}
    from voxelight.neuro.evaluate.brainhub import CaptionBenchmark

    facts = {"decoded": (), "intervals": {}, "controls": (), "no_better": 0.0, "missing": {}}
    assert CaptionBenchmark(pictures=982, references=(5, 5), **facts).complete
    assert not CaptionBenchmark(pictures=982, references=(4, 5), **facts).complete


def test_a_constant_decoder_scores_what_the_constant_row_says(told):
    constant = "a man is standing in front of a large building."
    found = run_benchmark(dict.fromkeys(told, constant), told, slow=False)
    assert {result.name: result.value for result in found.decoded} == pytest.approx(dict(found.controls[1].values))
    assert np.ptp([found.controls[0].values["cider"], found.controls[1].values["cider"]]) < 1e-9
    assert found.no_better > 0.5


def test_pictures_without_references_are_named(told):
    with pytest.raises(BadInput, match="such as nowhere"):
        run_benchmark({"nowhere": "a cat", **{p: t[0] for p, t in told.items()}}, told, slow=False)


def test_captions_are_read_in_every_form(tmp_path):
    rows = [{"image_id": 7, "caption": "a cat"}, {"image_id": 9, "caption": "a dog"}]
    forms = [rows, {"annotations": rows}, {"7": "a cat", "9": ["a dog"]}]
    for form in forms:
        (tmp_path / "captions.json").write_text(json.dumps(form))
        assert read_decoded_captions(tmp_path / "captions.json") == {"7": "a cat", "9": "a dog"}
    for wrong in ({"7": ["a cat", "two"]}, {"7": " "}, {"7": 3}, [], "text", {}):
        (tmp_path / "captions.json").write_text(json.dumps(wrong))
        with pytest.raises(BadInput):
            read_decoded_captions(tmp_path / "captions.json")
    (tmp_path / "captions.json").write_text("{")
    with pytest.raises(BadInput, match="can't be read"):
        read_caption_sets(tmp_path / "captions.json")
