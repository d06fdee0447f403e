"""`simherd auth`."""

from __future__ import annotations

import click

from simherd import config
from simherd.cli.parts import Verbs
from simherd.cli.render import echo
from simherd.config import Connection, connection_file, write_connection
from simherd.http import Api


@click.group(cls=Verbs)
def command() -> None:
    """Log in to a server, and out."""


@command.command()
@click.option("--url", prompt="Server URL", envvar=config.URL_VARIABLE, help="The server.")
@click.option("--key", hide_input=True, prompt="API key", envvar=config.KEY_VARIABLE, hidden=True)
@click.option("--private", is_flag=True, expose_value=False, hidden=True)
@click.option("--no-examples", is_flag=True, expose_value=False, hidden=True)
def login(url: str, key: str) -> None:
    """Keep a server's URL and key for this user, once the server takes the key.

    The key is asked for, or taken from SIMHERD_API_KEY; a command's arguments can be seen by
    everybody on the machine.
    """
    # The hidden options are what other scripts say: a key is never shown here, and nothing fetched.
    connection = Connection(url.strip().rstrip("/"), key.strip())
    user = Api(connection).get("/users/info")
    write_connection(connection, connection_file())
    echo(f"Logged in to {connection.url} as {user['username']}.")


@command.command()
def logout() -> None:
    """Forget the server's URL and key."""
    connection_file().unlink(missing_ok=True)
    echo("Logged out.")
