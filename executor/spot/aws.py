"""Notices of Amazon EC2, from the instance metadata service in version 2."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from executor.spot.http import MetadataClient, refused
from executor.spot.notice import ReclaimNotice, SourceError
from executor.spot.parse import believable, fields_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

_TOKEN_PATH = "/latest/api/token"
_ACTION_PATH = "/latest/meta-data/spot/instance-action"
_REBALANCE_PATH = "/latest/meta-data/events/recommendations/rebalance"
_TOKEN_HEADER = "X-aws-ec2-metadata-token"
_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
#: Seconds that a token is asked for: the most there is (EC2 user guide, IMDSv2).
_TTL_S = 21_600
#: Seconds before its end at which a token is renewed, as the AWS node termination handler does.
_RENEW_BEFORE_S = 15.0
_ACTIONS = frozenset({"terminate", "stop", "hibernate"})
_OK, _UNAUTHORIZED, _NONE = 200, 401, 404


class AwsSource:
    """Asks with a token and never without: version 1 of the service is not fallen back to."""

    name = "aws"
    #: Seconds; the EC2 user guide recommends it for the notice, which comes 120 s ahead.
    every_s = 5.0

    def __init__(
        self,
        base_url: str = "http://169.254.169.254",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock`: seconds since the epoch."""
        self._asker = MetadataClient(base_url)
        self._clock = clock
        self._token = ""
        self._renew_at = 0.0
        self._at_risk = False
        #: When hibernation was first told of: it begins at once, whatever time is said.
        self._hibernates: float | None = None

    @property
    def at_risk(self) -> bool:
        """EC2 recommends to leave this machine. An early hint, often without a notice after it."""
        return self._at_risk

    def look(self) -> ReclaimNotice | None:
        """What `instance-action` says; see `Source.look`."""
        self._asker.begin()
        answer = self._get(_ACTION_PATH)
        if answer.status_code == _NONE:
            self._hibernates = None
            self._look_ahead()
            return None
        if answer.status_code != _OK:
            raise refused(answer)
        return ReclaimNotice(believable(self._reclaim_at(answer.text), self._clock()), self.name)

    def close(self) -> None:
        """See `Source.close`."""
        self._asker.close()

    def _reclaim_at(self, text: str) -> float:
        told = fields_of(text)
        action = text_of(told, "action")
        if action not in _ACTIONS:
            raise SourceError(f"the action is {action[:80]!r}, which is none of EC2's")
        at = _epoch(text_of(told, "time"))
        if action != "hibernate":
            return at
        if self._hibernates is None:
            self._hibernates = self._clock()
        return min(at, self._hibernates)

    def _look_ahead(self) -> None:
        try:
            answer = self._get(_REBALANCE_PATH)
            if answer.status_code == _OK:
                text_of(fields_of(answer.text), "noticeTime")
                self._at_risk = True
            elif answer.status_code == _NONE:
                self._at_risk = False
        except SourceError:
            # The notice itself was asked for with success: without the hint nothing is lost.
            return

    def _get(self, path: str) -> httpx.Response:
        answer = self._asker.get(path, self._token_header())
        if answer.status_code == _UNAUTHORIZED:
            # The service knows it no more, as after the machine was moved or its clock was set.
            self._token = ""
            answer = self._asker.get(path, self._token_header())
        return answer

    def _token_header(self) -> dict[str, str]:
        now = self._clock()
        if not self._token or now >= self._renew_at:
            answer = self._asker.ask("PUT", _TOKEN_PATH, {_TTL_HEADER: str(_TTL_S)})
            if answer.status_code != _OK:
                raise refused(answer)
            if not re.fullmatch(r"[A-Za-z0-9+/=_.-]{1,1024}", answer.text):
                raise SourceError("the token is none")
            self._token = answer.text
            given = answer.headers.get(_TTL_HEADER, "")
            ttl_s = int(given) if re.fullmatch(r"[0-9]{1,6}", given) else _TTL_S
            self._renew_at = now + ttl_s - min(_RENEW_BEFORE_S, ttl_s / 2)
        return {_TOKEN_HEADER: self._token}


def _epoch(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise SourceError(f"the time is {text[:80]!r}") from error
