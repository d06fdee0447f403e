"""`simherd sim`: break a fleet on purpose, on the host of its Docker engine."""

from __future__ import annotations

import random
import re
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from simherd import resources
from simherd.cli import complete
from simherd.cli.parts import Verbs, confirm, exactly_one, yes_option
from simherd.cli.render import as_json, echo, json_option, table
from simherd.errors import InvalidInput
from simherd.local.stack import default_data_dir
from simherd.utils import format_bytes, parse_duration, parse_size
from simherd_drills.disks import fill
from simherd_drills.drills import DRILLS, held, nothing, reclaimed
from simherd_drills.fleet import Fleet
from simherd_drills.heal import heal
from simherd_drills.interrupts import ignore, listen
from simherd_drills.services import BREAKS
from simherd_drills.suite import run
from simherd_drills.targets import Targets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from simherd_drills.machines import DrillMachine, DrillTarget

_F = TypeVar("_F", bound="Callable[..., Any]")
#: What `tc` takes as a rate.
_RATE = re.compile(r"\d+(\.\d+)?[kmg]?bit")


@click.group(cls=Verbs)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of a `simherd up` [default: ~/.local/share/simherd].",
)
@click.option("--project", help="The deployment by Docker Compose, where there are several.")
@click.pass_context
def command(ctx: click.Context, data_dir: Path | None, project: str | None) -> None:
    """For operators: break machines, Redis or the storage on purpose, to see that all holds.

    Works on the host of the machines' Docker engine, and touches nothing but Simherd's parts. What
    lasts is healed at its end, at Ctrl-C, and by `simherd sim heal`. docs/drills.md says what must
    be seen of each drill.
    """
    listen()
    # A project that is named alone excludes `simherd up`.
    data = data_dir or (default_data_dir() if project is None else None)
    ctx.obj = Targets(data.resolve() if data is not None else None, project)


def _machines(callback: Callable[..., None]) -> Callable[..., None]:
    """Machines as targets: the command is given them as `victims`."""

    @wraps(callback)
    def command(
        *, targets: tuple[str, ...], group: str | None, count: int, seed: int | None, **others: Any
    ) -> None:
        host = click.get_current_context().find_object(Targets)
        assert host is not None
        callback(victims=_victims(host, targets, group, count, seed), **others)

    for part in (
        click.option("--seed", type=int, help="Decides which ones; by default it is made up."),
        click.option("--count", type=click.IntRange(1), default=1, help="With --group: so many."),
        click.option(
            "--group", shell_complete=complete.groups, help="Machines of this group, by chance."
        ),
        click.argument("targets", nargs=-1, metavar="[TARGET...]"),
    ):
        command = part(command)
    return command


def _parsed(
    flag: str, name: str, parse: Callable[[str, str], Any], default: str, text: str
) -> Callable[[_F], _F]:
    """An option whose value is read before anything else is done; the command has it as `name`."""

    def read(_ctx: click.Context, _option: click.Parameter, given: str) -> Any:
        return parse(given, flag.lstrip("-"))

    return click.option(flag, name, default=default, show_default=True, callback=read, help=text)


def _notice(text: str, name: str) -> float:
    return parse_duration(text, name) if text.rstrip("s") != "0" else 0.0


_for = _parsed("--for", "seconds", parse_duration, "40s", "How long.")
_targets = click.argument("targets", nargs=-1, metavar="[TARGET...]")


def _victims(
    host: Targets, targets: Sequence[str], group: str | None, count: int, seed: int | None
) -> list[DrillMachine]:
    exactly_one("Name the machines, or use --group.", targets, group)
    if group is None:
        return host.named(targets)
    ids = {str(m["uuid"]) for m in resources.get_by_name(group).info["machines"]}
    chance = random.randrange(10**6) if seed is None else seed
    found = host.some(ids, count, chance)
    echo(f"Chosen: {', '.join(m.name for m in found)} (--seed {chance} chooses them again).")
    return found


