"""Starts the fleet's machine group, and runs a real simulation on it.

    fleet_demo.py MACHINE_TYPE MACHINES OUTPUT_DIR

SIMHERD_API_URL and SIMHERD_API_KEY say where, and as whom.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from simherd import resources, simulators
from simherd.contract.lifecycle import TABLE, Status
from simherd.errors import NotFound, SimherdError

GROUP = "fleet"
#: Seconds in which all machines must have been heard of.
JOIN_S = 300
#: Of the second that the case has: enough to see that all of it works.
SIMULATED_S = 0.3
SCENE = "config.json"
CASE = Path(__file__).parents[1] / "simherd" / "demo_data" / "double-dam-break"


def main() -> None:
    """Start the group, run the double dam break of SPlisHSPlasH, download what it puts out."""
    machine_type, machines, output = sys.argv[1:]
    try:
        group = group_of(machine_type, int(machines))
        wait_for_machines(group)
        run(Path(output))
    except SimherdError as error:
        sys.exit(f"simherd: {error}")


def group_of(machine_type: str, machines: int) -> resources.MachineGroup:
    """The group, started."""
    try:
        group = resources.get_by_name(GROUP)
    except NotFound:
        group = resources.MachineGroup(
            machine_type, machines, name=GROUP, spot=False, machines_from="docker"
        )
    if group.num_machines != machines:
        say(
            f"The group {GROUP} has {group.num_machines} machines, not {machines}: a group keeps "
            f"its size. For another one: simherd resources terminate {GROUP}, and make fleet."
        )
    group.start()
    return group


def wait_for_machines(group: resources.MachineGroup) -> None:
    """Wait until each machine has joined.

    Raises:
        SimherdError: they have not.
    """
    say(f"Waiting for {group.num_machines} machines.")
    end = time.monotonic() + JOIN_S
    while True:
        seen = [m for m in group.refresh().info["machines"] if m["last_seen_at"]]
        if len(seen) >= group.num_machines:
            return
        if time.monotonic() > end:
            raise SimherdError(
                f"{len(seen)} of {group.num_machines} machines have joined within {JOIN_S} s. "
                f"simherd resources info {GROUP} says more."
            )
        time.sleep(1)


def run(output: Path) -> None:
    """Run the simulation.

    Raises:
        SimherdError: it did not succeed.
    """
    with tempfile.TemporaryDirectory() as folder:
        case = shutil.copytree(CASE, Path(folder) / "case")
        scene = json.loads((case / SCENE).read_text())
        scene["Configuration"]["stopAt"] = SIMULATED_S
        (case / SCENE).write_text(json.dumps(scene))
        task = simulators.SplishSplash().run(case, on=GROUP, sim_config_filename=SCENE)
    say(f"Task {task.id}: the first moments of a double dam break, by SPlisHSPlasH.")
    status = task.wait(download_std_on_completion=False)
    if status != Status.SUCCESS:
        raise SimherdError(f"Task {task.id} ended as {TABLE[status].label}:\n{task.info}")
    place = task.download_outputs(output_dir=str(output / task.id))
    say(f"{TABLE[status].label}. The outputs are in {place}.")


def say(line: str) -> None:
    """A line for people."""
    print(f"simherd: {line}", file=sys.stderr)


main()
