"""`simherd-executor`: the agent of one machine."""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import logging
import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from executor.agent.agent import Agent
from executor.config import Config, ConfigError, ExecutorFolders, check_isolation
from executor.join import JoinRefused, join
from executor.observability.health_pages import serve
from simherd.contract.policy import INSECURE_BACKEND
from simherd.runtime import health_check, logs
from simherd.runtime.logs import LogFormat

if TYPE_CHECKING:
    from executor.containers.base import ContainerBackend
    from executor.join import Identity
    from executor.observability.health_pages import Health


#: Seconds that an agent which was killed has for being gone.
_TAKE_S = 2.0


def main() -> None:
    """Run the agent.

    SIGTERM drains it: it finishes what it has and claims nothing more. A second one hands over:
    it ends at once, and what runs goes on until the next agent on this machine takes it over.
    SIGINT stops what runs, and reports that.
    """
    try:
        _set_up_log()
        place = _place()
        _write_pid(place)
        # Closed also where it is refused: nobody is to look for what is not there.
        with closing(serve(place)) as health:
            identity = join(place.ticket_file, place.state_dir, time.sleep)
            config = Config.of(place, identity)
            logs.always(machine=config.executor_id, group=config.group_id)
            _work(config, identity, health)
    except (ConfigError, JoinRefused) as error:
        print(f"simherd-executor: {error}", file=sys.stderr)
        sys.exit(2)


def _work(config: Config, identity: Identity, health: Health) -> None:
    agent = Agent(config, _backend(config), identity)
    health.insight = agent.insight
    asked = itertools.count(1)

    def drain_or_hand_over(*_: object) -> None:
        if next(asked) > 1:
            # Taking over is made for an agent that was killed, so nothing needs to be said.
            os._exit(0)
        agent.drain()

    signal.signal(signal.SIGTERM, drain_or_hand_over)
    signal.signal(signal.SIGINT, lambda *_: agent.stop())
    try:
        agent.run()
    except Exception:
        # Threads that were started would keep a process alive that does nothing.
        logging.exception("event=agent_broke")
        os._exit(1)


def _set_up_log() -> None:
    try:
        style = LogFormat.of(os.environ)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    logs.configure_logging(
        "executor", "INFO", style, "%(asctime)s %(levelname)s %(threadName)s %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _place() -> ExecutorFolders:
    """Where the agent works: from its environment, or from the words `join TOKEN`."""
    parser = argparse.ArgumentParser(prog="simherd-executor")
    verbs = parser.add_subparsers(dest="verb")
    joining = verbs.add_parser("join", help="make this machine one of a group's, and work")
    joining.add_argument("token", help="what `simherd resources invite` prints")
    joining.add_argument("--api", required=True, help="where the scheduler's API is")
    joining.add_argument("--state-dir", type=Path, default=Path("/var/lib/simherd"))
    joining.add_argument(
        "--backend",
        choices=("docker", "process"),
        default="docker",
        help=f"process isolates nothing and needs {INSECURE_BACKEND}=true",
    )
    verbs.add_parser("health", help="exit with 0 when this machine's agent lives, else with 1")
    given = parser.parse_args()
    if given.verb == "health":
        sys.exit(health_check.of_executor())
    # Before a token is spent or anything is written.
    if given.verb is None:
        place = ExecutorFolders.from_env()
        check_isolation()
        _take(place.state_dir)
        return place
    os.environ.setdefault("SIMHERD_BACKEND", given.backend)
    check_isolation()
    try:
        given.state_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise ConfigError(f"--state-dir: {given.state_dir}: {error.strerror}.") from error
    _take(given.state_dir)
    ticket = given.state_dir / "ticket.json"
    with open(os.open(ticket, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"api_url": given.api, "token": given.token}, file)
    return ExecutorFolders(given.state_dir, ticket)


def _take(state_dir: Path) -> None:
    """Have the folder for this agent alone, as long as it lives: two would both run what is there.

    Raises:
        ConfigError: another agent has it, or it cannot be written to.
    """
    try:
        # Never closed: the kernel lets go of it when this process ends, however that happens.
        lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"state folder: {state_dir}: {error.strerror}.") from error
    end = time.monotonic() + _TAKE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > end:
                raise ConfigError(
                    f"{state_dir}: another agent works in this folder; agent.pid has its number. "
                    "Stop it first, or give this one a folder of its own (--state-dir, "
                    "SIMHERD_STATE_DIR)."
                ) from error
        time.sleep(0.05)


def _write_pid(place: ExecutorFolders) -> None:
    # Whole or not at all: who reads it acts on the number.
    written = place.state_dir / "agent.pid.new"
    written.write_text(f"{os.getpid()}\n")
    written.replace(place.state_dir / "agent.pid")


def _backend(config: Config) -> ContainerBackend:
    # Imported here: an executor without Docker needs no Docker SDK.
    if config.backend == "docker":
        from executor.containers.docker import DockerBackend

        return DockerBackend()
    from executor.containers.process import ProcessBackend

    return ProcessBackend(config.state_dir / "processes")


if __name__ == "__main__":
    main()
