"""The command `simherd-executor`. A health check must not load what an agent needs."""

from __future__ import annotations

import sys

from simherd.runtime import health_check


def main() -> None:
    """Run a health check, or whatever else the command line says."""
    if sys.argv[1:] == ["health"]:
        sys.exit(health_check.of_executor())
    try:
        from executor.__main__ import main as start
    except ModuleNotFoundError as error:
        sys.exit(f"simherd-executor needs {error.name}: pip install 'simherd[executor]'")
    start()
