"""Notices of Google Compute Engine."""

from __future__ import annotations

from executor.spot.http import MetadataSource, check_ok
from executor.spot.notice import ReclaimNotice, SourceError

_PATH = "/computeMetadata/v1/instance/preempted"
_FLAVOR = "Metadata-Flavor"
#: Seconds from the ACPI signal, with which the value becomes TRUE, until a Spot machine is
#: switched off (Compute Engine, "Spot VMs").
_NOTICE_S = 30.0


class GcpSource(MetadataSource):
    """The flag that this machine was preempted; the service does not say when."""

    name = "gcp"
    #: Seconds; short, since a notice comes 30 s ahead.
    every_s = 1.0
    _first_seen: float | None = None

    def poll(self) -> ReclaimNotice | None:
        """Treat TRUE as a notice of 30 s from when it was first seen; see `NoticeSource.poll`."""
        self.begin()
        response = self.request("GET", _PATH, {_FLAVOR: "Google"})
        check_ok(response)
        # Google's server sends the header; another one at that address does not.
        if response.headers.get(_FLAVOR) != "Google":
            raise SourceError(f"the answer has no header {_FLAVOR}: Google")
        preempted = response.text.strip()
        if preempted == "FALSE":
            self._first_seen = None
            return None
        if preempted != "TRUE":
            raise SourceError(f"preempted is {preempted[:80]!r}")
        if self._first_seen is None:
            self._first_seen = self._clock()
        return ReclaimNotice(self._first_seen + _NOTICE_S, self.name)
