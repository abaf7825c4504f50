"""What a job of one project trained is not there for another, by whatever name it is asked for."""

import hashlib
import uuid

import pytest

from voxelight.app.auth import find_principal
from voxelight.app.schemas import JobRequest
from voxelight.medseg.recipes import find_recipe
from voxelight.models.errors import NotFound
from voxelight.storage.trained import TrainedModel, TrainedModels


@pytest.fixture
def trained(house, things):
    """A model that a job of the zebras trained, and one that came from the shell."""
    models = TrainedModels(house.stores.weights)
    for name, made in (("zebra-net", {"job": str(things["zebra"].named["job_id"])}), ("shared-net", {})):
        recipe = find_recipe("hippocampus-agunet").model_copy(update={"name": name})
        content = uuid.uuid4().bytes
        model = TrainedModel(recipe, (hashlib.sha256(content).hexdigest(),), "", "", card=name, provenance=made)
        models.write(model, [content], replace=True)
    yield
    for name in ("zebra-net", "shared-net"):
        models.remove(name)


def act(house, people, who):
    return house.act_as(find_principal(house, people[who].key))


def test_its_own_people_see_it_and_a_stranger_what_is_shared_alone(house, things, people, trained):
    for read in (lambda services: services.recipes.list(), lambda services: services.jobs.list_recipes()):
        asking = ("viewer", "other project", "installation")
        shown = {who: {one.name for one in read(act(house, people, who))} for who in asking}
        assert {"zebra-net", "shared-net"} <= shown["viewer"]
        assert {"zebra-net", "shared-net"} <= shown["installation"]
        assert "shared-net" in shown["other project"]
        assert "zebra-net" not in shown["other project"]
    assert act(house, people, "viewer").recipes.show("zebra-net").card == "zebra-net"


def test_a_stranger_can_neither_read_its_card_nor_work_with_it(house, things, people, trained):
    stranger = act(house, people, "other project")
    dataset = things["yak"].named["dataset"]
    with pytest.raises(NotFound) as refused:
        stranger.recipes.show("zebra-net")
    assert "zebra" not in refused.value.expected
    for asked in (
        {"recipe": "zebra-net"},
        {"recipe": "hippocampus-agunet", "options": {"start_from": "zebra-net"}},
        {"recipe": "hippocampus-agunet", "options": {"deep": [{"model": "zebra-net"}]}},
    ):
        with pytest.raises(NotFound, match="no model or recipe 'zebra-net'"):
            stranger.jobs.submit(JobRequest(kind="segment", dataset=dataset, **asked))
    with pytest.raises(NotFound) as unknown:
        stranger.jobs.submit(JobRequest(kind="segment", recipe="no-such", dataset=dataset))
    assert "zebra" not in str(unknown.value)
