"""`simherd resources`."""

from __future__ import annotations

import json
from typing import Any

import click

from simherd import resources
from simherd.cli import complete, sharing
from simherd.cli.parts import Spread, Verbs, confirm, exactly_one, yes_option
from simherd.cli.render import Columns, as_json, echo, json_option, listing, moment
from simherd.cli.watch import shows
from simherd.errors import InvalidInput, NotFound
from simherd.machine_group import check_group
from simherd.utils import format_bytes, format_money, parse_duration

#: Machines and US$ an hour above which `simherd resources start` asks: more than a workstation has
#: work for, and 240 US$ for a day that is forgotten.
ASK_ABOVE_MACHINES = 8
ASK_ABOVE_PRICE_HOUR = 10.0


@click.group(cls=Verbs)
def command() -> None:
    """List, show, start, share and terminate machine groups."""


sharing.add_to(command)

_name = click.argument("name", shell_complete=complete.groups)
_machine_type = click.argument("machine_type", shell_complete=complete.machine_types)


_COLUMNS: Columns = {
    "NAME": "name",
    "STATUS": lambda g: shown_status(g),
    "MACHINE TYPE": "machine_type",
    "MACHINES": "num_vms",
    "SPOT": lambda g: "yes" if g["spot"] else "no",
    "US$ PER HOUR": lambda g: f"{g['cost_per_hour']['current']:.2f}",
    "CREATED": lambda g: moment(g["creation_timestamp"]),
}


@command.command("list")
@shows
def list_(json_: bool) -> None:
    """List the machine groups that are not terminated."""
    found = [g.info for g in resources.get()]
    listing(found, _COLUMNS, "There are no machine groups.", json_)


_num_machines = click.option(
    "-n",
    "--num-machines",
    "--num_machines",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="How many machines.",
)


@command.command()
@_machine_type
@_num_machines
@click.option("--name", help="Name of the group; by default one is made up.")
@click.option("-s", "--spot/--on-demand", default=True, help="Spot machines are the default.")
@click.option("--max", "most", type=click.IntRange(1), help="Elastic: up to so many machines.")
@click.option("--min", "least", type=click.IntRange(0), help="Elastic: at least so many.")
@click.option(
    "--from",
    "provider",
    help="Where the machines come from: local, docker, ec2, or external (started by hand).",
)
@click.option("--shared", is_flag=True, help="Every user may send tasks to it; for operators.")
@click.option(
    "--on-demand-fallback", is_flag=True, help="On-demand machines while there is no spot."
)
@click.option("--mpi", is_flag=True, help="All machines work on one task together.")
@click.option("--time-limit", help="Terminate the group after so long, such as 12h.")
@click.option("--max-idle-time", help="Terminate the group when idle for so long, such as 30m.")
@click.option(
    "-d",
    "--disk",
    "--data_disk_gb",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="GiB.",
)
@click.option(
    "--policy",
    multiple=True,
    metavar="NAME=VALUE",
    help="What its containers may do, such as network=true; may be given again.",
)
@yes_option
@json_option
def start(
    machine_type: str,
    num_machines: int,
    name: str | None,
    spot: bool,
    most: int | None,
    least: int | None,
    provider: str | None,
    shared: bool,
    on_demand_fallback: bool,
    mpi: bool,
    time_limit: str | None,
    max_idle_time: str | None,
    disk: int,
    policy: tuple[str, ...],
    yes: bool,
    json_: bool,
) -> None:
    """Start a machine group of MACHINE_TYPE. A large or expensive one asks first."""
    if least is not None and most is None:
        raise click.UsageError("--min needs --max: how far the group may grow.")
    asked: dict[str, Any] = {
        "name": name,
        "spot": spot,
        "disk_size_gb": disk,
        "max_idle_time": max_idle_time,
        "policy": dict(map(_setting, policy)),
        "max_machines": most,
        "min_machines": least,
        "machines_from": provider,
        "shared": shared,
        "on_demand_fallback": on_demand_fallback,
        "mpi": mpi,
        "auto_terminate_minutes": _minutes(time_limit),
    }
    question = _size_question(machine_type, most or num_machines, spot and not on_demand_fallback)
    if question and not yes:
        # Nobody is asked about what would be refused.
        check_group(machine_type, num_machines, **asked)
        confirm(question, yes, refused="Nothing was started.")
    group = resources.MachineGroup(machine_type, num_machines, **asked)
    group.start()
    if json_:
        as_json(group.info)
    else:
        echo(f"Machine group {group.name} is starting with {num_machines} machine(s).")


def _size_question(machine_type: str, machines: int, spot: bool) -> str | None:
    """What to ask before a group that is larger or more expensive than most; None: nothing."""
    try:
        price = machines * resources.estimate_machine_cost(machine_type, spot)
    except NotFound:
        return None  # the server says so, with the machine types that there are
    if machines > ASK_ABOVE_MACHINES or price > ASK_ABOVE_PRICE_HOUR:
        return f"Start {machines} machines of {machine_type}, up to {price:.2f} US$/h?"
    return None


def _minutes(given: str | None) -> float | None:
    return None if given is None else parse_duration(given, "time-limit") / 60


