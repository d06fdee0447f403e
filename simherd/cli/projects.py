"""`simherd projects`."""

from __future__ import annotations

import click

from simherd import config, projects
from simherd.cli import complete
from simherd.cli.parts import Spread, Verbs, confirm, yes_option
from simherd.cli.render import Columns, as_json, echo, listing, moment
from simherd.cli.watch import shows
from simherd.contract.objects import STDERR, STDOUT
from simherd.errors import InvalidInput
from simherd.utils import format_money


@click.group(cls=Verbs)
def command() -> None:
    """List projects, download their outputs, delete them."""


_name = click.argument("name", shell_complete=complete.projects)


@command.command("list")
@shows
def list_(json_: bool) -> None:
    """List your projects, newest first."""
    columns: Columns = {
        "NAME": "name",
        "TASKS": "num_tasks",
        "KIND": "project_type",
        "COST": lambda p: format_money(projects.Project.from_api_info(p).total_estimated_cost),
        "CREATED": lambda p: moment(p["created_at"]),
    }
    found = [project.info for project in projects.get_projects()]
    listing(found, columns, "There are no projects.", json_)


@command.command()
@_name
@shows
def info(name: str, json_: bool) -> None:
    """Show a project, with the number of its tasks in each status."""
    found = projects.require(name)
    if json_:
        as_json(found.info)
    else:
        echo(found, lines=True)


@command.command(cls=Spread, spread=["--files"])
@_name
@click.option("--output-dir", help="Folder to download to; it gets a folder for each task.")
@click.option("--files", multiple=True, metavar="NAME...", help="Only these files of each task.")
@click.option("--std", is_flag=True, help=f"Only {STDOUT} and {STDERR} of each task.")
def download(name: str, output_dir: str | None, files: tuple[str, ...], std: bool) -> None:
    """Download the outputs of a project's tasks."""
    if std and files:
        raise InvalidInput("files: use either --files or --std.")
    if output_dir:
        config.set_output_dir(output_dir)
    wanted = [STDOUT, STDERR] if std else list(files) or None
    place = projects.require(name).download_outputs("." if output_dir else None, wanted)
    echo(f"Downloaded to {place}")


@command.command()
@_name
@yes_option
def delete(name: str, yes: bool) -> None:
    """Delete a project; its tasks stay, and move to the default project."""
    found = projects.require(name)
    confirm(f"Delete the project {name!r}, and move its {found.num_tasks} task(s)?", yes)
    found.delete()
    echo(f"Project {name!r} is deleted.")
