"""Decoded captions scored in the shell."""

import json


def test_decoded_captions_are_scored_beside_what_needs_no_brain(ask, shell, tmp_path):
    seen = ["a dog on a beach", "two cats on a sofa", "a red bus in a street", "a plate of food on a table"]
    references = {str(row): [text, f"there is {text}", f"{text} today"] for row, text in enumerate(seen)}
    (tmp_path / "references.json").write_text(json.dumps(references))
    (tmp_path / "decoded.json").write_text(json.dumps(dict(enumerate(seen))))
    asked = ("captions", "score", tmp_path / "decoded.json", tmp_path / "references.json", "--words-only")
    found = ask(*asked)
    assert (found["pictures"], found["complete"], found["reference_set"]) == (4, False, "coco captions")
    values = {(one["captions"], one["score"]): one["value"] for one in found["scores"]}
    assert values["decoded", "bleu_4"] > 0.999
    shuffled = next(way for way, _ in values if way.startswith("shuffled"))
    assert values["decoded", "cider"] > 2 * values[shuffled, "cider"]
    assert "don't compare" in shell(*asked).stderr
    (tmp_path / "decoded.json").write_text(json.dumps({"other": "a dog"}))
    shell(*asked, code=2)
