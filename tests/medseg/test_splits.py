import pytest

from voxelight.medseg.splits import Split, draw_split, find_split
from voxelight.models.errors import BadInput

RECIPE = "hippocampus-agunet"


@pytest.fixture(scope="module")
def names(shared_data):
    return sorted(path.name[:-7] for path in (shared_data / "msd_task04_hippocampus/images").glob("*.nii.gz"))


def test_the_recorded_split_holds_every_case_once_by_person(names):
    split = find_split(RECIPE, names)
    assert sorted(case for fold in split.folds for case in fold) == names
    assert all(split.person_of[name] == str((int(name[-3:]) + 1) // 2) for name in names)
    persons = [{split.person_of[case] for case in fold} for fold in split.folds]
    assert sum(map(len, persons)) == len(set.union(*persons))
    assert 0.15 < len(split.folds[0]) / len(names) < 0.25
    assert set(split.rest(0)).isdisjoint(split.folds[0])


def test_the_recorded_split_is_the_draw_that_it_says_it_is(names):
    recorded = find_split(RECIPE, names)
    drawn = draw_split({name: str((int(name[-3:]) + 1) // 2) for name in names}, seed=20)
    assert list(map(set, recorded.folds)) == list(map(set, drawn.folds))


def test_part_of_the_recorded_cases_keep_their_folds(names):
    whole, part = find_split(RECIPE, names), find_split(RECIPE, names[:40])
    assert all(set(few) <= set(many) for few, many in zip(part.folds, whole.folds, strict=True))
    assert sorted(case for fold in part.folds for case in fold) == names[:40]


def test_other_cases_are_dealt_by_the_seed():
    cases = [f"case{number}" for number in range(12)]
    assert find_split(RECIPE, cases, seed=1) == find_split(RECIPE, cases, seed=1)
    assert find_split(RECIPE, cases, seed=1) != find_split(RECIPE, cases, seed=2)
    assert sorted(case for fold in find_split(RECIPE, cases).folds for case in fold) == sorted(cases)


@pytest.mark.parametrize(
    ("folds", "person_of"),
    [((("a",), ("b",)), {"a": "x", "b": "x"}), ((("a",), ("a",)), {"a": "x"}), ((("a", "a"),), {"a": "x"})],
)
def test_a_torn_split_is_refused(folds, person_of):
    with pytest.raises(BadInput, match="all cases of a person in one fold"):
        Split(folds, person_of)
