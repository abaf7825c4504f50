"""How a process tells what it does, as the settings ask: structured logs and traces."""

from voxelight.app.settings import Settings


def begin_watching(settings: Settings) -> None:
    """Log as JSON lines, and make spans, where that is asked for.

    Raises
    ------
    NotInstalled
        Traces are asked for without their packages.
    """
    if settings.log_format == "json":
        from voxelight.app.logs import log_as_json

        log_as_json()
    if settings.traces:
        from voxelight.app.traces import trace

        trace()