@command.command()
@_name
def invite(name: str) -> None:
    """Print the command with which your own machine joins the group NAME.

    It works once, within 15 minutes, and holds a secret.
    """
    url, token = resources.get_by_name(name).invite()
    echo(f"simherd-executor join {token} --api {url}")


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError as error:
        what = "must be NAME=VALUE" if not equals else f"{value!r} is not a JSON value"
        raise InvalidInput(f"policy: {text!r}: {what}, such as network=true.") from error


@command.command()
@_name
@shows
def info(name: str, json_: bool) -> None:
    """Show a machine group and its machines."""
    group = resources.get_by_name(name).info
    if json_:
        as_json(group)
        return
    echo(f"{group['name']}: {group['status']}, {group['num_vms']} x {group['machine_type']}")
    if group["status_detail"]:
        echo(group["status_detail"])
    print_quarantine(group)
    if group["costs"]:
        echo(f"Cost so far: {format_money(group['costs']['cost'])}")
    print_machines(group["machines"])


def shown_status(group: dict[str, Any]) -> str:
    """A group's status in a list; one that is quarantined is marked."""
    # A server before 0.2 does not say.
    return f"{group['status']} (quarantined)" if group.get("quarantine") else str(group["status"])


def print_quarantine(group: dict[str, Any]) -> None:
    """Print why nothing goes on in a group, where its keys in Redis are set aside."""
    quarantine = group.get("quarantine")
    if quarantine:
        echo(
            f"Quarantined since {moment(quarantine['since'])}: {quarantine['reason']}. Its tasks "
            f"wait until an operator runs `simherd admin groups repair {group['name']}`."
        )


_MACHINE_COLUMNS: Columns = {
    "MACHINE": "host_name",
    "STATUS": "status",
    "TASK": lambda m: m["current_task_id"] or "",
    "LAST SEEN": lambda m: moment(m["last_seen_at"]),
    "MEMORY USED": lambda m: format_bytes(_facts(m).get("memory_used_bytes")),
    "DISK FREE": lambda m: format_bytes(_facts(m).get("disk_free_bytes")),
    "DISK LIMIT": lambda m: _facts(m).get("disk_limit", ""),
    "COST": lambda m: format_money(m["cost"]),
    "NOTE": lambda m: m["drain_reason"] or _facts(m).get("waits_for") or "",
}


def _facts(machine: dict[str, Any]) -> dict[str, Any]:
    return machine["facts"] or {}


def print_machines(machines: list[dict[str, Any]]) -> None:
    """Print a group's machines as a table."""
    listing(machines, _MACHINE_COLUMNS, "It has no machines yet.")


@command.command()
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=complete.groups)
@click.option("--all", "all_", is_flag=True, help="All of your groups.")
@yes_option
def terminate(names: tuple[str, ...], all_: bool, yes: bool) -> None:
    """Terminate machine groups, and end their tasks."""
    exactly_one("Name the machine groups to terminate, or use --all.", names, all_)
    if all_:
        groups = [group for group in resources.get() if group.info["own"]]
    else:
        groups = [resources.get_by_name(name) for name in names]
    if not groups:
        echo("There are no machine groups.")
        return
    for group in groups:
        if not group.info.get("own", True):
            group.terminate()  # the server refuses it, with whose it is, before anything is asked
    confirm(f"Terminate {', '.join(g.name for g in groups)} and end the tasks there?", yes)
    for group in groups:
        group.terminate()
        echo(f"Machine group {group.name}: {group.info['status']}.")


@command.command()
@_machine_type
@click.option("-s", "--spot", is_flag=True, help="The price of spot machines.")
@_num_machines
@click.option("--zone", help="Where the machines are.")
@json_option
def cost(machine_type: str, spot: bool, num_machines: int, zone: str | None, json_: bool) -> None:
    """Show what machines of MACHINE_TYPE cost."""
    each = resources.estimate_machine_cost(machine_type, spot, zone)
    if json_:
        as_json({"machine_type": machine_type, "each": each, "total": each * num_machines})
    elif num_machines == 1:
        echo(f"{format_money(each)} per hour.")
    else:
        echo(f"{format_money(each * num_machines)} per hour ({format_money(each)} each).")


@command.command(cls=Spread, spread=["--family"])
@click.option("-p", "--provider", help="A provider's name on the wire, such as GCP.")
@click.option("-f", "--family", multiple=True, metavar="NAME...", help="Only these, such as c2.")
@click.option("-s", "--spot", is_flag=True, help="Prices of spot machines.")
@shows
def available(provider: str | None, family: tuple[str, ...], spot: bool, json_: bool) -> None:
    """List the machine types for which you can start groups."""
    found = resources.get_available_machine_types(
        provider and provider.upper(), machine_families=family, spot=spot
    )
    columns: Columns = {
        "MACHINE TYPE": "machine_type",
        "VCPUS": "num_vcpus",
        "GPUS": lambda t: f"{t['num_gpus']} x {t['gpu_name']}" if t["num_gpus"] else "no",
        "MEMORY (GB)": "ram_gb",
        "US$ PER HOUR": lambda t: f"{t['price']:.2f}",
        "ZONE": "zone",
    }
    listing(found, columns, "There are no such machine types.", json_)
