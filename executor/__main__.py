"""`simherd-executor`: the agent of one machine."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from executor.agent import Agent
from executor.config import Config, ConfigError, Place
from executor.join import JoinRefused, join

if TYPE_CHECKING:
    from executor.containers.base import ContainerBackend


def main() -> None:
    """Run the agent.

    SIGTERM drains it: it finishes what it has and claims nothing more. A second one hands over:
    it ends at once, and what runs goes on until the next agent on this machine takes it over.
    SIGINT stops what runs, and reports that.
    """
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(threadName)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        place = Place.from_env()
        _write_pid(place)
        identity = join(place.ticket_file, place.state_dir, time.sleep)
        config = Config.of(place, identity)
    except (ConfigError, JoinRefused) as error:
        print(f"simherd-executor: {error}", file=sys.stderr)
        sys.exit(2)
    agent = Agent(config, _backend(config), identity)
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


def _write_pid(place: Place) -> None:
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
