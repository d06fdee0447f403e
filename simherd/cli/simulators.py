"""`simherd simulators`."""

from __future__ import annotations

import click

from simherd.cli.parts import Verbs
from simherd.cli.render import as_json, table
from simherd.cli.watch import shows
from simherd.simulators import list_available_images


@click.group(cls=Verbs)
def command() -> None:
    """List the simulators that the server offers."""


@command.command("list")
@click.option("--dev", is_flag=True, help="Those under development too.")
@shows
def list_(dev: bool, json_: bool) -> None:
    """List simulators with the versions of their images."""
    found = list_available_images()
    shown = found if dev else {"production": found["production"]}
    if json_:
        as_json(shown)
        return
    headers = ["SIMULATOR", "VERSIONS"] + ["STAGE"] * dev
    rows = [
        [name, ", ".join(tags)] + [stage] * dev
        for stage, images in shown.items()
        for name, tags in images.items()
    ]
    table(headers, rows, "There are no simulators.")
