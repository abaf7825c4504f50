"""Which role each verb needs, and the guard that asks for it before a verb acts on behalf of somebody.

`ROLES_OF` is the whole policy: a verb that is missing there is refused to everybody, and fails a test.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from voxelight.models.errors import NotFound, Refused
from voxelight.storage.access import ANYBODY, INSTALLATION, Principal

_ANYBODY = {"access": "me"}  # with an account
_VIEWER = {
    "datasets": "list show",
    "scans": "list show read_thumbnail",
    "privacy": "list_held refuse_artifacts refuse_job refuse_scan",
    "jobs": "list_recipes list show find_ended find_request page_runs list_runs read_log count_queued",
    "recipes": "list show find_scans",
    "recordings": "list_layouts roots",
    "results": "query pick list_metrics walk show show_artifact read_range read export list_models",
    "searches": "list show read",
    "compare": "jobs models overlap compare",
    "viewer": "view_result view_scan open_scan open_image",
    "corrections": "list",
    "actions": "show find show_controls find_controls",
    "exports": "plan stream list_members report tabulate",
    "reviews": "list_cases show_case find_progress list_reviewers show",
    "quality": "group agree",
    "sheets": "draw",
    "followup": "list_series show",
    "vectors": "list_spaces find_near find_near_picture",
    "trainings": "list read_curves",
    "uploads": "limit_bytes show list show_batch",
    "workers": "queues",
}
_OPERATOR = {
    "datasets": "create ensure change",
    "scans": "receive keep keep_reference ingest_series ingest ingest_path",
    "drops": "take_in",
    "uploads": "create append cancel close_batch",
    "jobs": "submit cancel retry clone change",
    "recordings": "look register add compare",
    "searches": "create change delete",
    "actions": "evaluate evaluate_maps map_relevance",
    "vectors": "embed_run",
}
_REVIEWER = {
    "reviews": "save withdraw",
    "corrections": "receive keep keep_path interpolate",
    "privacy": "release reject preview_face deface",
}
_ADMIN = {
    "deletion": "plan delete list_receipts show_receipt",
    "privacy": "relink relink_all",
    "access": "list_members set_member remove_member",
}
_INSTALLATION = {
    "audit": "list verify export note",
    "access": "add_account has_admin list_accounts disable_account enable_account "
    "add_project list_projects move_dataset add_key list_keys revoke_key",
    "privacy": "read_key",
    "scans": "checks",
    "uploads": "sweep list_files close",
    "workers": "list",
    "vectors": "fill build_graph follow close",
}
ROLES_OF: Mapping[tuple[str, str], str] = {
    (verbs, method): role
    for role, table in (
        (ANYBODY, _ANYBODY),
        ("viewer", _VIEWER),
        ("operator", _OPERATOR),
        ("reviewer", _REVIEWER),
        ("admin", _ADMIN),
        (INSTALLATION, _INSTALLATION),
    )
    for verbs, methods in table.items()
    for method in methods.split()
}


class Verbs:
    """The verbs of an installation as one principal may use them, put together when they are first needed.

    Parameters
    ----------
    principal : who asks
    open_verbs : the verbs by name, before stores that show what a principal may see
    """

    def __init__(self, principal: Principal, open_verbs: Callable[[Principal], Mapping[str, Any]]) -> None:
        self.principal = principal
        self._open = open_verbs
        self._opened: dict[str, Mapping[str, Any]] = {}

    def find(self, name: str, method: str) -> Any:
        """Return a method, or another attribute, of some verbs.

        Raises
        ------
        Refused
            The principal may not use it anywhere.
        """
        role = ROLES_OF.get((name, method))
        if role is None:
            raise Refused(f"the verb {name}.{method}, which no role has", "one that a role has", "Ask for another.")
        refuse_without(self.principal, role)
        if role not in self._opened:
            self._opened[role] = self._open(self.principal.narrow(role))
        found = getattr(self._opened[role][name], method)
        hidden = sorted(set(self.principal.roles) - set(self.principal.narrow(role).roles))
        return _telling(found, role, hidden) if callable(found) and hidden else found


class Guarded:
    """Stands in for some verbs, and asks before each.

    Parameters
    ----------
    name : of the verbs
    verbs : of the principal
    """

    def __init__(self, name: str, verbs: Verbs) -> None:
        self._name = name
        self._verbs = verbs

    def __getattr__(self, method: str) -> Any:
        return self._verbs.find(self._name, method)


def refuse_without(principal: Principal, role: str) -> None:
    """Refuse what a principal may do nowhere.

    Raises
    ------
    Refused
        It has the role in no project, or its key lacks the scope.
    """
    if principal.may(role):
        return
    if role == INSTALLATION:
        raise Refused(f"{principal.name}, who does not administer this installation", "one who does", "Ask one.")
    own = ", ".join(f"{each} in {project}" for project, each in sorted(principal.roles.items())) or "in no project"
    narrowed = f", by a key for {', '.join(sorted(principal.scopes)) or 'nothing'}" if principal.key else ""
    raise Refused(
        f"{principal.name}, {own}{narrowed}",
        f"the role {role} in a project, and a key that may use it",
        "Ask an administrator for the role, or use a key with more scopes.",
    )


def _telling(verb: Callable[..., Any], role: str, hidden: list[str]) -> Callable[..., Any]:
    """Let an error that something is not there say where it was not looked for."""

    @wraps(verb)
    def tell(*args: Any, **kwargs: Any) -> Any:
        try:
            return verb(*args, **kwargs)
        except NotFound as error:
            more = f"This needs the role {role}, which you lack in {', '.join(hidden)}."
            raise NotFound(error.found, error.expected, f"{error.remedy} {more}") from error

    return tell
