"""`simherd-executor`: the agent of one machine."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from executor.agent import Agent
from executor.config import Config, ConfigError

if TYPE_CHECKING:
    from executor.containers.base import ContainerBackend


def main() -> None:
    """Run the agent until SIGTERM or SIGINT."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(threadName)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        config = Config.from_env()
    except ConfigError as error:
        print(f"simherd-executor: {error}", file=sys.stderr)
        sys.exit(2)
    (config.state_dir / "agent.pid").write_text(f"{os.getpid()}\n")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Agent(config, _backend(config)).run(stop)


def _backend(config: Config) -> ContainerBackend:
    # Imported here: an executor without Docker needs no Docker SDK.
    if config.backend == "docker":
        from executor.containers.docker import DockerBackend

        return DockerBackend()
    from executor.containers.process import ProcessBackend

    return ProcessBackend(config.state_dir / "processes")


if __name__ == "__main__":
    main()
