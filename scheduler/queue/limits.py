"""Bounds that more than one module of this room relies on."""

from __future__ import annotations

#: Longest name of an attempt or a machine in Redis, characters.
MAX_REDIS_NAME = 128
#: Seconds by which a machine's clock may be ahead; a report of a later time is refused. Clocks of
#: machines that lost their time server were seen to be off by hours, not by days.
CLOCK_AHEAD_S = 86400.0
