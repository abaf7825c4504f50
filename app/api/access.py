"""Accounts, projects, members and keys over HTTP."""

from fastapi import APIRouter, Response

from voxelight.app.api.dependencies import PREFIX, Door
from voxelight.app.schemas import DatasetAnswer, Page
from voxelight.app.schemas_access import (
    AccountAnswer,
    AccountRequest,
    KeyAnswer,
    KeyRequest,
    MeAnswer,
    MemberAnswer,
    MemberRequest,
    NewKeyAnswer,
    ProjectAnswer,
    ProjectRequest,
)

router = APIRouter(tags=["access"])


@router.get("/me")
def show_me(services: Door) -> MeAnswer:
    """Say who asks, in which role of which project, and what of it the key may use."""
    return services.access.me()


@router.get("/accounts")
def list_accounts(services: Door) -> Page[AccountAnswer]:
    """List accounts, by name."""
    return Page(items=services.access.list_accounts(), next_cursor=None)


@router.post("/accounts", status_code=201)
def add_account(services: Door, account: AccountRequest) -> AccountAnswer:
    """Add an account; it may do nothing until it is a member of a project or an administrator."""
    return services.access.add_account(account)


@router.post("/accounts/{name}/disable")
def disable_account(services: Door, name: str) -> AccountAnswer:
    """Let an account and all its keys do nothing more, from its next request on."""
    return services.access.disable_account(name)


@router.post("/accounts/{name}/enable")
def enable_account(services: Door, name: str) -> AccountAnswer:
    """Let a disabled account and its keys work again."""
    return services.access.enable_account(name)


@router.get("/projects")
def list_projects(services: Door) -> Page[ProjectAnswer]:
    """List projects, by name."""
    return Page(items=services.access.list_projects(), next_cursor=None)


@router.post("/projects", status_code=201)
def add_project(services: Door, project: ProjectRequest) -> ProjectAnswer:
    """Add a project: a group of data sets that are shown to the same people."""
    return services.access.add_project(project)


@router.put("/projects/{project}/datasets/{dataset}")
def move_dataset(services: Door, project: str, dataset: str) -> DatasetAnswer:
    """Put a data set with everything that hangs on it into a project."""
    return services.access.move_dataset(dataset, project)


@router.get("/projects/{project}/members")
def list_members(services: Door, project: str) -> Page[MemberAnswer]:
    """List who belongs to a project."""
    return Page(items=services.access.list_members(project), next_cursor=None)


@router.put("/projects/{project}/members/{account}")
def set_member(services: Door, project: str, account: str, member: MemberRequest) -> MemberAnswer:
    """Give an account a role in a project, in place of the one that it had."""
    return services.access.set_member(project, account, member)


@router.delete("/projects/{project}/members/{account}", status_code=204, response_class=Response)
def remove_member(services: Door, project: str, account: str) -> Response:
    """Take an account out of a project."""
    services.access.remove_member(project, account)
    return Response(status_code=204)


@router.get("/keys")
def list_keys(services: Door, account: str | None = None) -> Page[KeyAnswer]:
    """List keys by their prefixes, newest first; secrets are not kept."""
    return Page(items=services.access.list_keys(account), next_cursor=None)


@router.post("/keys", status_code=201)
def add_key(services: Door, key: KeyRequest, response: Response) -> NewKeyAnswer:
    """Make a key; its text is in this answer and nowhere else."""
    answer = services.access.add_key(key)
    response.headers["Location"] = f"{PREFIX}/keys/{answer.prefix}"
    response.headers["Cache-Control"] = "no-store"
    return answer


@router.delete("/keys/{prefix}")
def revoke_key(services: Door, prefix: str) -> KeyAnswer:
    """End a key, and the sign-ins that were made with it, from the next request on."""
    return services.access.revoke_key(prefix)
