"""`simherd demo`: a real simulation through the whole system, and nothing left running."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.resources import as_file, files
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import click

from simherd import config, simulators
from simherd.cli.render import echo
from simherd.cli.up import running
from simherd.contract.lifecycle import TABLE, Status
from simherd.errors import SimherdError
from simherd.local.backend import engine_trouble
from simherd.local.stack import Options, Stack
from simherd.utils import format_seconds

if TYPE_CHECKING:
    from simherd.task import Task

_SCENE = "config.json"
#: Makes the image that the shipped table of image names points SplishSplash at.
_BUILD = Path(__file__).parents[2] / "deploy" / "images" / "splishsplash" / "build.sh"


@click.command()
@click.option(
    "--output",
    default="demo-output",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the outputs.",
)
@click.option(
    "--backend",
    type=click.Choice(["docker", "process"]),
    help="How it runs [default: docker if an engine responds, else process].",
)
def command(output: Path, backend: str | None) -> None:
    """Run a real fluid simulation, from nothing to its outputs on disk.

    Starts Simherd on free ports in a temporary folder, submits the double dam break of
    SPlisHSPlasH, follows it, downloads what it puts out, and stops everything.
    """
    started = time.monotonic()
    backend = _prepare(backend)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop everything, as Ctrl-C does
    data = Path(tempfile.mkdtemp(prefix="simherd-demo-"))
    keep = False
    try:
        _say("Starting Simherd: Redis, API, recorder, worker and one machine.")
        with running(Options(data, port=0, backend=backend), Event()) as stack:
            status = _run(stack, output.resolve(), backend)
    except Exception:
        keep = True
        _say(f"That did not work; logs are in {data / 'logs'}.")
        raise
    finally:
        if not keep:
            shutil.rmtree(data, ignore_errors=True)
    _say(f"Stopped; nothing is left running. All of it took {format_seconds(_since(started))}.")
    sys.exit(status != Status.SUCCESS)


def _since(started: float) -> float:
    return time.monotonic() - started


def _say(line: str) -> None:
    echo(f"simherd: {line}", bold=True)


def _prepare(backend: str | None) -> str:
    """Choose the backend, and have what the simulator needs there.
    Raises SimherdError: it cannot be had."""
    if backend != "process":
        trouble = engine_trouble()
        if trouble is not None and backend == "docker":
            raise SimherdError(
                f"The Docker engine does not respond ({trouble}). Start Docker, or say "
                "--backend process."
            )
        if trouble is not None:
            _say(f"The Docker engine does not respond ({trouble}).")
            _say("The simulation runs as a plain process, not isolated from this machine.")
        backend = "docker" if trouble is None else "process"
    if backend == "docker" and _BUILD.exists():
        if subprocess.run([_BUILD], check=False).returncode != 0:
            raise SimherdError("The simulator's image could not be built; see above.")
    elif backend == "docker":
        raise SimherdError("The image is built from the source tree. Use --backend process.")
    elif importlib.util.find_spec("pysplishsplash") is None:
        raise SimherdError("The simulator is missing: pip install 'simherd[all,demo]'.")
    return backend


def _run(stack: Stack, output: Path, backend: str) -> Status:
    os.environ[config.URL_VARIABLE], os.environ[config.KEY_VARIABLE] = stack.url, stack.key
    _say(f"Simherd is ready at {stack.url}. Submitting the double dam break.")
    with as_file(files("simherd") / "demo_data") as folder:
        task = _submit(folder, backend)
    _say(f"Task {task.id}")
    with task.sync_context():
        status = task.wait(download_std_on_completion=False)
    if status != Status.SUCCESS:
        echo(task.info, lines=True, err=True)
        return status
    place = task.download_outputs(output_dir=str(output))
    echo(task.get_output_info(), lines=True)
    _say(f"{TABLE[status].label}. The outputs are in {place}. Where the time went:")
    for label, seconds in task.info.stage_seconds().items():
        echo(f"  {label:<16} {format_seconds(seconds):>10}")
    return status


def _submit(folder: Path, backend: str) -> Task:
    inputs = folder / "double-dam-break"
    task: Task
    if backend == "docker":
        task = simulators.SplishSplash().run(inputs, sim_config_filename=_SCENE)
        return task
    script = folder / "splash.py"
    line = f"'{sys.executable}' '{script}' {_SCENE} --output-dir ."
    task = simulators.CustomImage("pysplishsplash").run(inputs, commands=[line])
    return task
