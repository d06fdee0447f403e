"""Run simulations on groups of machines.

Nothing happens at import: names are looked up when they are first used (PEP 562), so that
`simherd.contract`, which every part shares, costs no third-party import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simherd.config import get_output_dir, set_output_dir
    from simherd.errors import SimherdError

__all__ = [
    "SimherdError",
    "aio",
    "benchmarks",
    "events",
    "get_output_dir",
    "projects",
    "resources",
    "set_output_dir",
    "sharing",
    "simulators",
    "storage",
    "tasks",
    "users",
    "utils",
]

#: Name -> module that holds it; a module that is itself the name holds nothing else here.
_HOMES = {
    "SimherdError": "simherd.errors",
    "get_output_dir": "simherd.config",
    "set_output_dir": "simherd.config",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'simherd' has no attribute {name!r}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    return importlib.import_module(f"simherd.{name}")


def __dir__() -> list[str]:
    return __all__
