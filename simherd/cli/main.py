"""The command line's entry: commands are imported when they are called, so that it is quick."""

from __future__ import annotations

import importlib
import os
import sys

import click

from simherd.errors import SimherdError

#: Command -> module that holds it as `command`, and its line in `--help`.
_COMMANDS = {
    "up": ("simherd.cli.up", "Run all of Simherd on this machine until Ctrl-C."),
    "demo": ("simherd.cli.demo", "Run a real fluid simulation, from nothing to its outputs."),
    "run": ("simherd.cli.run", "Run commands in a container image on a folder of inputs."),
    "tasks": ("simherd.cli.tasks", "List, wait for, kill and download tasks."),
    "logs": ("simherd.cli.logs", "Show what a task writes, while it runs or afterwards."),
    "resources": ("simherd.cli.resources", "List, start and terminate machine groups."),
    "storage": ("simherd.cli.storage", "List, upload, download and remove stored files."),
    "containers": ("simherd.cli.containers", "Keep container images in the storage."),
    "events": ("simherd.cli.events", "Be told of what happens, by webhook or e-mail."),
    "quotas": ("simherd.cli.quotas", "Show what you may have at one time."),
    "costs": ("simherd.cli.costs", "Show what a month cost."),
    "admin": ("simherd.cli.admin", "For operators: look after a server."),
    "auth": ("simherd.cli.auth", "Log in to a server, and out."),
}


class _Lazy(click.Group):
    """A group whose commands are looked up by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        found = importlib.import_module(_COMMANDS[name][0]).command
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="simherd")
def cli() -> None:
    """Run simulations on groups of machines."""


def main() -> None:
    """Run the command line; exits 0 when all is well, 1 on an error, 2 on wrong usage."""
    try:
        cli.main(prog_name="simherd", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SimherdError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader has gone; Python would complain once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
