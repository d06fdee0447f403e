"""`simherd up`: everything on one machine, in the foreground."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import httpx

from simherd.local.stack import Options, Stack, UpError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

#: Seconds until every part must have answered.
_READY_S = 60.0
#: Name of the machine group that is there from the start.
GROUP = "local"


def default_data_dir() -> Path:
    """Where `simherd up` keeps its state when it is not told."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "simherd"


def has_docker() -> bool:
    """Whether a Docker engine answers on this machine."""
    if shutil.which("docker") is None and not Path("/var/run/docker.sock").exists():
        return False
    try:
        done = subprocess.run(
            ["docker", "info"], capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@click.command()
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), default=None)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on; 0: a free one.")
@click.option("--machines", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--slots", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option(
    "--backend",
    type=click.Choice(["docker", "process"]),
    default=None,
    help="How simulations run [default: docker if an engine answers, else process].",
)
def command(
    data_dir: Path | None, host: str, port: int, machines: int, slots: int, backend: str | None
) -> None:
    """Run all of Simherd on this machine until Ctrl-C."""
    options = Options(
        data_dir=(data_dir or default_data_dir()).resolve(),
        host=host,
        port=port,
        slots=slots,
        backend=backend or ("docker" if has_docker() else "process"),
    )
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        with running(options, machines, stop) as stack:
            _announce(stack, machines)
            while not stop.wait(0.5):
                for name in stack.look():
                    click.echo(f"  {name} died and was started again, see {stack.log_of(name)}")
            click.echo("Stopping ...")
    except UpError as error:
        raise click.ClickException(str(error)) from error
    click.echo("Stopped. Everything is kept in " + str(options.data_dir))


@contextmanager
def running(options: Options, machines: int, stop: threading.Event) -> Iterator[Stack]:
    """All parts, ready, with the first machine group started; stopped at the end.

    Raises:
        UpError: a part cannot start.
    """
    stack = Stack(options)
    try:
        stack.start()
        _wait_ready(stack, stop)
        write_connection(stack, options.data_dir / "connection.env")
        write_connection(stack, user_connection_file())
        _ensure_group(stack, machines)
        yield stack
    finally:
        stack.stop()


def _wait_ready(stack: Stack, stop: threading.Event) -> None:
    waited = 0.0
    while True:
        try:
            if httpx.get(f"{stack.url}/readyz", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        if stop.wait(0.1) or (waited := waited + 0.1) > _READY_S:
            raise UpError(f"The API did not become ready. Its log: {stack.log_of('api')}")


def user_connection_file() -> Path:
    """Where the client and the command line of this user look for URL and key."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "simherd" / "connection.env"


def write_connection(stack: Stack, path: Path) -> None:
    """Write URL and key, for their owner alone to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "w") as writer:
        writer.write(f"SIMHERD_API_URL={stack.url}\nSIMHERD_API_KEY={stack.key}\n")
    new.replace(path)


def _ensure_group(stack: Stack, machines: int) -> None:
    """Have the group `local` with this many machines, started."""
    with httpx.Client(
        base_url=stack.url, headers={"X-API-Key": stack.key}, timeout=30, trust_env=False
    ) as api:
        found = api.get(f"/compute/group/{GROUP}")
        if found.status_code == 200 and found.json()["num_vms"] != machines:
            api.delete("/compute/group", params={"machine_group_id": found.json()["id"]})
            found = api.get("/compute/group/-")
        if found.status_code == 404:
            body = {"machine_type": "local", "provider_id": "LOCAL", "name": GROUP}
            found = api.post("/compute/group", json={**body, "num_vms": machines, "spot": False})
            found.raise_for_status()
        api.post(
            "/compute/group/start", params={"machine_group_id": found.json()["id"]}
        ).raise_for_status()


def _announce(stack: Stack, machines: int) -> None:
    options = stack.options
    how = options.backend
    if how == "process":
        how += " (insecure: simulations run as this user, without a container)"
    click.echo(f"Simherd is ready at {stack.url}")
    click.echo(f"  machine group  {GROUP}: {machines} machine(s) with {options.slots} slot(s)")
    click.echo(f"  backend        {how}")
    click.echo(f"  data           {options.data_dir}")
    click.echo(f"  URL and key    {options.data_dir / 'connection.env'}")
    click.echo("Ctrl-C stops everything.")


if __name__ == "__main__":
    command()