def _hold(
    name: str,
    victims: Sequence[DrillTarget],
    yes: bool,
    broken: Callable[[Any], AbstractContextManager[None]],
    seconds: float,
    how: str = "",
) -> None:
    """Have the victims broken for so long, after a question, and say what is to be seen."""
    drill = DRILLS[name]
    confirm(f"{', '.join(v.name for v in victims)} {drill.does}?", yes)
    with ExitStack() as stack:
        for victim in victims:
            echo(f"{victim.name} {drill.does}{how}.")
            stack.enter_context(broken(victim))
        echo(f"Now see: {drill.see}.")
        time.sleep(seconds)
        # Several victims are healed one after another: a signal must not come between them.
        ignore()


@command.command("list")
@json_option
@click.pass_obj
def list_(host: Targets, json_: bool) -> None:
    """List what can be a target on this host."""
    found: list[DrillTarget] = [*host.machines(), *host.every_redis(), *host.every_storage()]
    rows = [(one.name, one.kind, one.state, getattr(one, "id", one.name)) for one in found]
    if json_:
        as_json([dict(zip(("name", "of", "state", "id"), row, strict=True)) for row in rows])
    else:
        headers = ["NAME", "OF", "STATE", "ID"]
        table(headers, [list(r) for r in rows], "This host runs no part of Simherd.")


@command.command()
@_machines
@_parsed("--notice", "notice_s", _notice, "120s", "How long before; 0 for none.")
@yes_option
def reclaim(victims: list[DrillMachine], notice_s: float, yes: bool) -> None:
    """Reclaim machines, as a cloud reclaims spot instances."""
    how = f" (in {notice_s:.0f} s)" if notice_s else " (at once, without a notice)"
    _hold("reclaim", victims, yes, partial(reclaimed, notice_s=notice_s), notice_s, how)
    echo(f"Reclaimed: {', '.join(v.name for v in victims)}.")


@command.command()
@_machines
@_for
@click.option("--one-way", is_flag=True, help="What they send arrives; no response does.")
@yes_option
def partition(victims: list[DrillMachine], seconds: float, one_way: bool, yes: bool) -> None:
    """Cut machines off from the network."""
    _hold(
        "partition", victims, yes, lambda m: held(partial(m.cut, one_way=one_way), m.join), seconds
    )
    _healed(victims)


@command.command()
@_machines
@_for
@yes_option
def freeze(victims: list[DrillMachine], seconds: float, yes: bool) -> None:
    """Freeze machines, with all that they run."""
    _hold("freeze", victims, yes, lambda m: held(m.freeze, m.thaw), seconds)
    _healed(victims)


@command.command("kill-agent")
@_machines
@yes_option
def kill_agent(victims: list[DrillMachine], yes: bool) -> None:
    """SIGKILL the agents of machines, and nothing else."""
    _hold("kill-agent", victims, yes, lambda m: held(m.kill_agent, nothing), 0)


@command.command("fill-disk")
@_machines
@_for
@_parsed("--leave", "left", parse_size, "100MB", "What is left free.")
@click.option("--even-shared", is_flag=True, help="Also a disk that others on this host use.")
@yes_option
@click.pass_obj
def fill_disk(
    host: Targets,
    victims: list[DrillMachine],
    seconds: float,
    left: int,
    even_shared: bool,
    yes: bool,
) -> None:
    """Fill the disks that machines work on."""
    filled = partial(fill, host, leave=left, even_shared=even_shared)
    how = f", but for {format_bytes(left)}"
    _hold("fill-disk", victims, yes, lambda m: held(partial(filled, m), m.empty), seconds, how)
    _healed(victims)


@command.command("restart-redis")
@_targets
@click.option("--kill", is_flag=True, help="By SIGKILL, without a chance to write anything.")
@yes_option
@click.pass_obj
def restart_redis(host: Targets, targets: tuple[str, ...], kill: bool, yes: bool) -> None:
    """Restart Redis."""
    victims = host.redis(targets)
    how = " by SIGKILL" if kill else ""
    _hold(
        "restart-redis",
        victims,
        yes,
        lambda r: held(partial(r.restart, kill=kill), nothing),
        0,
        how,
    )


