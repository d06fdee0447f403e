"""Notices of Azure: its scheduled events."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from executor.spot.http import MetadataSource, check_ok
from executor.spot.notice import ReclaimNotice, SourceError
from executor.spot.parse import believable, fields_of, text_of

_EVENTS_PATH = "/metadata/scheduledevents?api-version=2020-07-01"
_NAME_PATH = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
_HEADERS = {"Metadata": "true"}
#: The kinds of events after which the machine is gone. Freeze, Reboot and Redeploy give it back.
_GONE = frozenset({"Preempt", "Terminate"})
#: What a machine's name looks like. Azure allows 64 letters, and more in scale sets.
_NAME = r"[\w.-]{1,256}"


class AzureSource(MetadataSource):
    """The events of the machine's whole set, of which those that name the machine count.

    The first response after a machine's start may take two minutes, while Azure switches the
    events on: until then polls fail.
    """

    name = "azure"
    #: Seconds; Azure's documentation of scheduled events recommends it, since Preempt comes 30 s
    #: ahead at best.
    every_s = 1.0
    _vm = ""
    #: When the machine goes, by the id of each event that stands, as it was last understood.
    _gone_at: dict[str, float] = {}  # noqa: RUF012 - replaced as a whole, never changed

    def poll(self) -> ReclaimNotice | None:
        """Return the first event that takes the machine away; see `NoticeSource.poll`."""
        self.begin()
        # Before it is needed: a notice of 30 s must not depend on a second response.
        vm = self._own_name()
        events = fields_of(self._get(_EVENTS_PATH)).get("Events")
        if not isinstance(events, list):
            raise SourceError("the answer has no Events")
        now = self._clock()
        ending = [event for event in events if _takes(event, vm)]
        self._gone_at = {text_of(e, "EventId"): self._reclaim_at(e, now) for e in ending}
        return ReclaimNotice(min(self._gone_at.values()), self.name) if self._gone_at else None

    def _reclaim_at(self, event: dict[str, Any], now: float) -> float:
        # Without the field it could be any event: only one that says "" or null has begun.
        if "NotBefore" not in event:
            raise SourceError("an event has no NotBefore")
        if event["NotBefore"] in ("", None):
            return min(now, self._gone_at.get(text_of(event, "EventId"), now))
        return believable(_epoch(text_of(event, "NotBefore")), now)

    def _own_name(self) -> str:
        if not self._vm:
            name = self._get(_NAME_PATH).strip()
            if not re.fullmatch(_NAME, name):
                raise SourceError(f"the machine's name is {name[:80]!r}")
            self._vm = name.casefold()
        return self._vm

    def _get(self, path: str) -> str:
        response = self.request("GET", path, _HEADERS)
        check_ok(response)
        return response.text


def _takes(event: Any, vm: str) -> bool:
    """Return whether an event takes the machine of that name away."""
    if not isinstance(event, dict):
        raise SourceError("an event is not an object")
    resources = event.get("Resources")
    if not isinstance(resources, list):
        raise SourceError("an event has no Resources")
    is_named = any(isinstance(name, str) and name.casefold() == vm for name in resources)
    return text_of(event, "EventType") in _GONE and is_named


def _epoch(text: str) -> float:
    try:
        at = parsedate_to_datetime(text)
        # Without a zone it would be taken for local time.
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError) as error:
        raise SourceError(f"NotBefore is {text[:80]!r}") from error
