"""Prints what Simherd's server parts depend on, for pip: they are installed before Simherd is."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
extras = project["optional-dependencies"]
wanted = [*project["dependencies"]]
for extra in ("scheduler", "executor", "otel"):
    wanted += extras[extra]
print("\n".join(wanted))
