"""`simherd admin restore`: done beside the database, for while it is done no server runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from simherd.cli.parts import confirm, yes_option
from simherd.errors import InvalidInput, SimherdError
from simherd.local.stack import (
    DATABASE,
    DATABASE_VARIABLE,
    UpError,
    check_installed,
    default_data_dir,
)

#: Variables that name the server's database; one of them is enough.
_SETTINGS = (DATABASE_VARIABLE, "SIMHERD_SECRETS_DIR")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--replace", is_flag=True, help="Destroy what is in the database.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the `simherd up` [default: ~/.local/share/simherd].",
)
@yes_option
def command(file: Path, replace: bool, data_dir: Path | None, yes: bool) -> None:
    """Put the backup FILE in place of the database, where the server's parts are installed.

    The database is that of the server's settings (SIMHERD_DATABASE_URL, SIMHERD_SECRETS_DIR), or
    else of a `simherd up`. Stop the server first; docs/backup.md says what it means to go back in
    time.
    """
    try:
        check_installed()
    except UpError as error:
        raise SimherdError(str(error)) from error
    settings = {name for name in _SETTINGS if os.environ.get(name)}
    if settings and data_dir is not None:
        raise InvalidInput(
            f"data-dir: {min(settings)} is set, too, and names another database. Leave one out."
        )
    if replace:
        confirm("Destroy all that the database holds, and put the backup in its place?", yes)
    own = {} if settings else {DATABASE_VARIABLE: _own_database(data_dir or default_data_dir())}
    # The address is in the environment: arguments are there for others to read.
    done = subprocess.run(
        [sys.executable, "-m", "scheduler", "restore", *(["--replace"] if replace else []), file],
        env={**os.environ, **own},
        check=False,
    )
    sys.exit(done.returncode)


def _own_database(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    database = folder.resolve() / DATABASE
    # It holds what only its owner may read.
    database.touch(mode=0o600)
    return f"sqlite:///{database}"
