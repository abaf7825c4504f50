"""Every verb: refused to who lacks its role, and blind to another project, whether or not a route leads to it."""

import inspect
import io
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel

from voxelight.app.auth import find_principal
from voxelight.app.roles import ROLES_OF
from voxelight.app.schemas import ResultQuery, ScanQuery
from voxelight.app.schemas_reviews import FollowupQuery
from voxelight.app.schemas_vectors import NearConditions, NearRequest
from voxelight.app.services import VERBS
from voxelight.models.errors import Refused, VoxelightError
from voxelight.storage.access import ANYBODY, INSTALLATION

LADDER = ("viewer", "operator", "reviewer", "admin")


def test_every_verb_has_a_role_and_every_role_a_verb(house):
    there = {
        (name, method)
        for name in VERBS
        for method in (*dir(type(getattr(house, name))), *vars(getattr(house, name)))
        if not method.startswith("_")
    }
    assert there == set(ROLES_OF)


def test_a_verb_without_a_role_is_refused_to_everybody(house, people, monkeypatch):
    monkeypatch.delitem(ROLES_OF, ("datasets", "list"))
    root = house.act_as(find_principal(house, people["installation"].key))
    with pytest.raises(Refused, match="no role"):
        root.datasets.list()


@pytest.mark.parametrize("who", [*LADDER, INSTALLATION])
def test_a_verb_is_refused_below_its_role_before_it_acts(house, people, who):
    services = house.act_as(find_principal(house, people[who].key))
    for (name, method), role in ROLES_OF.items():
        steps = [ANYBODY, *LADDER, INSTALLATION]
        low = steps.index(who) < steps.index(role)
        with pytest.raises(Refused) if low else nullcontext():
            getattr(getattr(services, name), method)


# What a verb is asked with beside what lies in the project, by the name of its parameter, or of its verb too.
ASKED = {
    "name": lambda things: things["dataset"],
    "query": lambda _: ResultQuery(),
    "fields": lambda _: ["id", "dataset", "subject", "scan"],
    "kind": lambda _: "evaluate",
    "run_ids": lambda things: [things["run_id"]],
    "runs": lambda things: [things["run_id"]],
    "job_ids": lambda things: [things["job_id"]],
    "artifacts": lambda things: [things["artifact_id"]],
    "first": lambda things: things["job_id"],
    "second": lambda things: things["job_id"],
    "formats": lambda _: ["tables"],
    "request": lambda things: NearRequest(result=things["run_id"]),
    "conditions": lambda _: NearConditions(),
    "picture": lambda _: png(),
    ("compare", "models", "first"): lambda things: things["model"],
    ("compare", "models", "second"): lambda things: things["model"],
    ("compare", "overlap", "first"): lambda things: things["run_id"],
    ("compare", "overlap", "second"): lambda things: things["run_id"],
    ("quality", "agree", "first"): lambda things: things["reviewer"],
    ("quality", "agree", "second"): lambda things: things["reviewer"],
    ("followup", "show", "query"): lambda _: FollowupQuery(),
    ("recipes", "find_scans", "name"): lambda _: "hippocampus-agunet",
    ("recipes", "find_scans", "query"): lambda _: ScanQuery(),
    ("recipes", "show", "name"): lambda _: "hippocampus-agunet",
    ("scans", "list", "kind"): lambda _: "volume",
}
# These take what another verb answered, which nobody has who may not see it; `export` writes to a folder of the shell.
HANDED = {("results", "read"), ("results", "read_range"), ("results", "export")}
VIEWED = sorted({pair for pair, role in ROLES_OF.items() if role in (ANYBODY, "viewer")} - HANDED)


def read_all(house, people, things, who):
    """Everything that the verbs of a viewer answer somebody about the project of the zebras: verb, question, answer."""
    services, own = house.act_as(find_principal(house, people[who].key)), things["zebra"].named
    for name, method in VIEWED:
        verb = getattr(getattr(services, name), method)
        for arguments in choose(name, method, verb, own) if callable(verb) else ():
            try:
                yield (name, method), str(arguments), spell(verb(**arguments))
            except VoxelightError as error:
                yield (name, method), str(arguments), str(error)


def find_told(things, question, answer):
    own = things["zebra"]
    return [text for text in (own.word, *own.texts()) if text in answer and text not in question]


def test_nothing_of_another_project_is_read_by_any_verb(house, things, people):
    """As the admin of one project, with what lies in the other named wherever a parameter can name it."""
    told = [
        (verb, text, question, answer[:300])
        for verb, question, answer in read_all(house, people, things, "other project")
        for text in find_told(things, question, answer)
    ]
    assert told == []


def test_the_same_questions_tell_a_viewer_of_the_project_a_lot(house, things, people):
    """So the test before can fail."""
    telling = {
        verb
        for verb, question, answer in read_all(house, people, things, "viewer")
        if find_told(things, question, answer)
    }
    assert len(telling) > 30, telling


def choose(name, method, verb, things):
    """Arguments for a verb: those that it needs; and also all that can name something."""
    needed, more = {}, {}
    for parameter in inspect.signature(verb).parameters.values():
        make = ASKED.get((name, method, parameter.name), ASKED.get(parameter.name))
        value = make(things) if make else things.get(parameter.name)
        if parameter.default is inspect.Parameter.empty:
            assert value is not None, f"{name}.{method} needs {parameter.name}, of which this test knows nothing"
            needed[parameter.name] = value
        elif value is not None:
            more[parameter.name] = value
    return [needed, needed | more] if more else [needed]


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(36, dtype=np.uint8).reshape(6, 6)).save(file, "PNG")
    return file.getvalue()


def spell(answer) -> str:
    """Everything that an answer says."""
    if isinstance(answer, BaseModel):
        return answer.model_dump_json()
    if isinstance(answer, bytes):
        return answer.decode("utf-8", "replace")
    if isinstance(answer, dict):
        return " ".join(f"{spell(key)} {spell(value)}" for key, value in answer.items())
    if isinstance(answer, Iterator | list | tuple | set | frozenset):
        return " ".join(map(spell, answer))
    return str(answer)
