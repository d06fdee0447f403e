"""The one place that speaks HTTP with the server."""

from __future__ import annotations

import functools
import json
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx

from simherd.config import KEY_VARIABLE, Connection, read_connection
from simherd.errors import ApiError, NotFound, SimherdError, Unauthorized, Unreachable
from simherd.runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Without a sign of life for so long (the server gives one every 15 seconds) a connection is dead.
EVENTS_TIMEOUT = httpx.Timeout(45, connect=10)
#: Seconds for which a server that has answered before is asked again: it may be restarting.
PATIENCE_S = 60.0
#: The same for a server that never has: its address may be wrong.
FIRST_PATIENCE_S = 2.0
#: Between two tries; with jitter so that many clients do not march in step.
_BACKOFF = Backoff(0.1, 2.0, jitter=(0.5, 1.0))
#: Answers that say "not now"; what was asked was not done.
_NOT_NOW = frozenset({502, 503, 504})
_KINDS: dict[int, type[ApiError]] = {401: Unauthorized, 404: NotFound}


class Api:
    """A server's resources as plain JSON. Safe to use from several threads."""

    def __init__(self, connection: Connection, patience_s: float = PATIENCE_S) -> None:
        """Nothing is sent yet. `patience_s`: as `PATIENCE_S`."""
        self.connection = connection
        self._patience_s = patience_s
        self._has_answered = False
        try:
            self._client = httpx.Client(
                base_url=connection.url,
                headers={"X-API-Key": connection.key},
                timeout=httpx.Timeout(60, connect=10),
            )
        except (ValueError, httpx.InvalidURL) as error:
            raise SimherdError(f"SIMHERD_API_URL or key is not usable: {error}") from error

    def get(self, path: str, /, **params: Any) -> Any:
        """GET, retried. Parameters that are None are left out; lists are repeated."""
        return self._ask("GET", path, params=params)

    def post(
        self, path: str, /, body: Any = None, *, repeatable: bool = False, **params: Any
    ) -> Any:
        """POST; sent again only if `repeatable`, or where the server cannot have acted on it."""
        return self._ask("POST", path, body, params, repeatable=repeatable)

    def put(self, path: str, body: Any, /, **params: Any) -> Any:
        """PUT, retried."""
        return self._ask("PUT", path, body, params)

    def delete(self, path: str, /, **params: Any) -> Any:
        """DELETE, retried."""
        return self._ask("DELETE", path, params=params)

    @contextmanager
    def events(
        self, method: str, path: str, body: Any = None, **params: Any
    ) -> Iterator[EventStream]:
        """What the server says in an answer that goes on; it is not asked again by itself.

        Raises:
            Unreachable: it did not begin to answer, or the connection broke.
        """
        given = {k: v for k, v in params.items() if v is not None}
        try:
            with self._client.stream(
                method, path, json=body, params=given, timeout=EVENTS_TIMEOUT
            ) as answer:
                self._has_answered = True
                if not answer.is_success:
                    answer.read()
                    check_answer(answer, self.connection.key_source)
                yield EventStream(answer)
        except httpx.HTTPError as error:
            raise Unreachable(f"The connection to {self.connection.url} broke: {error}") from error

    @contextmanager
    def download(self, path: str, /, **params: Any) -> Iterator[Iterator[bytes]]:
        """The bytes of an answer, piece by piece.

        Raises:
            Unreachable: it did not come, or not whole.
        """
        try:
            with self._client.stream("GET", path, params=params) as answer:
                if not answer.is_success:
                    answer.read()
                    check_answer(answer, self.connection.key_source)
                yield answer.iter_bytes()
        except httpx.HTTPError as error:
            raise Unreachable(f"The connection to {self.connection.url} broke: {error}") from error

    def _ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: dict[str, Any] | None = None,
        *,
        repeatable: bool = True,
    ) -> Any:
        given = {k: v for k, v in (params or {}).items() if v is not None}
        patience = self._patience_s if self._has_answered else FIRST_PATIENCE_S
        give_up_at = time.monotonic() + patience
        for pause in _BACKOFF.waits():
            last = time.monotonic() + pause > give_up_at
            try:
                answer = self._client.request(method, path, json=body, params=given)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
                raise SimherdError(
                    f"SIMHERD_API_URL: {self.connection.url!r} is no usable address: {error}"
                ) from error
            except httpx.TransportError as error:
                never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if last or not (repeatable or never_sent):
                    raise Unreachable(
                        f"The server at {self.connection.url} does not answer: {error}. "
                        "Is it running? `simherd up` starts one."
                    ) from error
            else:
                self._has_answered = True
                if last or not _is_passing(answer):
                    return check_answer(answer, self.connection.key_source)
            time.sleep(pause)


class EventStream:
    """Server-sent events of one answer: pairs of name and fields."""

    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        parser = EventParser()
        for line in self._answer.iter_lines():
            event = parser.feed(line)
            if event is not None:
                yield event

    def close(self) -> None:
        """End it, also while another thread reads: closing alone would not wake that one."""
        connection = self._answer.extensions["network_stream"].get_extra_info("socket")
        with suppress(OSError):  # it has ended by itself
            connection.shutdown(socket.SHUT_RDWR)


class EventParser:
    """Lines to events; each has one line of JSON as its data."""

    def __init__(self) -> None:
        self._name, self._data = "", ""

    def feed(self, line: str) -> tuple[str, dict[str, Any]] | None:
        """Take a line; answers the event that it ends."""
        field, _, value = line.partition(": ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data = value
        elif not line and self._name:
            event = self._name, json.loads(self._data)
            self._name, self._data = "", ""
            return event
        return None


def check_answer(answer: httpx.Response, key_source: str = "") -> Any:
    """What the server answered. Raises ApiError where it refused.

    Args:
        answer: the response, read.
        key_source: where the request's key came from, for the sentence about a key that is refused.
    """
    if answer.is_success:
        return answer.json() if answer.content else None
    try:
        problem = answer.json()
        detail, request_id = str(problem["detail"]), problem.get("request_id")
    except (ValueError, KeyError, TypeError):
        detail, request_id = f"The server answered {answer.status_code}.", None
    if answer.status_code == 401 and key_source:
        detail += f" The key came from {key_source}; `simherd auth login` stores another."
        if key_source == KEY_VARIABLE:
            detail += f" Unset {KEY_VARIABLE} then: it goes before what is stored."
    kind = _KINDS.get(answer.status_code, ApiError)
    raise kind(detail, answer.status_code, request_id)


def _is_passing(answer: httpx.Response) -> bool:
    """Whether the server refused for now, and the same request may be sent again."""
    too_fast = answer.status_code == 429 and "Retry-After" in answer.headers
    return too_fast or answer.status_code in _NOT_NOW


@functools.lru_cache(maxsize=8)
def _api_of(connection: Connection) -> Api:
    return Api(connection)


def api() -> Api:
    """The configured server.

    Raises:
        NotConnected: URL or key is not configured.
    """
    return _api_of(read_connection())
