"""Bounds that more than one module of this room relies on."""

from __future__ import annotations

#: Seconds an idle executor waits on the bell before it looks at the queue all the same.
BELL_WAIT_S = 20
