"""Notices of Azure: its scheduled events."""

from __future__ import annotations

import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from executor.spot.http import MetadataClient, refused
from executor.spot.notice import ReclaimNotice, SourceError
from executor.spot.parse import believable, fields_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

_EVENTS_PATH = "/metadata/scheduledevents?api-version=2020-07-01"
_NAME_PATH = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
_HEADERS = {"Metadata": "true"}
#: Of the kinds of events, those after which the machine is gone. Freeze, Reboot and Redeploy
#: give it back.
_GONE = frozenset({"Preempt", "Terminate"})
#: What a machine's name looks like. Azure allows 64 letters, and more in scale sets.
_NAME = r"[\w.-]{1,256}"
_OK = 200


class AzureSource:
    """Asks for the events of the machine's whole set, and heeds those that name the machine.

    The first answer after a machine's start may take two minutes, while Azure switches the events
    on: until then looks fail.
    """

    name = "azure"
    #: Seconds; Azure's documentation of scheduled events recommends it, since Preempt comes 30 s
    #: ahead at best.
    every_s = 1.0

    def __init__(
        self,
        base_url: str = "http://169.254.169.254",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock`: seconds since the epoch."""
        self._asker = MetadataClient(base_url)
        self._clock = clock
        self._vm = ""
        #: Of each event that stands, when the machine goes, as it was last understood.
        self._known: dict[str, float] = {}

    def look(self) -> ReclaimNotice | None:
        """The first event that takes the machine away; see `Source.look`."""
        self._asker.begin()
        # Before it is needed: of a notice of 30 s nothing should depend on a second answer.
        mine = self._own_name()
        told = fields_of(self._get(_EVENTS_PATH))
        events = told.get("Events")
        if not isinstance(events, list):
            raise SourceError("the answer has no Events")
        now = self._clock()
        found = [event for event in events if _takes(event, mine)]
        self._known = {text_of(e, "EventId"): self._reclaim_at(e, now) for e in found}
        return ReclaimNotice(min(self._known.values()), self.name) if self._known else None

    def close(self) -> None:
        """See `Source.close`."""
        self._asker.close()

    def _reclaim_at(self, event: dict[str, Any], now: float) -> float:
        # Without the field it could be any event: only one that says "" or null has begun.
        if "NotBefore" not in event:
            raise SourceError("an event has no NotBefore")
        if event["NotBefore"] in ("", None):
            return min(now, self._known.get(text_of(event, "EventId"), now))
        return believable(_epoch(text_of(event, "NotBefore")), now)

    def _own_name(self) -> str:
        if not self._vm:
            name = self._get(_NAME_PATH).strip()
            if not re.fullmatch(_NAME, name):
                raise SourceError(f"the machine's name is {name[:80]!r}")
            self._vm = name.casefold()
        return self._vm

    def _get(self, path: str) -> str:
        answer = self._asker.get(path, _HEADERS)
        if answer.status_code != _OK:
            raise refused(answer)
        return answer.text


def _takes(event: Any, mine: str) -> bool:
    """Whether an event takes the machine of that name away."""
    if not isinstance(event, dict):
        raise SourceError("an event is no object")
    resources = event.get("Resources")
    if not isinstance(resources, list):
        raise SourceError("an event has no Resources")
    named = any(isinstance(name, str) and name.casefold() == mine for name in resources)
    return text_of(event, "EventType") in _GONE and named


def _epoch(text: str) -> float:
    try:
        at = parsedate_to_datetime(text)
        # Without a zone it would be taken for local time.
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError) as error:
        raise SourceError(f"NotBefore is {text[:80]!r}") from error
