"""Counting input of machines that the scheduler refuses; each kind is logged once a group."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict

from scheduler.metrics import table
from scheduler.metrics.instruments import inc

log = logging.getLogger(__name__)

#: Groups and kinds of which the process remembers that they were logged.
_REMEMBERED = 10_000
#: Characters of an input that are logged.
_SHOWN = 200


class DroppedInput:
    """Counts and logs; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logged: OrderedDict[tuple[str, str], None] = OrderedDict()

    def count(self, group: str, kind: str, detail: object, *, number: int = 1) -> None:
        """Count inputs that were dropped.

        `group`: the machine group whose machines wrote them; `kind`: their kind: a label of the
        metric, and so a word of this program; `detail`: one of them, or what is wrong with it, for
        the log.
        """
        if number < 1:
            return
        inc(table.INPUTS_DROPPED, kind, by=number)
        with self._lock:
            is_new = (group, kind) not in self._logged
            self._logged[group, kind] = None
            self._logged.move_to_end((group, kind))
            if len(self._logged) > _REMEMBERED:
                self._logged.popitem(last=False)
        if is_new:
            shown = ascii(str(detail)[:_SHOWN])
            log.warning("event=input_dropped group=%s kind=%s detail=%s", group, kind, shown)
