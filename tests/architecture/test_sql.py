"""What asks the database past the sessions that know who asks: every place is known, with why that leaks nothing."""

import ast
from pathlib import Path

PLACES = ("storage", "app/pipelines", "app/verbs", "app/api", "app/ui", "app/services.py", "app/auth.py")
TEXT = ("text", "exec_driver_sql")
PLAIN = ("connect", "begin")  # of an engine
ALL = ("seeing_everything",)
# File -> how often: text of SQL, connections of an engine or a session, plain tables, blocks that see everything.
KNOWN = {
    "app/pipelines/glm.py": {"seeing_everything": 1},  # whether the name of a data set to be is taken
    "app/services.py": {"text": 1, "connect": 1},  # SELECT 1
    "app/verbs/access.py": {"seeing_everything": 3},  # members of a project whose admin asks, by name
    "app/verbs/arrivals.py": {"table": 1},  # writes whose upload became a scan
    "app/verbs/deletion.py": {"seeing_everything": 1},  # what hangs on a row that showed, and who else names its files
    "app/verbs/progress.py": {"seeing_everything": 2},  # places in a queue that all share, and what an item takes
    "app/verbs/submission.py": {"seeing_everything": 1},  # one row of a model for all projects, found again by its hash
    "app/verbs/uploads.py": {"seeing_everything": 1},  # uploads whose time is over, whoever began them
    "storage/access.py": {"table": 10},  # what the conditions look through
    "storage/halfvec.py": {"text": 16, "connect": 3, "begin": 2},  # vectors, narrowed by the condition of the search
    "storage/proof.py": {"connect": 1},  # every row, for words of what was erased; it tells where, not what
    "storage/quotas.py": {"text": 2, "connection": 1},  # what all of a project or an account takes, to refuse more
    "storage/search.py": {
        "text": 1,
        "seeing_everything": 3,
        "table": 1,
    },  # the planner; sizes
    "storage/stores.py": {"seeing_everything": 3},  # whether another project names the same file
    "storage/vectors.py": {"seeing_everything": 1},  # the row of a space, before anything of one's own is in it
}
# Modules of the shell and the workers, for whom nothing is hidden, and of the database itself.
WORK_FOR_NOBODY = {
    *("storage/audit.py", "storage/backup.py", "storage/database.py", "storage/leases.py", "storage/moving.py"),
    *("storage/portable.py", "storage/restore.py", "storage/workers.py"),
}


def count(path: Path) -> dict[str, int]:
    """How often a file does one of these."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr == "__table__":
            found["table"] = found.get("table", 0) + 1
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        of = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        plain = (name in PLAIN and of.endswith("engine")) or (name == "connection" and of.endswith("session"))
        written = name in TEXT and (isinstance(node.func, ast.Name) or name == "exec_driver_sql")
        if plain or written or name in ALL:
            found[name] = found.get(name, 0) + 1
    return found


def test_every_way_past_a_session_that_knows_who_asks_is_known(root, files):
    found = {}
    for path in files:
        name = path.as_posix()
        if path.suffix == ".py" and name.startswith(PLACES) and "/migrations/" not in name:
            found[name] = count(root / path)
    assert len(found) > 100
    told = {name: ways for name, ways in found.items() if ways and name not in WORK_FOR_NOBODY}
    assert told == KNOWN


def test_verbs_make_no_sessions_of_their_own(root, files):
    """A session that nobody bound would show everything."""
    made = [
        path.as_posix()
        for path in files
        if path.suffix == ".py" and path.as_posix().startswith(("app/verbs", "app/api", "app/ui"))
        if any(
            word in (root / path).read_text() for word in ("sessionmaker(", "Session(", "create_engine", "open_engine")
        )
    ]
    assert made == []
