"""The command `simherd-executor`: a health check must not cost what an agent's start does."""

from __future__ import annotations

import sys

from simherd.runtime import health_check


def main() -> None:
    """Answer a health check, or do anything else that the command line says."""
    if sys.argv[1:] == ["health"]:
        sys.exit(health_check.of_executor())
    from executor.__main__ import main as start

    start()
