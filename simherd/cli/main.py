"""The command line's entry: commands are imported when they are called, so that it is quick."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import TYPE_CHECKING

import click

from simherd.cli.render import echo
from simherd.errors import SimherdError

if TYPE_CHECKING:
    from types import ModuleType

#: Command -> module that holds it as `command`, and its line in `--help`.
_COMMANDS = {
    "up": ("simherd.cli.up", "Run all of Simherd on this machine until Ctrl-C."),
    "demo": ("simherd.cli.demo", "Run a real fluid simulation, from nothing to its outputs."),
    "run": ("simherd.cli.run", "Run commands in a container image on a folder of inputs."),
    "tasks": ("simherd.cli.tasks", "List, wait for, kill and download tasks."),
    "logs": ("simherd.cli.logs", "Show what a task writes, while it runs or afterwards."),
    "projects": ("simherd.cli.projects", "List projects, download their outputs, delete them."),
    "simulators": ("simherd.cli.simulators", "List the simulators that the server offers."),
    "resources": ("simherd.cli.resources", "List, start and terminate machine groups."),
    "storage": ("simherd.cli.storage", "List, upload, download and remove stored files."),
    "containers": ("simherd.cli.containers", "Keep container images in the storage."),
    "events": ("simherd.cli.events", "Get webhooks or e-mails when something happens."),
    "task-runner": ("simherd.cli.task_runner", "Show how your own machine joins."),
    "quotas": ("simherd.cli.quotas", "Show your quotas and what is in use."),
    "costs": ("simherd.cli.costs", "Show what a month cost."),
    "user": ("simherd.cli.user", "Show your account."),
    "admin": ("simherd.cli.admin", "For operators: look after a server."),
    "sim": ("simherd_drills.cli", "For operators: break a fleet on purpose, to see that it holds."),
    "auth": ("simherd.cli.auth", "Log in to a server, and out."),
    "completion": ("simherd.cli.completion", "Print the script that completes for a shell."),
}
#: Set to anything: an error that nobody foresaw is shown with all of its traceback.
_TRACEBACK_VARIABLE = "SIMHERD_TRACEBACK"


class _Lazy(click.Group):
    """A group whose commands are looked up by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        found = _module(name).command
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


def _module(name: str) -> ModuleType:
    module = _COMMANDS[name][0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in ("simherd_drills", module):
            raise
        message = f"`simherd {name}` is not installed: pip install simherd-drills"
        raise SimherdError(message) from None


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "-V", "--version", package_name="simherd")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run simulations on groups of machines."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main() -> None:
    """Run the command line. Exits 0 when all is well, 1 on an error, 2 on wrong usage, 130 after
    Ctrl-C."""
    try:
        # An exit code where a command was left early, else nothing.
        sys.exit(cli.main(prog_name="simherd", standalone_mode=False))
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        echo(shown.getvalue().rstrip("\n"), lines=True, err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("Interrupted.", 130)
    except BrokenPipeError:
        # The reader has gone; Python would complain once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (SimherdError, OSError) as error:
        _fail(f"Error: {error}", 1)
    except Exception as error:
        if os.environ.get(_TRACEBACK_VARIABLE):
            raise
        what = f"{type(error).__name__}: {error}"
        _fail(f"Error: this should not happen: {what}\n{_TRACEBACK_VARIABLE}=1 shows where.", 1)


def _fail(message: str, code: int) -> None:
    echo(message, lines=True, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
