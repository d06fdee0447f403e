"""`simherd containers`: the user's images, stored as `docker save` makes them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path, PurePosixPath

import click

from simherd import storage
from simherd.cli.parts import Verbs, confirm, yes_option
from simherd.cli.render import echo
from simherd.cli.storage import max_results_option, show
from simherd.cli.watch import shows
from simherd.errors import InvalidInput, NotFound, SimherdError

#: Folder of the storage that images go to where none is named.
_FOLDER = "containers"
_TAR = ".tar"
_REFERENCE = "docker://"


@click.group(cls=Verbs)
def command() -> None:
    """Keep container images in the storage."""


@command.command("list")
@click.argument("folder", default=_FOLDER)
@max_results_option
@shows
def list_(folder: str, max_results: int, json_: bool) -> None:
    """List the images in FOLDER."""
    try:
        entries = storage.listdir(folder, max_results)
    except NotFound:
        entries = []
    show(entries, json_)


@command.command()
@click.argument("folder", default=_FOLDER)
@click.option("-n", "--name", required=True, help="Name of the image's file.")
@yes_option
def remove(folder: str, name: str, yes: bool) -> None:
    """Remove an image from FOLDER."""
    path = f"{folder.rstrip('/')}/{name}"
    if not yes:
        storage.listdir(path, 1)  # where it is missing, the server says so before the question
    confirm(f"Remove {path} for good?", yes)
    storage.remove(path)
    echo(f"Removed {path}.")


@command.command()
@click.argument("image")
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
def convert(image: str, output: Path) -> None:
    """Save an image of the local Docker, or of a registry (docker://NAME), to the file OUTPUT."""
    _save(image, output)
    echo(output)


@command.command()
@click.argument("image")
@click.argument("output_path", required=False)
@click.option("-f", "--overwrite", is_flag=True, help="Replace an image of that name.")
def upload(image: str, output_path: str | None, overwrite: bool) -> None:
    """Save an image and upload it to OUTPUT_PATH (by default containers/NAME.tar).

    IMAGE is one of the local Docker, one of a registry (docker://NAME), or a .tar file that
    `docker save` made.
    """
    path = _remote_path(image, output_path)
    if _is_stored(path):
        confirm(f"{path} is there already. Replace it?", overwrite, option="--overwrite")
    folder = str(path.parent)
    with tempfile.TemporaryDirectory(prefix="simherd-image-") as scratch:
        file = Path(scratch, path.name)
        _save(image, file)
        storage.upload(file, folder)
    echo(path)


def _remote_path(image: str, given: str | None) -> PurePosixPath:
    if given is None:
        name = re.sub("[^A-Za-z0-9_.-]+", "_", _local_name(image))
        given = f"{_FOLDER}/{name}"
    path = PurePosixPath(given.strip("/") if "/" in given else f"{_FOLDER}/{given}")
    return path if path.suffix == _TAR else path.with_name(path.name + _TAR)


def _local_name(image: str) -> str:
    if image.endswith(_TAR):
        return Path(image).stem
    return image.removeprefix(_REFERENCE)


def _is_stored(path: PurePosixPath) -> bool:
    try:
        return bool(storage.listdir(str(path)))
    except NotFound:
        return False


def _save(image: str, file: Path) -> None:
    """Write the image as `docker save` does."""
    if image.endswith(_TAR):
        if not Path(image).is_file():
            raise InvalidInput(f"image: there is no file {image!r}.")
        shutil.copyfile(image, file)
        return
    if shutil.which("docker") is None:
        raise SimherdError(
            "There is no `docker` on this machine. Install it, or give a .tar that `docker save` "
            "made."
        )
    if image.startswith(_REFERENCE):
        _docker("pull", "--quiet", _local_name(image))
    _docker("save", "--output", str(file), _local_name(image))


def _docker(*arguments: str) -> None:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SimherdError(f"`docker {arguments[0]}` failed: {done.stderr.strip()}")
