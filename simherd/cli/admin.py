"""`simherd admin`."""

from __future__ import annotations

import sys

import click

from simherd.cli.render import as_json, json_option, table
from simherd.http import api


@click.group()
def command() -> None:
    """For operators: look after a server."""


@command.command()
@click.option("--fix", is_flag=True, help="Put right what can be.")
@json_option
def doctor(fix: bool, json_: bool) -> None:
    """Find machines, leases, Redis users and uploads that nobody wants any more.

    The exit code is 1 while something is left to be put right.
    """
    found = api().post("/v1/admin/doctor", {"fix": fix})
    if json_:
        as_json(found)
    else:
        rows = [[f["kind"], f["sentence"], "mended" if f["mended"] else ""] for f in found]
        table(["FINDING", "WHAT", ""], rows, "All is well.")
    sys.exit(any(not f["mended"] for f in found))
