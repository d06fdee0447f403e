"""One turn of a transfer: how long it may take, and its temporary errors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from scheduler.net.ssrf_guard import networks, open_client
from scheduler.services.errors import Invalid

if TYPE_CHECKING:
    import httpx

    from scheduler.config import Settings
    from scheduler.store.models import TransferRow

#: Seconds after which a turn begins no further part: others wait for theirs.
_TURN_S = 20.0
#: Seconds that a part may take.
PART_S = 60.0
#: Seconds after which a turn's connections are cut, however slowly something still comes: less
#: than a job may take.
_WHOLE_S = _TURN_S + PART_S
#: Longest ETag that is kept, characters: there is one for each part, and the other server
#: chooses it.
MOST_ETAG = 256
#: Statuses of temporary errors, besides those from 500 on.
_NOT_NOW = frozenset({408, 425, 429})


class Again(Exception):
    """A temporary error: the next turn may succeed. The message is for people."""


class Turn:
    """A claim to move some parts of a transfer, and what it changes in `row`."""

    def __init__(self, row: TransferRow) -> None:
        """The turn begins now. `row` belongs to no session; the caller commits its changes."""
        self.row = row
        self._begun = self._part_begun = time.monotonic()

    def client(self, settings: Settings) -> httpx.Client:
        """Return a client whose requests time out when the turn must be over."""
        return open_client(networks(settings.outbound_allow), whole_s=_WHOLE_S)

    def goes_on(self) -> bool:
        """Return whether there is time for another part, which then begins."""
        self._part_begun = time.monotonic()
        return self._part_begun - self._begun < _TURN_S

    def check(self) -> None:
        """Raises Again where the part takes too long."""
        if time.monotonic() - self._part_begun > PART_S:
            raise Again(f"The other server is too slow: a part was not through in {PART_S:.0f} s.")


def check_response(response: httpx.Response, field: str) -> None:
    """Check the other server's response to a request for the URL in `field`.

    Raises:
        Again: it may accept the request later.
        Invalid: it refuses.
    """
    if response.is_success:
        return
    if response.status_code >= 500 or response.status_code in _NOT_NOW:
        raise Again(f"{field}: the other server returned {response.status_code}.")
    raise Invalid(f"{field}: the other server returned {response.status_code}; check the URL.")
