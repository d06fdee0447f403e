"""The command `simherd-scheduler`: a health check must not cost what a process' start does."""

from __future__ import annotations

import sys

from simherd.runtime import health_check


def main() -> None:
    """Run a health check, or whatever else the command line says."""
    if sys.argv[1:] == ["health"]:
        sys.exit(health_check.of_scheduler())
    try:
        from scheduler.__main__ import main as start
    except ModuleNotFoundError as error:
        sys.exit(f"simherd-scheduler needs {error.name}: pip install 'simherd[scheduler]'")
    start()
