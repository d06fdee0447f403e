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
from executor.join import Identity, JoinRefused, join
from executor.observability.health_pages import Health, serve
from executor.observability.status import AgentStatus
from simherd.contract.policy import INSECURE_BACKEND
from simherd.runtime import health_check, logs
from simherd.runtime.logs import LogFormat

if TYPE_CHECKING:
    from executor.containers.base import ContainerBackend

#: Seconds to wait for an agent that was killed to release the folder.
_LOCK_WAIT_S = 2.0


def main() -> None:
    """Run the agent.

    SIGTERM drains the agent: it finishes its attempts and claims nothing more. A second SIGTERM
    hands over: the agent ends at once, and its containers run on until the next agent on this
    machine adopts them. SIGINT stops the attempts, and reports that.
    """
    try:
        _set_up_log()
        folders = _parse_folders()
        _write_pid(folders)
        # Closed also if the scheduler refuses: health checks must not find a dead address.
        with closing(serve(folders)) as health:
            identity = join(folders.ticket_file, folders.state_dir, time.sleep)
            config = Config.of(folders, identity)
            logs.always(machine=config.executor_id, group=config.group_id)
            _work(config, identity, health)
    except (ConfigError, JoinRefused) as error:
        print(f"simherd-executor: {error}", file=sys.stderr)
        sys.exit(2)


def _work(config: Config, identity: Identity, health: Health) -> None:
    agent = Agent(config, _backend(config), identity)
    health.insight = AgentStatus(agent)
    signals = itertools.count(1)

    def drain_or_hand_over(*_: object) -> None:
        if next(signals) > 1:
            # The next agent recovers from a killed one, so nothing needs to be reported.
            os._exit(0)
        agent.drain()

    signal.signal(signal.SIGTERM, drain_or_hand_over)
    signal.signal(signal.SIGINT, lambda *_: agent.stop())
    try:
        agent.run()
    except Exception:
        # Threads that still run would keep the useless process alive.
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


def _parse_folders() -> ExecutorFolders:
    """Return the agent's folders: from the environment, or from the arguments of `join TOKEN`."""
    parser = argparse.ArgumentParser(prog="simherd-executor")
    verbs = parser.add_subparsers(dest="verb")
    joining = verbs.add_parser("join", help="add this machine to a group, and run its tasks")
    joining.add_argument("token", help="what `simherd resources invite` prints")
    joining.add_argument("--api", required=True, help="URL of the scheduler's API")
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
    # Checked before the token is used or anything is written.
    if given.verb is None:
        folders = ExecutorFolders.from_env()
        check_isolation()
        _lock(folders.state_dir)
        return folders
    os.environ.setdefault("SIMHERD_BACKEND", given.backend)
    check_isolation()
    try:
        given.state_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise ConfigError(f"--state-dir: {given.state_dir}: {error.strerror}.") from error
    _lock(given.state_dir)
    ticket = given.state_dir / "ticket.json"
    with open(os.open(ticket, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"api_url": given.api, "token": given.token}, file)
    return ExecutorFolders(given.state_dir, ticket)


def _lock(state_dir: Path) -> None:
    """Lock the state folder for the life of this process: two agents would run the same attempts.
    Raises ConfigError: another agent has locked it, or it cannot be written to."""
    try:
        # Never closed: the kernel releases the lock when this process ends, even by SIGKILL.
        lock = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"state folder: {state_dir}: {error.strerror}.") from error
    end = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > end:
                raise ConfigError(
                    f"{state_dir}: another agent works in this folder; agent.pid has its number. "
                    "Stop it first, or give this agent another folder (--state-dir, "
                    "SIMHERD_STATE_DIR)."
                ) from error
        time.sleep(0.05)


def _write_pid(folders: ExecutorFolders) -> None:
    # Atomic, because readers send signals to this number.
    new = folders.state_dir / "agent.pid.new"
    new.write_text(f"{os.getpid()}\n")
    new.replace(folders.state_dir / "agent.pid")


def _backend(config: Config) -> ContainerBackend:
    # Imported here: an executor without Docker needs no Docker SDK.
    if config.backend == "docker":
        from executor.containers.docker import DockerBackend

        return DockerBackend()
    from executor.containers.process import ProcessBackend

    return ProcessBackend(config.state_dir / "processes")


if __name__ == "__main__":
    main()
