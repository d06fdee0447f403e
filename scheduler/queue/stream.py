"""Reading the event streams, and saying what was recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from simherd.contract.queue.keys import GROUPS_CHANGED, GroupKeys

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

#: Entries read from one stream at a time.
BATCH = 500
#: Seconds from the first report to the reading of all: an attempt's reports come in bursts, and
#: a transaction for each would cost several times the work.
_GATHER_S = 0.01


class EventStreams:
    """The event streams of all machine groups."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        # From the beginning: what was announced before the first read would else be missed.
        self._changed = "0-0"

    def read(
        self, cursors: Mapping[str, str], wait_s: float
    ) -> tuple[dict[str, list[tuple[str, str]]], bool]:
        """Wait for reports.

        Args:
            cursors: group → the entry after which to read.
            wait_s: how long to wait for one, seconds.

        Returns:
            Group → (entry id, event text) in order; and whether the set of groups changed.
        """
        names = {GroupKeys(g).events: g for g in cursors}
        streams: dict[Any, Any] = {key: cursors[g] for key, g in names.items()}
        streams[GROUPS_CHANGED] = self._changed
        found: Any = self._client.xread(streams, count=BATCH, block=int(wait_s * 1000)) or []
        if found:
            time.sleep(_GATHER_S)
            found = self._client.xread(streams, count=BATCH)
        if isinstance(found, dict):
            found = [(k, v[0] if v and isinstance(v[0], list) else v) for k, v in found.items()]
        reports: dict[str, list[tuple[str, str]]] = {}
        changed = False
        for key, entries in found:
            if key == GROUPS_CHANGED:
                self._changed, changed = entries[-1][0], True
            else:
                reports[names[key]] = [(i, fields.get("e", "")) for i, fields in entries]
        return reports, changed

    def acknowledge(self, group: str, recorded: Mapping[str, int], upto: str) -> None:
        """Say what stands in SQL, and drop the entries up to `upto` from the stream."""
        keys = GroupKeys(group)
        pipe = self._client.pipeline(transaction=False)
        if recorded:
            pipe.hset(keys.recorded, mapping={k: str(n) for k, n in recorded.items()})
        pipe.xtrim(keys.events, minid=_after(upto), approximate=True)
        pipe.execute()


def _after(entry: str) -> str:
    ms, _, number = entry.partition("-")
    return f"{ms}-{int(number) + 1}"
