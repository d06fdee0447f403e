"""`simherd up`: everything on one machine, in the foreground."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simherd.cli.render import echo
from simherd.cli.up_view import announce, watch
from simherd.config import Connection, connection_file, write_connection
from simherd.contract.limits import DEFAULT_GROUP
from simherd.errors import SimherdError, Unreachable
from simherd.http import Api
from simherd.local.backend import BackendError, choose
from simherd.local.stack import Options, Stack, UpError, default_data_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

#: Seconds until every part must be ready.
_READY_S = 60.0


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything is kept [default: ~/.local/share/simherd].",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0: a free one.",
)
@click.option(
    "--machines",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help=f"Machines of the group {DEFAULT_GROUP!r}.",
)
@click.option(
    "--slots",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Tasks that a machine runs at a time.",
)
@click.option(
    "--backend",
    type=click.Choice(["docker", "process"]),
    help="How simulations run [default: docker if its engine responds, else process].",
)
def command(
    data_dir: Path | None, host: str, port: int, machines: int, slots: int, backend: str | None
) -> None:
    """Run all of Simherd on this machine until Ctrl-C."""
    folder = (data_dir or default_data_dir()).resolve()
    options = Options(
        data_dir=folder,
        host=host,
        port=port,
        machines=machines,
        slots=slots,
        backend=_backend(backend, folder),
    )
    stop = stop_on_signals()
    with running(options, stop) as stack:
        connection = Connection(stack.url, stack.key)
        write_connection(connection, options.data_dir / "connection.env")
        write_connection(connection, connection_file())
        announce(stack)
        watch(stack, stop)
        echo("Stopping ...")
    echo(f"Stopped. Everything is kept in {options.data_dir}")


def _backend(asked: str | None, data_dir: Path) -> str:
    """The backend, after a warning where simulations are not isolated without anybody's wish.
    Raises SimherdError: the engine is needed and does not respond."""
    try:
        choice = choose(asked, data_dir)
    except BackendError as error:
        raise SimherdError(str(error)) from error
    if choice.warning:
        echo(choice.warning, err=True)
    return choice.backend


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C or SIGTERM sets."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    return stop


@contextmanager
def running(options: Options, stop: threading.Event) -> Iterator[Stack]:
    """All parts, ready, with the first machine group started; stopped at the end.
    Raises SimherdError: a part cannot start."""
    stack = Stack(options)
    try:
        stack.start()
        _wait_ready(stack, stop)
        _launch_machines(stack)
        yield stack
    except UpError as error:
        raise SimherdError(str(error)) from error
    finally:
        stack.stop()


def _wait_ready(stack: Stack, stop: threading.Event) -> None:
    import httpx

    end = time.monotonic() + _READY_S
    with httpx.Client(timeout=5, trust_env=False) as client:
        while True:
            try:
                if client.get(f"{stack.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if stop.wait(0.05):
                sys.exit(130)
            if time.monotonic() > end:
                raise UpError(f"The API did not become ready. Its log: {stack.log_of('api')}")


def _launch_machines(stack: Stack) -> None:
    """Have the machines come up now, not at the next sweep."""
    api = Api(Connection(stack.url, stack.key))
    try:
        group = api.get(f"/compute/group/{DEFAULT_GROUP}")
        api.post("/compute/group/start", machine_group_id=group["id"])
    except Unreachable as error:
        raise UpError(f"{error} Its log: {stack.log_of('api')}") from error
