"""Notices of Google Compute Engine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from executor.spot.http import MetadataClient, refused
from executor.spot.notice import ReclaimNotice, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = "/computeMetadata/v1/instance/preempted"
_FLAVOR = "Metadata-Flavor"
#: Seconds from the ACPI signal, with which the value becomes TRUE, until a Spot machine is
#: switched off (Compute Engine, "Spot VMs").
_NOTICE_S = 30.0
_OK = 200


class GcpSource:
    """Asks whether the machine was preempted; when that was, nobody says."""

    name = "gcp"
    #: Seconds; of a notice of 30 s a look must not cost much.
    every_s = 1.0

    def __init__(
        self,
        # The address of metadata.google.internal: a name server that hangs holds no look.
        base_url: str = "http://169.254.169.254",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock`: seconds since the epoch."""
        self._asker = MetadataClient(base_url)
        self._clock = clock
        self._first_seen: float | None = None

    def look(self) -> ReclaimNotice | None:
        """TRUE is a notice of 30 s from when it was first seen; see `Source.look`."""
        self._asker.begin()
        answer = self._asker.get(_PATH, {_FLAVOR: "Google"})
        if answer.status_code != _OK:
            raise refused(answer)
        # So Google's server is told from whatever else may answer at that address.
        if answer.headers.get(_FLAVOR) != "Google":
            raise SourceError(f"the answer has no header {_FLAVOR}: Google")
        preempted = answer.text.strip()
        if preempted == "FALSE":
            self._first_seen = None
            return None
        if preempted != "TRUE":
            raise SourceError(f"preempted is {preempted[:80]!r}")
        if self._first_seen is None:
            self._first_seen = self._clock()
        return ReclaimNotice(self._first_seen + _NOTICE_S, self.name)

    def close(self) -> None:
        """See `Source.close`."""
        self._asker.close()
