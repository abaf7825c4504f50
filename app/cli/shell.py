"""What the commands share: imported late, asked through one object, refused in one form."""

from collections import UserDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from voxelight.app.errors import find_answer
from voxelight.models.errors import BadInput, VoxelightError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console, RenderableType
    from rich.progress import Progress

    from voxelight.app.services import Services
    from voxelight.app.settings import Settings

    M = TypeVar("M", bound=BaseModel)
    F = TypeVar("F", bound=Callable[..., Any])

# A page or a log has no width of its own; rows should not break there.
_WIDTH_WITHOUT_TERMINAL = 200
INTERRUPTED = 130  # 128 + SIGINT, as shells count


class Shell:
    """One call of the shell: its settings, the services, and where it speaks.

    Parameters
    ----------
    home : folder for everything that is stored, where given
    """

    def __init__(self, home: Path | None) -> None:
        self._home = home
        self.json = False

    @cached_property
    def settings(self) -> "Settings":
        """Settings of this process."""
        from voxelight.app.settings import Settings

        return _build(Settings, {"home": self._home} if self._home else {}, secret=True)

    @cached_property
    def services(self) -> "Services":
        """The services, opened on first use and closed at the end of the call."""
        from voxelight.app.bootstrap import open_services

        services = open_services(self.settings)
        click.get_current_context().find_root().call_on_close(services.close)
        return services

    def answer(self, answer: "BaseModel | Sequence[BaseModel]", *readable: "RenderableType") -> None:
        """Print an answer: as JSON where that was asked for, else as a person reads it."""
        if not self.json:
            console = self._console(stderr=False)
            for part in readable:
                console.print(part, markup=False, highlight=False)
            return
        if isinstance(answer, Sequence):
            click.echo(f"[{', '.join(item.model_dump_json(indent=2) for item in answer)}]")
        else:
            click.echo(answer.model_dump_json(indent=2))

    def note(self, text: str) -> None:
        """Say something beside the answer, on standard error; as JSON nothing is said beside it."""
        if not self.json:
            self._console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self) -> "Iterator[Progress]":
        """Show bars on standard error while the block runs, where a person is looking."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = self._console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            yield progress

    @staticmethod
    def _console(stderr: bool) -> "Console":
        from rich.console import Console

        console = Console(stderr=stderr)
        return console if console.is_terminal else Console(stderr=stderr, width=_WIDTH_WITHOUT_TERMINAL)


def ask(model: "type[M]", /, **values: Any) -> "M":
    """Build a request from what a person typed.

    Raises
    ------
    BadInput
        A value is none that the request allows.
    """
    return _build(model, values)


def _build(model: "type[M]", values: dict[str, Any], secret: bool = False) -> "M":
    """Build a model; a value that is wrong is not repeated where it may be a `secret`."""
    from pydantic import ValidationError

    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or model.__name__
        found = "a value" if secret else repr(first["input"])
        raise BadInput(
            f"{found} for {place}", first["msg"][:1].lower() + first["msg"][1:], "Correct it and try again."
        ) from error


def older_than_option(told: str) -> "Callable[[F], F]":
    """Return the option of an age in hours, `older_than_h`; `told` says what it is for."""
    return click.option(
        "--older-than",
        "older_than_h",
        default=24.0,
        show_default=True,
        type=click.FloatRange(min=0),
        metavar="HOURS",
        help=told,
    )


class Refusal(click.ClickException):
    """An error as the shell ends with it."""

    def __init__(self, error: VoxelightError, as_json: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.exit_code = find_answer(error)[1]  # type: ignore[misc]  # click lets every error have its own
        self._as_json = as_json

    def show(self, file: Any = None) -> None:
        """Print what was found, what was expected and what to do."""
        if self._as_json:
            from voxelight.app.problem import describe_problem

            click.echo(describe_problem(self.error).model_dump_json(indent=2), file=file, err=file is None)
            return
        for label, text in (("Found", self.error.found), ("Expected", self.error.expected)):
            click.echo(f"{label:9}{text}", file=file, err=file is None)
        click.echo(f"{'To do':9}{self.error.remedy}", file=file, err=file is None)


class Verb(click.Command):
    """A command that can answer in JSON."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--json"],
                is_flag=True,
                expose_value=False,
                help="Answer in JSON; errors go to standard error as JSON.",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note the wish for JSON before anything can go wrong."""
        shell = ctx.find_object(Shell)
        if shell is not None:
            shell.json = "--json" in args
        return super().parse_args(ctx, args)


class Group(click.Group):
    """Commands about one noun."""

    command_class = Verb


class _Lazy(UserDict[str, Any]):
    """Name -> command, imported from ``module:attribute`` when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = self.data[name].partition(":")
        return getattr(import_module(module), attribute)


class LazyGroup(Group):
    """The top of the shell.

    Parameters
    ----------
    table : command -> (``module:attribute``, its first sentence)
    """

    def __init__(self, *args: Any, table: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands = _Lazy({name: target for name, (target, _) in table.items()})
        self._sentences = {name: sentence for name, (_, sentence) in table.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self._sentences)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._sentences.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; neither an error that a person is meant to read nor Ctrl-C ends it with a traceback."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except VoxelightError as error:
            raise Refusal(error, ctx.obj.json) from error
        except click.UsageError as error:
            if ctx.obj is None or not ctx.obj.json:
                raise
            place = error.ctx.command_path if error.ctx else "voxelight"
            raise Refusal(
                BadInput(error.format_message(), f"the words that {place} takes", f"Read {place} --help."), as_json=True
            ) from error
