"""Notices of Amazon EC2, from the instance metadata service in version 2."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from executor.spot.http import MetadataSource, check_ok
from executor.spot.notice import ReclaimNotice, SourceError
from executor.spot.parse import believable, fields_of, text_of

if TYPE_CHECKING:
    import httpx

_TOKEN_PATH = "/latest/api/token"
_ACTION_PATH = "/latest/meta-data/spot/instance-action"
_REBALANCE_PATH = "/latest/meta-data/events/recommendations/rebalance"
_TOKEN_HEADER = "X-aws-ec2-metadata-token"
_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
#: Seconds that a token shall be valid: the longest that EC2 gives (EC2 user guide, IMDSv2).
_TTL_S = 21_600
#: Seconds before its end at which a token is renewed, as the AWS node termination handler does.
_RENEW_BEFORE_S = 15.0
_ACTIONS = frozenset({"terminate", "stop", "hibernate"})
_OK, _UNAUTHORIZED, _NONE = 200, 401, 404


class AwsSource(MetadataSource):
    """The spot action of this machine, always read with a token: there is no fallback to
    version 1 of the service."""

    name = "aws"
    #: Seconds; the EC2 user guide recommends it for the notice, which comes 120 s ahead.
    every_s = 5.0
    #: Whether EC2 recommends to leave this machine: an early hint, often without a notice after it.
    at_risk = False
    _token = ""
    _renew_at = 0.0
    #: When hibernation was first announced: it begins at once, whatever time is given.
    _hibernates: float | None = None

    def poll(self) -> ReclaimNotice | None:
        """Return what `instance-action` says; see `NoticeSource.poll`."""
        self.begin()
        response = self._get(_ACTION_PATH)
        if response.status_code == _NONE:
            self._hibernates = None
            self._read_recommendation()
            return None
        check_ok(response)
        return ReclaimNotice(believable(self._reclaim_at(response.text), self._clock()), self.name)

    def _reclaim_at(self, text: str) -> float:
        fields = fields_of(text)
        action = text_of(fields, "action")
        if action not in _ACTIONS:
            raise SourceError(f"the action is {action[:80]!r}, which is none of EC2's")
        at = _epoch(text_of(fields, "time"))
        if action != "hibernate":
            return at
        if self._hibernates is None:
            self._hibernates = self._clock()
        return min(at, self._hibernates)

    def _read_recommendation(self) -> None:
        try:
            response = self._get(_REBALANCE_PATH)
            if response.status_code == _OK:
                text_of(fields_of(response.text), "noticeTime")
                self.at_risk = True
            elif response.status_code == _NONE:
                self.at_risk = False
        except SourceError:
            # The notice itself was read: nothing is lost without the hint.
            return

    def _get(self, path: str) -> httpx.Response:
        response = self.request("GET", path, self._token_header())
        if response.status_code == _UNAUTHORIZED:
            # The service has lost the token, as after the machine was moved or its clock was set.
            self._token = ""
            response = self.request("GET", path, self._token_header())
        return response

    def _token_header(self) -> dict[str, str]:
        now = self._clock()
        if not self._token or now >= self._renew_at:
            response = self.request("PUT", _TOKEN_PATH, {_TTL_HEADER: str(_TTL_S)})
            check_ok(response)
            if not re.fullmatch(r"[A-Za-z0-9+/=_.-]{1,1024}", response.text):
                raise SourceError("the token is not one")
            self._token = response.text
            ttl = response.headers.get(_TTL_HEADER, "")
            ttl_s = int(ttl) if re.fullmatch(r"[0-9]{1,6}", ttl) else _TTL_S
            self._renew_at = now + ttl_s - min(_RENEW_BEFORE_S, ttl_s / 2)
        return {_TOKEN_HEADER: self._token}


def _epoch(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise SourceError(f"the time is {text[:80]!r}") from error
