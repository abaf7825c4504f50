"""The schema is valid and whole, and the page of documents says what it says."""

import re
from pathlib import Path

import pytest
from openapi_spec_validator import validate

PAGE = Path(__file__).parents[3] / "docs" / "http.md"


@pytest.fixture
def schema(client):
    answer = client.get("http://localhost/api/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def routes(schema) -> set[str]:
    return {f"{method.upper()} /api{path}" for path, methods in schema["paths"].items() for method in methods}


def test_the_schema_is_valid_and_says_what_it_is_not_for(schema):
    validate(schema)
    assert "Not for clinical use" in schema["info"]["description"]
    assert schema["servers"] == [{"url": "/api"}]


def test_every_operation_has_a_name_of_its_own_and_problems(schema):
    operations = [operation for methods in schema["paths"].values() for operation in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        assert operation["description"]
        for status in ("4XX", "5XX"):
            content = operation["responses"][status]["content"]
            assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_every_route_is_documented_with_a_command(schema):
    text = PAGE.read_text()
    headings = set(re.findall(r"^### `([A-Z]+ /api/\S+)`$", text, flags=re.MULTILINE))
    assert headings == routes(schema)
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        assert "curl -" in section, f"{section.splitlines()[0]} shows no command"
