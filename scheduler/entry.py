"""The command `simherd-scheduler`: a health check must not cost what a process' start does."""

from __future__ import annotations

import sys

from simherd.runtime import health_check


def main() -> None:
    """Answer a health check, or do anything else that the command line says."""
    if sys.argv[1:] == ["health"]:
        sys.exit(health_check.of_scheduler())
    from scheduler.__main__ import main as start

    start()
