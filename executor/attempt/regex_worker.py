"""Looks for a pattern in lines, in a process of its own that can be ended at any time.

Python's matcher holds the interpreter's lock, and a pattern may keep it busy for ever: in the
agent's own process that would cost the machine its heartbeat. It is started as a plain file, so it
imports nothing of Simherd. A line of JSON comes in (`regex`, `text`, `cpu_s`: seconds of a
processor's time for it), a line goes out: `found`, or `trouble`. When that time is up, the process
is ended by a signal, which a busy matcher does not hold up. Time in which others have the processor
does not count.
"""

import json
import re
import resource
import signal
import sys
import warnings

#: Bytes that it may have.
MEMORY = 512 * 1024**2
#: Characters of a line that are looked at, and of what was captured that are told.
LINE, CAPTURED = 16 * 1024, 500


def look(regex: str, text: str) -> dict[str, object] | None:
    """What the first line that matches has captured, or None."""
    pattern = re.compile(regex)
    for line in text.split("\n"):
        found = pattern.search(line.rstrip("\r")[:LINE])
        if found:
            return {
                "match": _cut(found.group()),
                "groups": [_cut(group) for group in found.groups()],
                "named": {name: _cut(group) for name, group in found.groupdict().items()},
            }
    return None


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:CAPTURED]


def main() -> None:
    """Answer one line after the other."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    for request in sys.stdin:
        asked = json.loads(request)
        answer: dict[str, object]
        signal.setitimer(signal.ITIMER_PROF, asked["cpu_s"])
        try:
            answer = {"found": look(asked["regex"], asked["text"])}
        except (re.error, RecursionError, OverflowError, MemoryError) as error:
            answer = {"trouble": f"{type(error).__name__}: {error}"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
