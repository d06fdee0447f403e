"""The trace of a task: its id follows from the task's, so that nobody has to hand it on."""

from __future__ import annotations

import hashlib


def trace_id(task_id: str) -> str:
    """The id of a task's trace: 32 hexadecimal digits, as W3C Trace Context writes it."""
    return hashlib.sha256(task_id.encode()).hexdigest()[:32]


def span_id(task_id: str, *names: object) -> str:
    """The id of one span of a task's trace, 16 hexadecimal digits: sent again, it is the same."""
    text = "/".join(map(str, (task_id, *names)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
