"""`simherd run`."""

from __future__ import annotations

import shlex
import sys

import click

from simherd.cli import complete
from simherd.cli.render import as_json, echo, json_option
from simherd.contract.lifecycle import Status
from simherd.simulators import CustomImage


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-I", "--image", required=True, help="Container image.")
@click.option("-i", "--input", "input_dir", type=click.Path(), help="Folder of inputs.")
@click.option(
    "--on",
    shell_complete=complete.groups,
    help="Machine group [default: the server's default, else your only one that is started].",
)
@click.option("--ttl", help="How long the command may run, such as 1h30m.")
@click.option("--max-cost", type=float, help="What its machines may cost at the most, US$.")
@click.option("--resubmit", is_flag=True, help="Run it again when its machine is lost.")
@click.option(
    "--checkpoint",
    multiple=True,
    metavar="PATTERN",
    help="Files that it can go on from, such as '*.cpt'; saved while it runs. May be repeated.",
)
@click.option("--checkpoint-every", help="Time between two savings [default: 10m].")
@click.option("--priority", type=click.IntRange(-100, 100), default=0, help="Higher goes first.")
@click.option("--network", is_flag=True, help="Let it use the network, where the group allows it.")
@click.option("--no-compress", is_flag=True, help="Store its outputs as they are.")
@click.option("--project", shell_complete=complete.projects, help="Project to put the task in.")
@click.option("-w", "--wait", is_flag=True, help="Follow the task until it ends.")
@json_option
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
def command(
    image: str,
    input_dir: str | None,
    on: str | None,
    ttl: str | None,
    max_cost: float | None,
    resubmit: bool,
    checkpoint: tuple[str, ...],
    checkpoint_every: str | None,
    priority: int,
    network: bool,
    no_compress: bool,
    project: str | None,
    wait: bool,
    json_: bool,
    argv: tuple[str, ...],
) -> None:
    """Run a command in a container image on a folder of inputs.

    Prints the task's id. With --wait the exit code says whether it succeeded.
    """
    task = CustomImage(image).run(
        input_dir,
        on=on,
        commands=[shlex.join(argv)],
        time_to_live=ttl,
        max_cost=max_cost,
        resubmit_on_preemption=resubmit,
        checkpoint=checkpoint or None,
        checkpoint_every=checkpoint_every,
        priority=priority,
        network=network,
        compress=not no_compress,
        project=project,
    )
    if not json_:
        echo(task.id)
    if wait:
        status = task.wait(silent_mode=json_, download_std_on_completion=False)
    if json_:
        as_json(dict(task.get_info()))
    sys.exit(wait and status != Status.SUCCESS)