@command.command("slow-storage")
@_targets
@_for
@click.option("--rate", default="1mbit", show_default=True, help="All that goes through, each way.")
@yes_option
@click.pass_obj
def slow_storage(
    host: Targets, targets: tuple[str, ...], seconds: float, rate: str, yes: bool
) -> None:
    """Slow the storage down."""
    if not _RATE.fullmatch(rate):
        raise InvalidInput(f"rate: {rate!r} is not a rate. Write it like 1mbit or 500kbit.")
    victims = host.storage(targets)
    how = f" to {rate}"
    _hold("slow-storage", victims, yes, lambda s: held(partial(s.slow, rate), s.mend), seconds, how)
    _healed(victims)


@command.command("break-storage")
@_targets
@_for
@click.option(
    "--how",
    type=click.Choice(BREAKS),
    default=BREAKS[0],
    show_default=True,
    help="It refuses connections, drops what it is sent, or stands still.",
)
@yes_option
@click.pass_obj
def break_storage(
    host: Targets, targets: tuple[str, ...], seconds: float, how: str, yes: bool
) -> None:
    """Make the storage unreachable."""
    victims = host.storage(targets)
    broken = f" ({how})"
    _hold(
        "break-storage",
        victims,
        yes,
        lambda s: held(partial(s.break_, how), s.mend),
        seconds,
        broken,
    )
    _healed(victims)


def _healed(victims: Sequence[DrillTarget]) -> None:
    echo(f"Healed: {', '.join(v.name for v in victims)}.")


@command.command("heal")
@click.pass_obj
def heal_(host: Targets) -> None:
    """Repair what a drill has left, such as a drill that was killed.

    Prints what cannot be repaired; the exit code is 1 then.
    """
    healed = heal(host)
    for sentence in healed.done:
        echo(sentence)
    for sentence in healed.failed:
        echo(f"Error: {sentence}", err=True)
    if not healed.done and not healed.failed:
        echo("There is nothing to heal.")
    sys.exit(bool(healed.failed))


@command.command()
@click.option(
    "--group", required=True, shell_complete=complete.groups, help="The machine group to drill."
)
@_parsed("--for", "seconds", parse_duration, "30s", "How long each one lasts.")
@click.option("--image", help="What the tasks run in [default: the machines' own image].")
@click.option("--only", multiple=True, type=click.Choice(sorted(DRILLS)), help="May be repeated.")
@click.option("--even-shared", is_flag=True, help="fill-disk also where others use the disk.")
@yes_option
@json_option
@click.pass_obj
def drill(
    host: Targets,
    group: str,
    seconds: float,
    image: str | None,
    only: tuple[str, ...],
    even_shared: bool,
    yes: bool,
    json_: bool,
) -> None:
    """Run every drill against a machine group while tasks run there, and check what was promised.

    Prints what was done, what was promised, and what was seen. The exit code is 1 where a promise
    did not hold.
    """
    confirm(f"Break machines of {group}, Redis and the storage, one after another?", yes)
    rows = []
    fleet = Fleet(host, group, image)
    for row in run(fleet, only or DRILLS.keys(), seconds, even_shared=even_shared):
        rows.append(row)
        if not json_:
            echo(f"{row.drill}: {row.seen} ({row.seconds:.0f} s)", err=True)
    if json_:
        as_json([asdict(row) for row in rows])
    else:
        shown = [[r.drill, r.done, r.promised, r.seen, f"{r.seconds:.0f}"] for r in rows]
        table(["DRILL", "WHAT WAS DONE", "PROMISED", "SEEN", "SECONDS"], shown, "Nothing was done.")
    sys.exit(any(row.held is False for row in rows))
