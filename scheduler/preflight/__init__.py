"""What a scheduler's process looks at before it starts: settings that contradict each other, or
that are unsafe.

A contradiction ends the process with a line that names the setting, its value and what to do. What
is merely unsafe is logged as a warning at each start; with `SIMHERD_UNSAFE_SETTINGS=refuse` it ends
the process too. Settings that are wrong by themselves are refused by `scheduler/config.py`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from scheduler.preflight.environment import of_environment, of_secrets_dir
from scheduler.preflight.finding import Finding, stop_or_warn
from scheduler.preflight.redis_servers import look_at_redis
from scheduler.preflight.refusals import not_json, refusals
from scheduler.preflight.urls import of_urls
from scheduler.preflight.values import contradictions, unsafe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from scheduler.config import Settings

__all__ = [
    "Finding",
    "look",
    "look_at_redis",
    "not_json",
    "of_secrets_dir",
    "refusals",
    "stop_or_warn",
]

#: The oldest Python that Simherd is tested with.
_OLDEST_PYTHON = (3, 11)


def look(settings: Settings, env: Mapping[str, str]) -> list[Finding]:
    """Everything that is wrong with a scheduler's settings, without asking other servers."""
    wrong_urls = list(of_urls(settings))
    if wrong_urls:  # what is compared and asked below cannot be read from them
        return wrong_urls
    return [*_python(), *of_environment(env), *contradictions(settings), *unsafe(settings)]


def _python() -> Iterator[Finding]:
    if sys.version_info < _OLDEST_PYTHON:
        needed = ".".join(map(str, _OLDEST_PYTHON))
        says = f"{sys.version.split()[0]} is too old; Simherd needs Python {needed} or later"
        yield Finding("Python", says, True)
