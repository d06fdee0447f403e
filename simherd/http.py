"""The one place that speaks HTTP to the server."""

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
#: Seconds for which requests to a server that has responded before are repeated: it may restart.
PATIENCE_S = 60.0
#: The same for a server that never responded: its address may be wrong.
FIRST_PATIENCE_S = 2.0
#: Between two tries; with jitter so that many clients do not march in step.
_BACKOFF = Backoff(0.1, 2.0, jitter=(0.5, 1.0))
#: Statuses that say "not now": the request was not carried out.
_NOT_NOW = frozenset({502, 503, 504})
_KINDS: dict[int, type[ApiError]] = {401: Unauthorized, 404: NotFound}


class Api:
    """A server's resources as plain JSON. Safe to use from several threads."""

    def __init__(self, connection: Connection, patience_s: float = PATIENCE_S) -> None:
        """Nothing is sent yet. `patience_s`: as `PATIENCE_S`."""
        self.connection = connection
        self._patience_s = patience_s
        self._has_responded = False
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
        """Open a stream of server-sent events; a broken one is not opened again.
        Raises Unreachable: the server did not respond, or the connection broke."""
        given = {k: v for k, v in params.items() if v is not None}
        with self._stream(method, path, json=body, params=given, timeout=EVENTS_TIMEOUT) as reply:
            yield EventStream(reply)

    @contextmanager
    def download(self, path: str, /, **params: Any) -> Iterator[Iterator[bytes]]:
        """Open a download: the bytes of the response, piece by piece.
        Raises Unreachable: the server did not respond, or the connection broke."""
        with self._stream("GET", path, params=params) as response:
            yield response.iter_bytes()

    @contextmanager
    def _stream(self, method: str, path: str, **request: Any) -> Iterator[httpx.Response]:
        try:
            with self._client.stream(method, path, **request) as response:
                self._has_responded = True
                if not response.is_success:
                    response.read()
                    check_response(response, self.connection.key_source)
                yield response
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
        patience = self._patience_s if self._has_responded else FIRST_PATIENCE_S
        give_up_at = time.monotonic() + patience
        for pause in _BACKOFF.waits():
            last = time.monotonic() + pause > give_up_at
            try:
                response = self._client.request(method, path, json=body, params=given)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
                raise SimherdError(
                    f"SIMHERD_API_URL: {self.connection.url!r} is not a usable address: {error}"
                ) from error
            except httpx.TransportError as error:
                never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if last or not (repeatable or never_sent):
                    raise Unreachable(
                        f"The server at {self.connection.url} does not respond: {error}. "
                        "Is it running? `simherd up` starts one."
                    ) from error
            else:
                self._has_responded = True
                if last or not _is_passing(response):
                    return check_response(response, self.connection.key_source)
            time.sleep(pause)


class EventStream:
    """The server-sent events of one response: pairs of name and fields."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        parser = EventParser()
        for line in self._response.iter_lines():
            event = parser.feed(line)
            if event is not None:
                yield event

    def close(self) -> None:
        """End the stream, also while another thread reads: closing alone would not wake it."""
        connection = self._response.extensions["network_stream"].get_extra_info("socket")
        with suppress(OSError):  # it has ended already
            connection.shutdown(socket.SHUT_RDWR)


class EventParser:
    """Turns lines into events; each event has one line of JSON as its data."""

    def __init__(self) -> None:
        self._name, self._data = "", ""

    def feed(self, line: str) -> tuple[str, dict[str, Any]] | None:
        """Take a line; return the event that it completes, else None."""
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


def check_response(response: httpx.Response, key_source: str = "") -> Any:
    """Return the JSON of a response, or raise the ApiError that it stands for.

    Args:
        response: the response, read.
        key_source: where the request's key came from, for the sentence about a key that is refused.
    """
    if response.is_success:
        return response.json() if response.content else None
    try:
        problem = response.json()
        detail, request_id = str(problem["detail"]), problem.get("request_id")
    except (ValueError, KeyError, TypeError):
        detail, request_id = f"The server responded with status {response.status_code}.", None
    if response.status_code == 401 and key_source:
        detail += f" The key came from {key_source}; store another one with `simherd auth login`."
        if key_source == KEY_VARIABLE:
            detail += f" Unset {KEY_VARIABLE} first: it takes precedence over the stored key."
    kind = _KINDS.get(response.status_code, ApiError)
    raise kind(detail, response.status_code, request_id)


def _is_passing(response: httpx.Response) -> bool:
    """Whether the server refused for now, so that the same request may be sent again."""
    too_fast = response.status_code == 429 and "Retry-After" in response.headers
    return too_fast or response.status_code in _NOT_NOW


@functools.lru_cache(maxsize=8)
def _api_of(connection: Connection) -> Api:
    return Api(connection)


def api() -> Api:
    """The configured server. Raises NotConnected: URL or key is not configured."""
    return _api_of(read_connection())
