"""Waiting for reports of executors, and acknowledging those that were recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis

from simherd.contract.queue import scripts
from simherd.contract.queue.keys import GROUPS_CHANGED, GroupKeys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scheduler.queue.group_reader import GroupReader, StreamEntry

#: Seconds from the first report to the reading of all: an attempt's reports come in bursts, and
#: a transaction for each would cost several times the work.
_GATHER_S = 0.01


@dataclass(frozen=True)
class NewReports:
    """The result of a wait for reports."""

    #: Group → its reports, in order.
    reports: dict[str, list[StreamEntry]]
    #: Group → why its stream cannot be read.
    broken: Mapping[str, str] = field(default_factory=dict)
    #: Whether the set of groups changed.
    is_changed: bool = False


class ReportStreams:
    """The report streams of the machine groups of one Redis server."""

    def __init__(self, client: redis.Redis, reader: GroupReader) -> None:
        self._client = client
        self._reader = reader
        self._acknowledge = client.register_script(scripts.source("acknowledge"))
        # From the beginning: an announcement before the first read must not be missed.
        self._changed = "0-0"

    def read(self, cursors: Mapping[str, str], wait_s: float) -> NewReports:
        """Wait for reports, and read them.

        `cursors`: group → the entry after which to read; `wait_s`: how long to wait for one,
        seconds.
        """
        names = {GroupKeys(g).events: g for g in cursors}
        streams: dict[Any, Any] = {key: cursors[g] for key, g in names.items()}
        streams[GROUPS_CHANGED] = self._changed
        try:
            # One entry of each stream shows which have some: machines choose their length.
            ready_streams: Any = (
                self._client.xread(streams, count=1, block=int(wait_s * 1000)) or []
            )
        except redis.ResponseError as error:
            broken = self._broken(names) if "WRONGTYPE" in str(error) else {}
            if not broken:
                raise
            return NewReports({}, broken=broken)
        if isinstance(ready_streams, dict):
            ready_streams = [
                (k, v[0] if v and isinstance(v[0], list) else v) for k, v in ready_streams.items()
            ]
        is_changed, ready = False, {}
        for key, entries in ready_streams:
            if key == GROUPS_CHANGED:
                self._changed, is_changed = entries[-1][0], True
            else:
                ready[names[key]] = cursors[names[key]]
        if ready:
            time.sleep(_GATHER_S)
        return NewReports(*self._reader.reports(self._client, ready), is_changed)

    def _broken(self, names: Mapping[str, str]) -> dict[str, str]:
        """Return the groups whose stream has another type, and a sentence that says so."""
        pipe = self._client.pipeline(transaction=False)
        for key in names:
            pipe.type(key)
        kinds = zip(names.values(), pipe.execute() if names else [], strict=True)
        return {
            group: f"events: it is a {kind} where a stream belongs"
            for group, kind in kinds
            if kind not in ("stream", "none")
        }

    def acknowledge(self, group: str, recorded: Mapping[str, int], upto: str) -> None:
        """Record which reports are in SQL, and drop the entries up to `upto` from the stream."""
        keys = GroupKeys(group)
        words = [word for pair in recorded.items() for word in pair]
        self._acknowledge(
            keys=[keys.nothing, keys.recorded, keys.events], args=[_after(upto), *words]
        )


def _after(entry: str) -> str:
    ms, _, number = entry.partition("-")
    return f"{ms}-{int(number) + 1}"
