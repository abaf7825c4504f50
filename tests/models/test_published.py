"""The table of published files is whole: sources, licences, parts."""

import re

import pytest

from voxelight.models.errors import NotFound
from voxelight.models.licences import LICENCES
from voxelight.models.published import PUBLISHED, find_published
from voxelight.models.registry import NETWORKS

PARTS = {
    "decoder", "unclip", "autoencoder", "image_encoder", "blurry", "refiner", "refiner_autoencoder", "refiner_text",
    "text", "converter", "captioner", "low_level", "variation", "target_encoder",
}  # fmt: skip


@pytest.mark.parametrize("row", PUBLISHED.values(), ids=str)
def test_a_row_says_where_it_is_from_and_under_which_terms(row):
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", row.repository)
    assert row.what
    assert row.file
    assert row.licence
    assert row.terms
    assert row.licence_url.startswith("https://")
    assert re.fullmatch(r"([0-9a-f]{64})?", row.sha256)
    assert row.size is None or row.size > 0
    assert all(needed in PUBLISHED for needed in row.needs)


@pytest.mark.parametrize("row", [row for row in PUBLISHED.values() if row.parts], ids=lambda row: row.name)
def test_every_part_goes_into_a_network_and_can_be_read(row):
    from voxelight.models.layouts import LAYOUTS

    assert set(row.parts) == set(LAYOUTS[row.layout].sections)
    assert {sizes.network for sizes in row.parts.values()} <= set(NETWORKS)


def test_the_table_gives_every_part_of_the_published_system():
    assert {part for row in PUBLISHED.values() for part in row.parts} == PARTS


def test_what_is_not_verified_is_called_so():
    unverified = [licence for licence in LICENCES.values() if "not-verified" in licence.id]
    assert unverified
    assert all("[not verified]" in licence.terms for licence in unverified)
    assert all("inferred" in row.note for row in PUBLISHED.values() if row.file.endswith("last.pth"))


def test_weights_trained_on_nsd_say_so():
    trained = [row for row in PUBLISHED.values() if {"decoder", "low_level"} & set(row.parts)]
    assert len(trained) == 25
    assert all("Natural Scenes Dataset" in row.terms for row in trained)


def test_a_multi_subject_decoder_leaves_its_subject_out():
    voxels = find_published("final_multisubject_subj02").parts["decoder"].config["voxels"]
    assert voxels == (15724, 15226, 13153, 13039, 17907, 12682, 14386)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(NotFound, match="git-large-coco"):
        find_published("unclip7")


def test_listing_needs_no_torch():
    import subprocess
    import sys

    code = "import voxelight.models.published, voxelight.models.weights, voxelight.models.fetch, sys; "
    code += "assert not {'torch', 'huggingface_hub'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["mindeye1", "mindeye2"])
def test_the_published_profile_takes_the_parts_of_the_table_at_their_sizes(name):
    from voxelight.models.registry import find_config
    from voxelight.neuro.profiles import find_profile

    profile = find_profile(name)
    subjects = [f"subj0{n}" for n in (1, 2, 5, 7)]
    for chosen in (profile, *map(profile.select_subject, subjects)):
        assert set(chosen.weights) == set(chosen.parts) <= PARTS
        for part, weights in chosen.weights.items():
            sizes = find_published(weights).parts[part]
            assert chosen.parts[part].build_config() == find_config(NETWORKS, sizes.network)(**sizes.config)
