"""What can go wrong, as one tree.

    SimherdError
    ├── InvalidInput     an argument, before anything was sent (also a ValueError)
    ├── NotConnected     no server or no key is configured
    ├── Unreachable      the server does not respond
    ├── WaitTimeout      what was waited for did not happen in time (also a TimeoutError)
    ├── TransferError    a file could not be uploaded, downloaded or unpacked
    └── ApiError         the server refused; `status` and `request_id` say more
        ├── Unauthorized   401
        └── NotFound       404

A task that fails raises nothing: its status says so.
"""

from __future__ import annotations

from simherd.visible import visible, visible_line


class SimherdError(Exception):
    """Every error that Simherd's client raises on purpose. The message is for people."""

    def __str__(self) -> str:
        # Tracebacks print it, and a server's sentence may contain a name that somebody chose.
        return visible(super().__str__())


class InvalidInput(SimherdError, ValueError):
    """An argument is not usable; the message starts with its name."""


class NotConnected(SimherdError):
    """There is no server URL or no API key."""


class Unreachable(SimherdError):
    """The server could not be reached, after retries."""


class WaitTimeout(SimherdError, TimeoutError):
    """Some tasks have not ended in time.

    Attributes:
        task_ids: which.
    """

    def __init__(self, message: str, task_ids: list[str]) -> None:
        super().__init__(message)
        self.task_ids = task_ids


class TransferError(SimherdError):
    """A file could not be moved whole."""


class ApiError(SimherdError):
    """The server refused a request.

    Attributes:
        status: the HTTP status code.
        request_id: finds the request in the server's log.
    """

    def __init__(self, detail: str, status: int, request_id: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.request_id = request_id

    def __str__(self) -> str:
        # One sentence: a line feed in it is part of a name.
        return visible_line(super().__str__())


class Unauthorized(ApiError):
    """The API key is missing or not known to the server."""


class NotFound(ApiError):
    """There is no such thing, or it belongs to somebody else."""
