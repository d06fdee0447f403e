"""`simherd task-runner`: what it is called here."""

from __future__ import annotations

import click

from simherd.errors import SimherdError


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def command() -> None:
    """Show how your own machine joins.

    There is no task-runner here; your own machine joins a machine group.
    """
    raise SimherdError(
        "There is no task-runner here: your own machine joins a machine group.\n"
        "  1. Make a group once:    simherd resources start local --name mine --from external\n"
        "  2. Ask for its command:  simherd resources invite mine\n"
        "  3. Run what it prints on the machine: simherd-executor join TOKEN --api URL\n"
        "Ctrl-C there takes the machine out again."
    )
