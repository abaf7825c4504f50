"""Rules of thumb, with room: a file answers one question, a function does one thing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from voxelight.models.weights import WEIGHTS

FILE_LINES, FUNCTION_LINES, ARGUMENTS = 400, 60, 8
WEIGHTS_MB = 44


@pytest.fixture(scope="module")
def modules(root, built) -> dict[Path, ast.Module]:
    return {
        path: ast.parse((root / path).read_text())
        for path in built
        if path.suffix == ".py" and "versions" not in path.parts
    }


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from its name to its end, the docstring left out."""
    first = function.body[0]
    prose = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) is not None else 0
    return function.end_lineno - function.lineno + 1 - prose


def test_a_file_answers_one_question(root, modules):
    assert modules
    sizes = {str(path): len((root / path).read_text().splitlines()) for path in modules}
    long = {path: size for path, size in sizes.items() if size > FILE_LINES}
    assert not long, f"split by question what has more than {FILE_LINES} lines: {long}"


def test_a_function_does_one_thing(modules):
    sizes = {
        f"{path}:{function.name}": lines(function) for path, tree in modules.items() for function in functions(tree)
    }
    long = {name: size for name, size in sizes.items() if size > FUNCTION_LINES}
    assert not long, f"split what has more than {FUNCTION_LINES} lines: {long}"


def test_a_function_takes_few_arguments(modules):
    counts = {
        f"{path}:{function.name}": len(function.args.posonlyargs + function.args.args + function.args.kwonlyargs)
        for path, tree in modules.items()
        for function in functions(tree)
        if not function.decorator_list  # a command or a route takes what a person may type
    }
    many = {name: count for name, count in counts.items() if count > ARGUMENTS}
    assert not many, f"gather in an options model what takes more than {ARGUMENTS} arguments: {many}"


def test_no_module_is_a_drawer(built):
    drawers = [str(path) for path in built if path.stem in {"utils", "util", "helpers", "misc", "common"}]
    assert not drawers, f"name each file for the question that it answers: {drawers}"


def test_the_weights_stay_small_enough_to_clone(root, files):
    sizes = {path: (root / path).stat().st_size / 1e6 for path in files if path.suffix == ".safetensors"}
    assert sum(sizes.values()) < WEIGHTS_MB, f"{sizes} MB together"


def test_every_weight_has_its_card_and_its_licence(files):
    cards = {known.file: known.card for known in WEIGHTS.values()}
    for path in files:
        if path.suffix == ".safetensors":
            card = path.with_name(cards[path.name])
            assert card in files, f"{path} has no model card beside it"
            assert card.with_suffix(".LICENSE") in files, f"{path} has no licence beside it"
