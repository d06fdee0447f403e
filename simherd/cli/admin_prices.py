"""`simherd admin prices`."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from simherd.cli import complete
from simherd.cli.parts import Verbs
from simherd.cli.render import Columns, echo, listing, moment
from simherd.cli.watch import shows
from simherd.http import api

_PRICES = "/v1/admin/prices"
_machine_type = click.argument("machine_type", shell_complete=complete.machine_types)
_price = click.FloatRange(0)


@click.group(cls=Verbs)
def command() -> None:
    """Show and set what machines cost, US$ per hour."""


_COLUMNS: Columns = {
    "MACHINE TYPE": "machine_type",
    "VCPUS": "vcpus",
    "MEMORY (GB)": "memory_gb",
    "ON DEMAND": lambda p: f"{p['on_demand']:.4g}",
    "SPOT": lambda p: f"{p['spot']:.4g}",
    "SET": lambda p: moment(p["set_at"]) or "",
}


@command.command("list")
@shows
def list_(json_: bool) -> None:
    """List all machine types with their prices."""
    listing(api().get(_PRICES), _COLUMNS, "There are no machine types.", json_)


@command.command("set")
@_machine_type
@click.option("--on-demand", type=_price, help="US$ per hour.")
@click.option("--spot", type=_price, help="US$ per hour.")
def set_(machine_type: str, on_demand: float | None, spot: float | None) -> None:
    """Set what MACHINE_TYPE costs in groups that are started from now on."""
    if on_demand is None and spot is None:
        raise click.UsageError("Give --on-demand, --spot or both.")
    _show(api().put(_path(machine_type), {"on_demand": on_demand, "spot": spot}))


@command.command()
@_machine_type
def unset(machine_type: str) -> None:
    """Reset the price of MACHINE_TYPE to the server's table."""
    _show(api().delete(_path(machine_type)))


def _path(machine_type: str) -> str:
    return f"{_PRICES}/{quote(machine_type, safe='')}"


def _show(price: dict[str, Any]) -> None:
    echo(
        f"{price['machine_type']}: {price['on_demand']:.4g} on demand, {price['spot']:.4g} spot, "
        "US$ per hour. Groups that are there keep what they have."
    )
