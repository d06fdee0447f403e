"""Joining the group of a ticket, and keeping the secret of the membership.

The secret is made here and stored before it is used, so that neither a crash nor a lost response
costs the membership. See `simherd.contract.join`.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import httpx

from simherd.contract.join import MACHINE_HEADER, ROUTE, SECRET_HEADER, Membership, digest
from simherd.runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Seconds after which a machine changes its secret.
SECRET_S = 86400.0

log = logging.getLogger(__name__)

#: Between two tries while the scheduler is out of reach.
_BACKOFF = Backoff(0.1, 10.0)
#: Statuses for "too slow" and "too many", which occur when many machines boot at once.
_TEMPORARY = frozenset({408, 429})


class JoinRefused(Exception):
    """The scheduler does not let this machine in; the message says why."""


@dataclass(frozen=True)
class JoinTicket:
    """The permission to join: the scheduler's address, and a token that is valid once."""

    api_url: str
    token: str

    @classmethod
    def read(cls, file: Path) -> JoinTicket:
        """Read the ticket from a file. Raises JoinRefused."""
        try:
            raw = json.loads(file.read_text())
            return cls(str(raw["api_url"]).rstrip("/"), str(raw["token"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JoinRefused(f"SIMHERD_TICKET_FILE: {file} is not a ticket: {error}.") from error


class Identity:
    """This machine's membership and secret. May be used from any thread."""

    def __init__(self, file: Path, api_url: str, membership: Membership, secret: str) -> None:
        self._file = file
        self._api_url = api_url
        self.membership = membership
        self.secret = secret
        self._http = httpx.Client(timeout=httpx.Timeout(10, connect=5), trust_env=False)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a request to the scheduler as this machine; return the response's fields.
        Raises httpx.HTTPError: the scheduler is unavailable, or refuses."""
        headers = {MACHINE_HEADER: self.membership.machine_id, SECRET_HEADER: self.secret}
        response = self._http.post(f"{self._api_url}{ROUTE}/{path}", json=body, headers=headers)
        response.raise_for_status()
        return dict(response.json())

    def renew_secret(self) -> None:
        """Replace the secret when it is old.
        Raises httpx.HTTPError: the scheduler is unavailable; the old secret stays valid."""
        kept = json.loads(self._file.read_text())
        if time.time() - kept["secret_at"] < SECRET_S:
            return
        # Stored before it is sent: after a crash in between it is sent again.
        kept.setdefault("next", _new_secret())
        _store(self._file, kept)
        self.post("secret", {"secret_digest": digest(kept["next"])})
        kept |= {"secret": kept.pop("next"), "secret_at": time.time()}
        _store(self._file, kept)
        self.secret = kept["secret"]
        log.info("event=secret_renewed machine=%s", self.membership.machine_id)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def join(ticket_file: Path, state_dir: Path, wait: Callable[[float], object]) -> Identity:
    """Join the ticket's group, or return the membership of an earlier start.

    Args:
        ticket_file: the ticket, which is used once.
        state_dir: the folder that keeps the membership.
        wait: sleeps for so many seconds; may raise to give up.

    Raises:
        JoinRefused: the scheduler does not let this machine in.
    """
    ticket = JoinTicket.read(ticket_file)
    file = state_dir / "identity.json"
    kept = _kept(file)
    if kept is None or kept["ticket"] != digest(ticket.token):
        kept = {
            "ticket": digest(ticket.token),
            "secret": _new_secret(),
            "secret_at": time.time(),
            "membership": None,
        }
        _store(file, kept)
    if kept["membership"] is None:
        response = _request(ticket, kept["secret"], wait)
        kept["membership"] = asdict(Membership.decode(response.content))
        _store(file, kept)
    membership = Membership.decode(json.dumps(kept["membership"]))
    log.info("event=joined group=%s machine=%s", membership.group_id, membership.machine_id)
    return Identity(file, ticket.api_url, membership, kept["secret"])


def _request(ticket: JoinTicket, secret: str, wait: Callable[[float], object]) -> httpx.Response:
    body = {"token": ticket.token, "secret_digest": digest(secret)}
    for pause in _BACKOFF.waits():
        try:
            response = httpx.post(
                f"{ticket.api_url}{ROUTE}/join", json=body, timeout=10, trust_env=False
            )
            if response.is_success:
                return response
            reason = response.text[:300]
            if response.is_client_error and response.status_code not in _TEMPORARY:
                raise JoinRefused(f"{ticket.api_url} does not let this machine join: {reason}")
        except httpx.TransportError as error:
            reason = str(error)
        log.warning("event=join_waits api=%s error=%s", ticket.api_url, reason)
        wait(pause)
    raise AssertionError("unreachable")


def _new_secret() -> str:
    return secrets.token_urlsafe(32)


def _kept(file: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError):
        return None


def _store(file: Path, kept: dict[str, Any]) -> None:
    new = file.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(kept, out)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)
