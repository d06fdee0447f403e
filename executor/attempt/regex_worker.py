"""Matches patterns in a child process that can be killed at any time.

Python's matcher holds the interpreter's lock, and a pattern may match for ever: in the agent's
process that would stop the heartbeat. This file is started by its path and imports nothing of
Simherd. It reads lines of JSON (`regex`, `text`, `cpu_s`: the limit of CPU time in seconds) and
writes a line for each: `found`, or `trouble`. At the limit a signal ends the process, also while
the matcher runs. Only CPU time of this process counts.
"""

import json
import re
import resource
import signal
import sys
import warnings

#: Limit of the process' memory, bytes.
MEMORY = 512 * 1024**2
#: Characters of a line that are searched, and of a capture that are returned.
LINE, CAPTURED = 16 * 1024, 500


def look(regex: str, text: str) -> dict[str, object] | None:
    """Return what the first matching line captured, or None."""
    pattern = re.compile(regex)
    for line in text.split("\n"):
        match = pattern.search(line.rstrip("\r")[:LINE])
        if match:
            return {
                "match": _cut(match.group()),
                "groups": [_cut(group) for group in match.groups()],
                "named": {name: _cut(group) for name, group in match.groupdict().items()},
            }
    return None


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:CAPTURED]


def main() -> None:
    """Reply to one line after the other."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        request = json.loads(line)
        reply: dict[str, object]
        signal.setitimer(signal.ITIMER_PROF, request["cpu_s"])
        try:
            reply = {"found": look(request["regex"], request["text"])}
        except (re.error, RecursionError, OverflowError, MemoryError) as error:
            reply = {"trouble": f"{type(error).__name__}: {error}"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
