"""The HTTP door: routes that turn a request into a verb, and an error into a problem."""

from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute

from voxelight.app.api import (
    access,
    actions,
    artifacts,
    audit,
    compare,
    datasets,
    deletion,
    documents,
    exports,
    followup,
    health,
    jobs,
    links,
    models,
    oidc,
    privacy,
    recipes,
    recordings,
    results,
    reviews,
    scans,
    searches,
    sessions,
    static,
    trainings,
    uploads,
    vectors,
    viewer,
    workers,
)
from voxelight.app.api.dependencies import find_services
from voxelight.app.api.envelope import Envelope
from voxelight.app.api.problems import HANDLERS, MEDIA_TYPE, RESPONSES
from voxelight.app.api.requests import Requests
from voxelight.app.schemas import NOTICE
from voxelight.app.services import Services, find_version

DESCRIPTION = f"""{NOTICE}

Scans go in, jobs work on them, results come out. Every error is an `application/problem+json` that says what was found,
what was expected and what to do. Lists come in pages: hand `next_cursor` back as `cursor` for what follows."""


def create_api(services: Services) -> FastAPI:
    """Return the API, which expects to be mounted at `/api`.

    Parameters
    ----------
    services : the installation behind it; whoever opened it closes it
    """
    api = FastAPI(
        title="Voxelight",
        summary=NOTICE,
        description=DESCRIPTION,
        version=find_version(),
        # The pages for people load their scripts from elsewhere; the schema alone needs no network.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=HANDLERS,
        generate_unique_id_function=_name_operation,
        responses=RESPONSES,
    )
    api.state.services = services
    api.add_middleware(links.Links)
    api.add_middleware(Envelope)
    api.add_middleware(Requests, logs=services.settings.log_format == "json")
    version_1 = APIRouter(prefix="/v1")
    for router in PUBLIC:
        version_1.include_router(router)
    for router in ROUTERS:
        version_1.include_router(router, dependencies=[Depends(find_services)])
    api.include_router(version_1)
    describe = api.openapi
    api.openapi = lambda: _say_problems(describe())  # type: ignore[method-assign]  # the way FastAPI documents
    return api


def _name_operation(route: APIRoute) -> str:
    return route.name


def _say_problems(schema: dict[str, Any]) -> dict[str, Any]:
    """Give the answers that are problems their media type, which FastAPI takes from the route."""
    for path in schema["paths"].values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                if status in RESPONSES and "application/json" in answer.get("content", {}):
                    answer["content"] = {MEDIA_TYPE: answer["content"].pop("application/json")}
    return schema


# What needs no account: files of the package, whether the server lives, and the way in.
PUBLIC = (health.router, documents.router, static.router, sessions.router, oidc.router)
ROUTERS = (
    jobs.router,  # asked for the most, and addresses are compared in turn
    access.router,
    datasets.router,
    scans.router,
    privacy.router,
    recipes.router,
    recordings.router,
    results.router,
    searches.router,
    compare.router,
    reviews.router,
    followup.router,
    trainings.router,
    artifacts.router,
    models.router,
    vectors.router,
    deletion.router,
    uploads.tus,
    uploads.router,
    viewer.router,
    actions.router,
    exports.router,
    audit.router,
    links.router,
    workers.router,
)
